"""The example of an old cluster goes in; each client must be named as its expected.json says, and the balancer's captures must matter."""

from __future__ import annotations

import json
from pathlib import Path

import tcpwhy
from tests.verdicts.real_clients import HEADER, disputed, known, misnamed

EXAMPLE = Path(__file__).parents[2] / "examples" / "old-cluster-clients"
TRUTH = known(json.loads(EXAMPLE.with_name(f"{EXAMPLE.name}.expected.json").read_text()))


def test_each_client_of_the_example_is_named() -> None:
    with tcpwhy.open_case(EXAMPLE, index=False) as case:
        assert disputed(TRUTH, case.clients(headers=[HEADER])) == []


def test_without_the_balancer_the_old_ones_are_not_named_and_the_new_ones_still_are() -> None:
    places = [f"{path.name}={path}" for path in sorted(EXAMPLE.glob("nginx-*"))]
    with tcpwhy.open_case(places, index=False) as case:
        rows = list(case.clients(headers=[HEADER]))
    assert misnamed(TRUTH, rows) == []
    assert {row.real_client is None for row in rows if row.open_before_capture} == {True}
    assert {row.real_client is None for row in rows if not row.open_before_capture} == {False}
