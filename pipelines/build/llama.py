"""How does a model answer in llama.cpp? One prompt at a time, from one GGUF file a model, written once a machine.

Of use where single questions are asked on a CPU; batches are faster in transformers (docs/log.md, 2026-11-26).
"""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Sequence
from functools import cached_property
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from pipelines.build.adapters import adapter_digest
from pipelines.build.generate import TransformersGenerator, prompt_ids
from pipelines.build.merge import Precision
from pipelines.build.weights import available_cores, choose_device, choose_dtype
from pipelines.errors import RefusalError
from pipelines.ports import Advance, Prompt, quiet

# The file's precision is that of generate.dtype.
PRECISIONS = {"float32": Precision.F32, "bfloat16": Precision.BF16, "float16": Precision.F16}
# Raised when the layout of the file changes, so that an old cache is not taken for a new one.
LAYOUT = "1"
# A retrain leaves a file of the size of the model: those of the live release, the one before and a candidate stay.
KEPT = 3
# A context is made for so many tokens more than the longest prompt, so that the next is not made for each length.
STEP = 1024


class LlamaCppGenerator(TransformersGenerator):
    """A Generator that decodes with llama.cpp; tokens, template and losses are those of transformers."""

    @cached_property
    def identity(self) -> str:
        version = import_llama_cpp().__version__
        return f"{self.base}/llama.cpp-{version}/{self._precision}/greedy-{self._params.max_new_tokens}"

    @cached_property
    def _precision(self) -> Precision:
        return PRECISIONS[choose_dtype(self._params.dtype, choose_device(self._params.device))]

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
        asked = [prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        if not asked:
            return []
        llama = self._opened(adapter, max(map(len, asked)) + self._params.max_new_tokens)
        answers = []
        for ids in asked:
            answers.append(self._answer(llama, ids))
            advance(1)
        return answers

    def _answer(self, llama: Any, ids: list[int]) -> str:
        # What is left of the prompt before would save little, and let an answer hang on what was asked earlier.
        llama.reset()
        tokens = takewhile(lambda token: token != self.tokenizer.eos_token_id, llama.generate(ids, temp=0.0))
        new = list(islice(tokens, self._params.max_new_tokens))
        return str(self.tokenizer.decode(new, skip_special_tokens=True)).strip()

    def _opened(self, adapter: Path | None, tokens: int) -> Any:
        """llama.cpp with the model in it and room for `tokens`; one at a time."""
        key = str(adapter)
        llama = self._served.get(key)
        if llama is None or llama.n_ctx() < tokens:
            self._close()
            self._served[key] = self._open(self._file(adapter), -(-tokens // STEP) * STEP)
        return self._served[key]

    def _open(self, file: Path, tokens: int) -> Any:
        llama_cpp = import_llama_cpp()
        return llama_cpp.Llama(
            str(file),
            n_ctx=tokens,
            n_threads=available_cores(),
            n_threads_batch=available_cores(),
            n_gpu_layers=0 if self._params.device == "cpu" else -1,
            verbose=False,
        )

    @cached_property
    def _served(self) -> dict[str, Any]:
        # At the interpreter's end, llama.cpp's own module would be gone before its models are.
        atexit.register(self._close)
        return {}

    def _close(self) -> None:
        for llama in self._served.values():
            llama.close()
        self._served.clear()

    def _file(self, adapter: Path | None) -> Path:
        """The GGUF file of base and adapter, named by what is in it."""
        name = adapter_digest(adapter) if adapter else "base"
        revision = self.base.rpartition("@")[2]
        file = user_cache_path("ragtide") / "gguf" / f"{revision}-{name}-{self._precision}-{LAYOUT}.gguf"
        if file.is_file():
            file.touch()
        else:
            self._write(adapter, file)
        return file

    def _write(self, adapter: Path | None, file: Path) -> None:
        """The file gets its name last; the oldest beyond those that are kept go."""
        from pipelines.build.gguf_file import write_gguf

        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=file.parent) as scratch:
            unfinished = Path(scratch) / file.name
            write_gguf(self.load(adapter), self.tokenizer, unfinished, self._precision, quiet)
            unfinished.replace(file)
        revision = file.name.partition("-")[0]
        written = sorted(file.parent.glob(f"{revision}-*.gguf"), key=lambda path: path.stat().st_mtime)
        for old in written[:-KEPT]:
            old.unlink()


def import_llama_cpp() -> Any:
    """The llama_cpp module. Raises RefusalError where it is not installed."""
    try:
        import llama_cpp
    except ImportError as problem:
        how = "pip install 'ragtide[llamacpp]' (it is compiled, for minutes), or generate.backend: transformers"
        raise RefusalError(f"generate.backend = llama.cpp needs llama-cpp-python: {how}") from problem
    return llama_cpp
