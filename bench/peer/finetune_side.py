"""Training by one trainer in a process of its own, with its processor time and peak memory.

    python -m bench.peer.finetune_side SIDE WORK

WORK holds base/ (the model) and samples.json; the adapter is written to WORK/SIDE, and the usage is printed as JSON.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.finetune import BATCH, RANK, RATE, SEED, Side, Usage, read_samples
from ragtide.pipelines.models.weights import has_native_bfloat16
from ragtide.pipelines.ports import Advance, TrainingSample

# bfloat16 is TRL's own default; where the CPU only emulates it, the tuned settings turn it off. A packed row holds
# about as many samples as a batch of Ragtide's trainer.
TUNED = {"bf16": has_native_bfloat16("cpu"), "gradient_checkpointing": False}
TRL: dict[Side, dict[str, Any]] = {
    Side.TRL_DEFAULT: {},
    Side.TRL_TUNED: {**TUNED, "train_sampling_strategy": "group_by_length"},
    Side.TRL_PACKED: {**TUNED, "packing": True, "max_length": 2048, "per_device_train_batch_size": 1},
}


def main() -> None:
    """Train as the command line says, and print the usage."""
    # One core for every trainer: the product takes as many threads as it may use.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    side, work = Side(sys.argv[1]), Path(sys.argv[2])
    samples = read_samples(work)[0][: side.samples]
    if side is Side.RAGTIDE:
        usage = train_with_ragtide(samples, work, work / side)
    else:
        usage = train_with_trl(TRL[side], samples, work, work / side)
    print(usage.model_dump_json())


def train_with_ragtide(samples: Sequence[TrainingSample], work: Path, folder: Path) -> Usage:
    """Train with the product's own trainer; only its loop is timed."""
    from ragtide.pipelines.models.lora import LoraTrainer
    from ragtide.pipelines.params import FinetuneParams, GenerateParams

    seconds = 0.0

    @contextmanager
    def timed(_label: str, _total: int) -> Iterator[Advance]:
        nonlocal seconds
        started = time.process_time()
        yield lambda _: None
        seconds = time.process_time() - started

    params = FinetuneParams(rank=RANK, learning_rate=RATE, batch_size=BATCH, min_steps=1, held_out_share=0, seed=SEED)
    LoraTrainer(params, GenerateParams(model=str(work / "base"))).train(samples, folder, timed)
    return _usage(seconds)


def train_with_trl(settings: dict[str, Any], samples: Sequence[TrainingSample], work: Path, folder: Path) -> Usage:
    """Train TRL's SFTTrainer on the same prompts and answers, with the same LoRA; only `train` is timed."""
    import datasets
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from ragtide.pipelines.models.generator import render_prompt

    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    prompts = [render_prompt(tokenizer, sample.prompt) for sample in samples]
    completions = [sample.completion for sample in samples]
    config = SFTConfig(
        output_dir=str(work / "trl"),
        learning_rate=RATE,
        num_train_epochs=1,
        warmup_steps=0.05,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        seed=SEED,
        **{"per_device_train_batch_size": BATCH, **settings},
    )
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(work / "base", dtype="float32"),
        args=config,
        train_dataset=datasets.Dataset.from_dict({"prompt": prompts, "completion": completions}),
        processing_class=tokenizer,
        peft_config=lora,
    )
    started = time.process_time()
    trainer.train()
    seconds = time.process_time() - started
    trainer.save_model(str(folder))
    return _usage(seconds)


def _usage(seconds: float) -> Usage:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Usage(cpu_seconds=round(seconds, 2), peak_rss_mb=round(peak))


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    main()
