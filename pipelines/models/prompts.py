"""The prompt format shared by training, evidence, gate and `ragtide ask`."""

from __future__ import annotations

from collections.abc import Sequence

from ragtide.pipelines.ports import Message, Prompt

SYSTEM = "Answer the question from the context. Give only the answer."
# Change it together with the wording: it is part of the keys of cached answers and of the training settings.
FORM = "context-1"


def question_prompt(question: str, contexts: Sequence[str]) -> Prompt:
    """A question preceded by its passages, most relevant first; without passages, the question alone."""
    return conversation_prompt((Message("user", question),), contexts)


def conversation_prompt(turns: Sequence[Message], contexts: Sequence[str]) -> Prompt:
    """A conversation that ends with a user turn; the passages are put before the text of that turn."""
    has_system = any(turn.role == "system" for turn in turns)
    system = () if has_system or not contexts else (Message("system", SYSTEM),)
    *earlier, last = turns
    return (*system, *earlier, Message(last.role, _with_contexts(last.content, contexts)))


def _with_contexts(question: str, contexts: Sequence[str]) -> str:
    if not contexts:
        return question
    passages = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(contexts, start=1))
    return f"Context:\n{passages}\n\nQuestion: {question}"
