"""The catalogue of scenarios: each file of this folder declares some, and is found by being here."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from ..scenario import Scenario, healthy_twin


class UnknownScenario(KeyError):
    """No scenario has that name."""

    def __str__(self) -> str:
        return str(self.args[0])


@cache
def catalogue() -> dict[str, Scenario]:
    """All scenarios by name, each faulty one with its healthy twin behind it."""
    found: dict[str, Scenario] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        declared: tuple[Scenario, ...] = importlib.import_module(f"{__name__}.{module.name}").SCENARIOS
        for scenario in declared:
            for each in (scenario, healthy_twin(scenario)) if scenario.cause else (scenario,):
                if each.name in found:
                    raise ValueError(f"two scenarios are called {each.name}")
                found[each.name] = each
    return found


def by_name(name: str) -> Scenario:
    """The scenario of that name; raises UnknownScenario."""
    try:
        return catalogue()[name]
    except KeyError:
        raise UnknownScenario(f"no scenario is called `{name}`") from None
