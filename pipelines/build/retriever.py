"""How does a tuned retriever come to be, and is there anything new to tune it on?

A release's index names the retriever that made its vectors, so both go live together, and go back together (law 9). A
refresh goes on with the live one, as long as embed.model is still what that was tuned from.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.build.pairs import PAIRS, Pair, drawn, with_negatives
from pipelines.build.search import Reader
from pipelines.build.tune import tune_retriever
from pipelines.params import Params
from pipelines.ports import Progress
from pipelines.records import BuiltRetriever, digest_of
from pipelines.workspace import Workspace

# Digests of pairs that are kept, the lowest ones: a share of new pairs told by a thousand is right to three points.
SKETCH = 1000


@dataclass(frozen=True)
class Tunable:
    """What there is to tune the retriever on: pairs, how many are needed, and the share that is new to the live one."""

    pairs: int
    least: int
    new_share: float


def tunable(params: Params, pairs: Sequence[Pair], live: BuiltRetriever | None) -> Tunable:
    """What there is to learn, beside what the live retriever was tuned on."""
    same = live is not None and live.settings == tuning_settings(params)
    return Tunable(len(pairs), params.tune.batch_size, new_share(live.sketch if same and live else (), sketch(pairs)))


def build_retriever(workspace: Workspace, pairs: Sequence[Pair], reader: Reader, progress: Progress) -> BuiltRetriever:
    """Tune embed.model on some of `pairs`, with near misses that the live index finds (`reader`); keep it by content.

    Raises RefusalError for fewer pairs than tune.batch_size.
    """
    started = time.perf_counter()
    params = workspace.params
    taught = with_negatives(drawn(pairs, params.tune.max_pairs, params.tune.seed), reader, params.tune.negatives)
    tuned = tune_retriever(taught, params.embed, params.tune, workspace.retrievers, progress)
    return BuiltRetriever(
        digest=tuned.digest,
        base=tuned.base,
        settings=tuning_settings(params),
        pairs=len(taught),
        sketch=sketch(pairs),
        steps=tuned.steps,
        final_loss=round(tuned.losses[-1], 6) if tuned.losses else None,
        seconds=round(time.perf_counter() - started, 3),
    )


def tuning_settings(params: Params) -> str:
    """A digest of everything but the pairs that a tuned retriever depends on."""
    prefixes = [params.embed.document_prefix, params.embed.query_prefix]
    return digest_of([params.embed.model, prefixes, PAIRS, params.tune.model_dump(mode="json")])


def sketch(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """The lowest digests of the pairs: a fair sample, and of two sets the same (Beyer et al. 2007, KMV synopses)."""
    return tuple(sorted({digest_of([pair.query, pair.passage]) for pair in pairs})[:SKETCH])


def new_share(then: Sequence[str], now: Sequence[str]) -> float:
    """The share of the pairs behind the sketch `now` that were not behind `then`."""
    # Below the last digest of a full sketch, all there are stand in it.
    whole = [one[-1] for one in (then, now) if len(one) == SKETCH]
    told = [one for one in now if not whole or one <= min(whole)]
    return len(set(told) - set(then)) / len(told) if told else 0.0
