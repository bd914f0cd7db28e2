"""A redirect to a listening port is foretold as a stranger's only where the listener can be no proxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcpwhy.causes.local_redirect import predict
from tests.path.states import host

HEAD = """\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [3:180]
:POSTROUTING ACCEPT [3:180]
:SIDECAR_OUTBOUND - [0:0]
"""
JUMP = "[3:180] -A OUTPUT -p tcp -j SIDECAR_OUTBOUND\n"
TURN = "[3:180] -A SIDECAR_OUTBOUND -d {} -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 80\n"


def foretold(folder: Path, rules: str) -> list[tuple[str, str]]:
    tables = host(folder, {"iptables-save.txt": f"{HEAD}{rules}COMMIT\n"})
    return [(one.confidence, one.exhibits[0].text) for one in predict({tables.name: tables})]


def test_whoever_asks_gets_a_stranger(tmp_path: Path) -> None:
    ((confidence, text),) = foretold(tmp_path, JUMP + TURN.format("172.16.5.0/24"))
    assert confidence == "possible"
    assert "SIDECAR_OUTBOUND -d 172.16.5.0/24" in text


@pytest.mark.parametrize(
    "rules",
    [
        "[0:0] -A OUTPUT -m owner --uid-owner 1337 -j RETURN\n" + JUMP + TURN.format("172.16.5.0/24"),
        JUMP + TURN.format("172.16.5.0/24") + "[9:540] -A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 80\n",
        JUMP + TURN.format("169.254.169.254/32"),
        JUMP + TURN.format("10.0.0.1/32"),
    ],
    ids=["the proxy is exempt", "the port is published", "a metadata service", "the host's own address"],
)
def test_what_may_be_meant_is_not_foretold(tmp_path: Path, rules: str) -> None:
    assert foretold(tmp_path, rules) == []
