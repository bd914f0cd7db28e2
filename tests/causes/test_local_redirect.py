"""A host that turns connections to itself; who listens there, the rule's counter and the packets decide what is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.causes.cases import capture, only, others, report, state, verdicts
from tests.packets import Tcp
from tests.path.states import LISTENERS

RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:SIDECAR_OUTBOUND - [0:0]
[3:180] -A OUTPUT -p tcp -j SIDECAR_OUTBOUND
[0:0] -A SIDECAR_OUTBOUND -m owner --uid-owner 4242 -j RETURN
[{count}:180] -A SIDECAR_OUTBOUND -d 10.0.0.70/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports {port}
COMMIT
"""
PROGRAM, ASKED = "10.0.0.1:40010", "10.0.0.70:80"


def turned(port: int) -> list[Tcp]:
    """A SYN on lo for the local port, and the RST that comes back in the name of the address that was asked."""
    return [
        Tcp(4_000, PROGRAM, f"127.0.0.1:{port}", "S", 100, ip_id=7, stamps=(1, 0)),
        Tcp(4_000.02, ASKED, PROGRAM, "RA", 0, 101),
    ]


def case(folder: Path, port: int = 16_001, count: int = 3, listeners: str = LISTENERS) -> Path:
    state(folder / "web/state", {"iptables-save.txt": RULES.format(port=port, count=count), "ss-tcp.txt": listeners})
    capture(folder / "web/any.pcap", [*turned(port), *others()])
    return folder


def test_the_rule_its_line_who_listens_and_the_command_that_removes_it(tmp_path: Path) -> None:
    found = only(report(case(tmp_path)))
    assert (found.cause, found.confidence, found.connection_count) == ("local-redirect", "confirmed", 1)
    assert (found.connections[0].client, found.connections[0].server) == (PROGRAM, ASKED)
    assert found.connections[0].also_seen_as[0].server == "127.0.0.1:16001"
    assert "chain nat OUTPUT > SIDECAR_OUTBOUND, web/state/iptables-save.txt:7, counter 3" in found.explanation
    assert "obody listens on 127.0.0.1:16001" in found.explanation
    assert "home-made sidecar" in found.explanation
    removal = "`iptables -t nat -D SIDECAR_OUTBOUND -d 10.0.0.70/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 16001`"
    assert removal in found.fix[0]
    assert "leaves for the address that was asked" in found.fix[0]
    assert "`iptables -t nat -X SIDECAR_OUTBOUND`" in found.fix[1]


def test_a_rule_that_met_nothing_contradicts(tmp_path: Path) -> None:
    told = report(case(tmp_path, count=0))
    finding = next(one for one in told.findings if one.cause == "local-redirect")
    assert finding.confidence == "possible"
    assert "the rule's counter is 0" in finding.explanation


def test_packets_alone_are_likely(tmp_path: Path) -> None:
    capture(tmp_path / "web/any.pcap", [*turned(16_001), *others()])
    assert verdicts(report(tmp_path)) == {("local-redirect", "likely")}


@pytest.mark.parametrize(("way", "told"), [("127.0.0.1:16001", {("local-redirect", "possible")}), (ASKED, set())])
def test_an_answer_that_the_log_calls_unexpected_may_be_a_stranger_s_where_packets_are_turned(
    tmp_path: Path, way: str, told: set[tuple[str, str]]
) -> None:
    """Without a state nobody knows who listens there; an HTTP error of the host that was asked is no failure of the network."""
    request, answer = b"GET /api/v1/item/7 HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    asked, said = 101 + len(request), 501 + len(answer)
    story = [
        Tcp(4_000, PROGRAM, way, "S", 100, ip_id=7, stamps=(1, 0)),
        Tcp(4_000.02, ASKED, PROGRAM, "SA", 500, 101, stamps=(9, 1)),
        Tcp(4_000.04, PROGRAM, way, "A", 101, 501, ip_id=8, stamps=(1, 9)),
        Tcp(4_000.1, PROGRAM, way, "PA", 101, 501, request, ip_id=9, stamps=(1, 9)),
        Tcp(4_000.2, ASKED, PROGRAM, "PA", 501, asked, answer, ip_id=70, stamps=(9, 1)),
        Tcp(4_000.3, PROGRAM, way, "FA", asked, said, ip_id=10, stamps=(1, 9)),
        Tcp(4_000.4, ASKED, PROGRAM, "FA", said, asked + 1, ip_id=71, stamps=(9, 1)),
        Tcp(4_000.5, PROGRAM, way, "A", asked + 1, said + 1, ip_id=11, stamps=(1, 9)),
    ]
    capture(tmp_path / "web/any.pcap", [*story, *others()])
    (tmp_path / "web/service.log").write_text(f'2026/09/21 13:33:24 Get "http://{ASKED}/api/v1/item/7": unexpected status 404 Not Found\n')
    assert verdicts(report(tmp_path)) == told


def test_somebody_who_listens_now_leaves_it_open(tmp_path: Path) -> None:
    told = report(case(tmp_path, listeners=LISTENERS + 'LISTEN 0 9 *:16001 *:* users:(("app",pid=3,fd=4))\n'))
    assert ("local-redirect", "possible") in verdicts(told)
    assert all(confidence == "possible" for _, confidence in verdicts(told))


def test_the_state_alone_foretells_it_and_fails_nothing(tmp_path: Path) -> None:
    state(tmp_path / "web/state", {"iptables-save.txt": RULES.format(port=16_001, count=3)})
    told = report(tmp_path)
    found = only(told)
    assert (found.cause, found.confidence, found.connection_count, found.connections) == ("local-redirect", "likely", 0, ())
    assert told.totals.failed == 0
    program = [str(Path(sys.executable).parent / "tcpwhy"), "diagnose", "--no-index", str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "foretold by the state of the host" in done.stdout


@pytest.mark.parametrize(("port", "count", "expected"), [(16_001, 0, "possible"), (15_001, 9, None)])
def test_nothing_is_foretold_of_a_port_that_somebody_serves(tmp_path: Path, port: int, count: int, expected: str | None) -> None:
    state(tmp_path / "web/state", {"iptables-save.txt": RULES.format(port=port, count=count)})
    assert verdicts(report(tmp_path)) == ({("local-redirect", expected)} if expected else set())
