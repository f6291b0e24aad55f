"""Second look at tuning the embedder: on the index that the same cycle has refreshed, before the tuning is paid for.

A plan weighs it on the live index, which lacks what the documents newly say.
"""

from __future__ import annotations

from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.evidence.answer_scores import measure_answers
from ragtide.pipelines.evidence.live_index import LiveIndexView, Stopwatch
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Option, Plan
from ragtide.pipelines.records.release import Release


def weigh_tuning_again(project: Project, plan: Plan, knowledge: KnowledgeBase, live: Release) -> Option | None:
    """The plan's option of tuning the embedder, weighed on the live index as it is by now.

    Nearly every answer was given before: in the plan's evidence, or in the proof of the refreshed index.
    """
    evaluator, params = project.evaluator(knowledge), project.workspace.params
    index = project.index_of(live.index)
    view = LiveIndexView.of(index, live.index_tag, knowledge.chunks, evaluator.golden.questions, limit=0)
    scores = measure_answers(evaluator, project.system_under_test(live), view, params.score, Stopwatch())
    evidence = plan.evidence.model_copy(update={"scores": scores})
    return make_decision(evidence, params.policy).option(Action.TUNE_EMBEDDER)
