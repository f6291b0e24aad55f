"""How fast does one side train, in how much memory? One process a side, so that neither warms or swells the other.

    python -m bench.peer.finetune_side SIDE WORK

WORK holds base/ (the model) and lessons.json; the adapter is written to WORK/SIDE, and what it took is printed as JSON.
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

from bench.finetune import BATCH, RANK, RATE, SEED, Side, Took, read_lessons
from ragtide.pipelines.models.weights import has_native_bfloat16
from ragtide.pipelines.ports import Advance, TrainingSample

# bfloat16 is TRL's own choice; where the CPU only emulates it, whoever tunes turns it off. A packed row holds about as
# many lessons as a batch of ours.
TUNED = {"bf16": has_native_bfloat16("cpu"), "gradient_checkpointing": False}
TRL: dict[Side, dict[str, Any]] = {
    Side.TRL_DEFAULT: {},
    Side.TRL_TUNED: {**TUNED, "train_sampling_strategy": "group_by_length"},
    Side.TRL_PACKED: {**TUNED, "packing": True, "max_length": 2048, "per_device_train_batch_size": 1},
}


def main() -> None:
    # One core for every side: the product takes as many threads as it may use.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    side, work = Side(sys.argv[1]), Path(sys.argv[2])
    lessons, _ = read_lessons(work)
    lessons = lessons[: side.lessons]
    took = ours(lessons, work, work / side) if side is Side.RAGTIDE else trl(TRL[side], lessons, work, work / side)
    print(took.model_dump_json())


def ours(lessons: Sequence[TrainingSample], work: Path, folder: Path) -> Took:
    """The product's own trainer, on all lessons, its loop alone timed."""
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
    LoraTrainer(params, GenerateParams(model=str(work / "base"))).train(lessons, folder, timed)
    return _took(seconds)


def trl(settings: dict[str, Any], lessons: Sequence[TrainingSample], work: Path, folder: Path) -> Took:
    """TRL's SFTTrainer on the same prompts and answers, with the same LoRA; `train` alone is timed."""
    import datasets
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from ragtide.pipelines.models.generator import render_prompt

    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    rows = [{"prompt": render_prompt(tokenizer, one.prompt), "completion": one.completion} for one in lessons]
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
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora,
    )
    started = time.process_time()
    trainer.train()
    seconds = time.process_time() - started
    trainer.save_model(str(folder))
    return _took(seconds)


def _took(seconds: float) -> Took:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Took(cpu_seconds=round(seconds, 2), peak_rss_mb=round(peak))


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    main()
