"""Rules that choose a table, more than can be followed: the look-up ends soon, and says that it does not know."""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path

import pytest

from tcpwhy.path.routing import MOST_ANSWERS, Query, Routing
from tests.path.states import ROUTER, RULES, host

TO = Query(destination=ipaddress.ip_address("172.16.5.5"), source=ipaddress.ip_address("10.0.0.1"), in_interface="lo", is_uid_known=False)


@pytest.mark.parametrize("count", [MOST_ANSWERS + 3, 3_000])
def test_undecidable_rules(tmp_path: Path, count: int) -> None:
    rules = [{"priority": 100 + number, "src": "all", "uid_start": number, "uid_end": number, "table": str(1000 + number)}
             for number in range(count)]  # fmt: skip
    tables = [{"dst": "default", "gateway": "10.1.0.254", "dev": "eth1", "table": str(1000 + number)} for number in range(count)]
    files = {"ip-rule.json": [RULES[0], *rules, *RULES[1:]], "ip-route.json": [*ROUTER["ip-route.json"], *tables]}  # type: ignore[misc]
    begun = time.process_time()
    answers = Routing(host(tmp_path, files), 4).lookup(TO)
    assert time.process_time() - begun < 5
    assert len(answers) <= MOST_ANSWERS
    assert "unknown" in {answer.type for answer in answers}
    assert all(answer.doubts for answer in answers)


def test_few_undecidable_rules_are_followed_all(tmp_path: Path) -> None:
    rule = {"priority": 100, "src": "all", "uid_start": 5, "uid_end": 9, "table": "7"}
    routes = [*ROUTER["ip-route.json"], {"dst": "default", "gateway": "10.0.0.77", "dev": "eth0", "table": "7"}]  # type: ignore[misc]
    answers = Routing(host(tmp_path, {"ip-rule.json": [RULES[0], rule, *RULES[1:]], "ip-route.json": routes}), 4).lookup(TO)
    assert {answer.next_hops[0].interface for answer in answers} == {"eth0", "eth1"}
