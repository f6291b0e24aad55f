"""Who says whether an answer is right where no rule can tell? A language model, asked through MLflow."""

from __future__ import annotations

from importlib.metadata import version

from ragtide.pipelines.errors import UnavailableError, summarize_error
from ragtide.pipelines.params import ScoreParams
from ragtide.pipelines.ports import Judge, JudgeRequest


def load_judge(params: ScoreParams) -> Judge | None:
    """The judge that score.judge names; None where it names none. Asks nobody yet."""
    return MlflowJudge(params.judge) if params.judge else None


class MlflowJudge:
    """MLflow's judge of correctness: does the answer say what a right one says? Keys are those of the environment."""

    def __init__(self, model: str) -> None:
        self._model = model

    @property
    def identity(self) -> str:
        """The model, and the version of MLflow, which words the question."""
        return f"{self._model} mlflow-{version('mlflow')}"

    def judge(self, claim: JudgeRequest) -> float:
        """1 where the answer says what one of the right answers says, else 0."""
        return float(any(self._agrees(claim, right) for right in claim.right))

    def _agrees(self, claim: JudgeRequest, right: str) -> bool:
        # It takes seconds to import.
        from mlflow.exceptions import MlflowException
        from mlflow.genai.judges import is_correct

        try:
            said = is_correct(request=claim.question, response=claim.answer, expected_response=right, model=self._model)
        except (MlflowException, OSError) as problem:
            raise UnavailableError(
                f"score.judge = {self._model!r} does not answer: {summarize_error(problem)}"
            ) from problem
        if str(said.value) not in ("yes", "no"):
            told = said.error.error_message if said.error else said.value
            raise UnavailableError(f"score.judge = {self._model!r} said neither yes nor no: {told}")
        return str(said.value) == "yes"
