"""Does what the guide pages show really work?"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pipelines.decide.known import load_policy
from pipelines.decide.policy import decide
from pipelines.params import PolicyParams
from pipelines.records import Action
from tests.factories import evidence, measure

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> str:
    """The policy of the guide page, as a module that can be named in params.yaml."""
    [code] = re.findall(r"```python\n(.*?)```", (DOCS / "your-own-policy.md").read_text(encoding="utf-8"), re.DOTALL)
    module = ModuleType("my_policies")
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, "my_policies", module)
    load_policy.cache_clear()
    return "my_policies:OnlyWhenStale"


@pytest.mark.parametrize(("stale", "action"), [(0.2, Action.REFRESH), (0.05, Action.NOTHING)])
def test_the_policy_of_the_guide_page_decides_as_it_says(shown: str, stale: float, action: Action) -> None:
    decision = decide(evidence(stale_answers=measure(stale)), PolicyParams(name=shown))
    assert decision.action is action
    assert f"{stale:.0%} of the moved facts are answered from old text" in decision.reasons[0]
    assert decision.policy == shown
