"""Tests of the settings: invalid keys and values, defaults, digest, and the checked-in params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import Params, read_params

ROOT = Path(__file__).parent.parent


def write_params(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policy: {points_per_our: 3}", "unknown key 'policy.points_per_our'; known keys: name, points_per_hour"),
        ("policy: {baseline: {period: 3}}", "unknown key 'policy.baseline.period'; known keys: period_cycles"),
        ("policy: {baseline: {amount_share: 1.1}}", "policy.baseline.amount_share = 1.1"),
        ("policy: {approve_above_seconds: -1}", "policy.approve_above_seconds = -1"),
        ("policy: {budget_hours_per_week: 0}", "policy.budget_hours_per_week = 0"),
        ("policy: {cool_down_hours: -1}", "policy.cool_down_hours = -1"),
        ("policy: {gain_lasts_cycles: 0.5}", "policy.gain_lasts_cycles = 0.5"),
        ("policy: {examples_half: 0}", "policy.examples_half = 0"),
        ("policy: {excess_loss_full: 0}", "policy.excess_loss_full = 0"),
        ("evidence: {fact_checks: -1}", "evidence.fact_checks = -1"),
        ("costs: {price_per_hour: -1}", "costs.price_per_hour = -1"),
        ("polcy: {points_per_hour: 3}", "unknown key 'polcy'; known keys: data, deletion_guard, chunk, embed, index"),
        ("index: {top_k: many}", "index.top_k = 'many': Input should be a valid integer"),
        ("index: {top_k: 0}", "index.top_k = 0: Input should be greater than or equal to 1"),
        ("chunk: {max_words: 3}", "chunk.max_words = 3"),
        ("score: {target: 1.5}", "score.target = 1.5"),
        ("data: {max_attempts: 0}", "data.max_attempts = 0"),
        ("deletion_guard: {max_removed_documents: -1}", "deletion_guard.max_removed_documents = -1"),
        ("deletion_guard: {max_removed_share: 1.1}", "deletion_guard.max_removed_share = 1.1"),
        ("deletion_guard: {max_removed: 5}", "known keys: max_removed_documents, max_removed_share"),
        ("embed: {batch_size: 8}", "unknown key 'embed.batch_size'; known keys: model, backend"),
        ("embed: {tokens_at_once: 511}", "embed.tokens_at_once = 511"),
        ("embed: {precision: half}", "embed.precision = 'half'"),
        ("index: {search: both}", "index.search = 'both'"),
        ("maintenance: {keep_days: -1}", "maintenance.keep_days = -1"),
        ("maintenance: {max_fragments: 0}", "maintenance.max_fragments = 0"),
        ("score: {confidence: 1}", "score.confidence = 1"),
        ("score: {judge: gpt-4.1}", "score.judge = 'gpt-4.1'"),
        ("examples: {on_invalid: stop}", "examples.on_invalid = 'stop'"),
        ("examples: {contradictions: both}", "examples.contradictions = 'both'"),
        ("examples: {leak_similarity: 0}", "examples.leak_similarity = 0"),
        ("finetune: {learning_rate: 0}", "finetune.learning_rate = 0"),
        ("policy: 50", "policy = 50"),
        ("- policy", "holds a list"),
        ("policy", "holds a str"),
        ("policy: {points_per_hour: 3", "is not readable YAML"),
    ],
)
def test_an_invalid_setting_is_named_with_its_file(text: str, message: str, tmp_path: Path) -> None:
    path = write_params(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_params(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00\x00")
    with pytest.raises(UserError, match=r"params\.yaml is not readable YAML"):
        read_params(tmp_path / "params.yaml")


def test_a_missing_file_says_how_to_make_a_project(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml is missing: run `ragtide init`"):
        read_params(tmp_path / "params.yaml")


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert read_params(write_params(tmp_path, "# nothing set\n")) == Params()


def test_one_setting_leaves_the_others_at_their_defaults(tmp_path: Path) -> None:
    params = read_params(write_params(tmp_path, "index: {top_k: 7}"))
    assert params.index.top_k == 7
    assert params.model_copy(update={"index": Params().index}) == Params()


def test_the_checked_in_file_equals_the_defaults() -> None:
    assert read_params(ROOT / "params.yaml") == Params()


def names(settings: dict[str, Any], prefix: str = "") -> set[str]:
    """The full names of all settings, with those of nested blocks."""
    nested = [names(value, f"{prefix}{key}.") for key, value in settings.items() if isinstance(value, dict)]
    return {f"{prefix}{key}" for key in settings}.union(*nested)


def test_the_checked_in_file_ships_the_settings_that_people_change() -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert names(content) < names(Params().model_dump(mode="json"))
    assert 30 <= len(names(content)) - len(content) <= 50


def test_the_digest_depends_on_the_settings_alone(tmp_path: Path) -> None:
    plain = read_params(write_params(tmp_path, "policy: {points_per_hour: 50}\nindex: {top_k: 5}\n"))
    other = read_params(write_params(tmp_path, "# comment\nindex:\n  top_k: 5\npolicy:\n  points_per_hour: 5.0e+1\n"))
    assert plain.digest() == other.digest()
    assert plain.digest() != Params().digest()


@pytest.mark.parametrize(
    ("documents", "share", "indexed", "limit"),
    [(10, 0.1, 0, 10), (10, 0.1, 100, 10), (10, 0.1, 200, 20), (0, 0.1, 5, 0.5), (0, 0.0, 1000, 0), (3, 1.0, 2, 3)],
)
def test_the_deletion_guard_allows_the_larger_of_its_two_limits(
    documents: int, share: float, indexed: int, limit: float
) -> None:
    params = Params.model_validate({"deletion_guard": {"max_removed_documents": documents, "max_removed_share": share}})
    assert params.deletion_guard.limit(indexed) == pytest.approx(limit)


def test_missing_blocks_take_their_defaults(tmp_path: Path) -> None:
    settings = Params().model_dump(mode="json")
    del settings["deletion_guard"], settings["maintenance"], settings["evidence"], settings["policy"]["baseline"]
    assert read_params(write_params(tmp_path, yaml.safe_dump(settings))) == Params()
