"""A plan in which every part of a decision's page has content."""

from __future__ import annotations

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.records.data import ChangeSet, Rename
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.evidence import Costs, Gap, Measure
from tests.factories import delta, evidence, measure, past


def full_plan() -> Plan:
    """A deleted document, a weak model that was trained on it, an embedder with a gap, and an approval to be given."""
    changes = ChangeSet(
        before="s0",
        after="s1",
        added=("new.md",),
        edited=("guide/a.md", "guide/b.md"),
        renamed=(Rename(before="old.md", after="moved.md"),),
        removed=("lost.md",),
        examples_changed=True,
    )
    costs = Costs(
        refresh_seconds=10,
        retrain_seconds=300,
        prove_seconds=20,
        suite_seconds=4,
        tune_seconds=90,
        source="rates of the last runs: refresh 3, retrain 2, proof 5",
        error_share=0.2,
        error_runs=5,
        price_per_hour=3.6,
        currency="EUR",
    )
    gathered = evidence(
        changes=changes,
        delta=delta(documents_deleted=2, documents_renamed=1),
        score_gold=measure(0.62, 0.5, 0.74),
        score_retrieved=measure(0.4, 0.28, 0.52),
        index_gap=measure(0.22, 0.1, 0.34),
        model_gap=measure(0.33, 0.21, 0.45),
        refresh_gain=measure(0.12, 0.04, 0.2),
        embedder_gap=measure(0.06, 0.01, 0.11),
        missing_answers=measure(0.2, 0.1, 0.3),
        malformed_share=measure(0.04, 0.0, 0.1),
        groups=(Gap(name="guide/", index_gap=measure(0.3, n=12), model_gap=measure(0.1, n=12)),),
        kinds=(Gap(name="date", index_gap=measure(0.1, n=9), model_gap=measure(0.4, n=9)),),
        changed_sentence_share=measure(0.021),
        stale_facts=measure(0.3, 0.1, 0.5, n=10),
        resurfaced_deletions=measure(0.0, n=4),
        novelty=measure(0.3, 0.1, 0.5, n=12),
        shift=Measure.unmeasured("4 new and 40 old chunks: 5 of each are needed"),
        vocabulary=measure(0.08, n=12),
        excess_loss=measure(0.42, 0.2, 0.6, n=20),
        new_examples=24,
        filtered={"leak": 1, "stale answer": 2},
        orphaned_examples=1,
        pairs=400,
        min_pairs=32,
        new_pairs=0.5,
        deleted_training_documents=("lost.md",),
        quarantined={"scan.pdf": "it holds no text"},
        stale_questions=("q9",),
        costs=costs,
        past=(
            past("REFRESH", cycle="cycle-0002", forecast_seconds=30.0, seconds=36.0),
            past("RETRAIN", cycle="cycle-0003"),
        ),
        spent_hours=1.25,
        hours_since_retrain=30,
        signal_seconds={"score_gold": 31.2, "novelty": 0.01},
    )
    decision = make_decision(gathered, PolicyParams(approve_above_seconds=200))
    return Plan(evidence=gathered, decision=decision, params="p1")
