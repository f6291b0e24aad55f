"""LLM judge of correctness, called through MLflow, for answers that no rule can grade."""

from __future__ import annotations

from importlib.metadata import version

from ragtide.pipelines.errors import UnavailableError, summarize_error
from ragtide.pipelines.params import ScoreParams
from ragtide.pipelines.ports import Judge, JudgeRequest


def load_judge(params: ScoreParams) -> Judge | None:
    """Return the judge that score.judge names, or None where it is not set. Sends no request yet."""
    return MlflowJudge(params.judge) if params.judge else None


class MlflowJudge:
    """MLflow's correctness judge: whether an answer agrees with an accepted one. API keys come from the environment."""

    def __init__(self, model: str) -> None:
        self._model = model

    @property
    def identity(self) -> str:
        """The model, and the version of MLflow, whose prompt it gets."""
        return f"{self._model} mlflow-{version('mlflow')}"

    def judge(self, claim: JudgeRequest) -> float:
        """Return 1 where the answer agrees with one of the accepted answers, else 0."""
        return float(any(self._agrees(claim, accepted) for accepted in claim.right))

    def _agrees(self, claim: JudgeRequest, accepted: str) -> bool:
        # Importing it takes seconds.
        from mlflow.exceptions import MlflowException
        from mlflow.genai.judges import is_correct

        try:
            feedback = is_correct(
                request=claim.question, response=claim.answer, expected_response=accepted, model=self._model
            )
        except (MlflowException, OSError) as problem:
            raise UnavailableError(
                f"the judge score.judge = {self._model!r} does not answer: {summarize_error(problem)}"
            ) from problem
        if str(feedback.value) not in ("yes", "no"):
            response = feedback.error.error_message if feedback.error else feedback.value
            raise UnavailableError(
                f"the judge score.judge = {self._model!r} answered neither yes nor no but {response!r}"
            )
        return str(feedback.value) == "yes"
