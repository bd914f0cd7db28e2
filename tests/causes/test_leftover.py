"""A port that is used again while the server holds its last connection: what answers, why it lasts, and when it is no failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcpwhy.diagnosis.finding import Report
from tests.causes.cases import CLIENT, SERVICE, capture, only, others, report, state, verdicts
from tests.packets import Tcp, exchange
from tests.path.states import LISTENERS, ROUTER

assert isinstance(ROUTER["ip-route.json"], list)
BACK = [*ROUTER["ip-route.json"], {"dst": "default", "gateway": "10.0.0.254", "dev": "eth0"}]
NEXT_CLIENT, NEXT_SERVER = 1020, 501_021
"""The numbers after the exchange below: its request and answer, and both FINs."""


def before(*, closed: bool = True, server_first: bool = True) -> list[Tcp]:
    """The port's last connection: whole, or as its client left it in a crash."""
    packets = exchange(CLIENT, SERVICE, 0)
    if not closed:
        return packets[:5]
    if not server_first:
        return packets
    c, s = 1019, 501_020
    return [
        *packets[:5],
        Tcp(5, SERVICE, CLIENT, "FA", s, c, ip_id=8, stamps=(92, 12)),
        Tcp(6, CLIENT, SERVICE, "FA", c, s + 1, ip_id=4, stamps=(13, 92)),
        Tcp(7, SERVICE, CLIENT, "A", s + 1, c + 1, ip_id=9, stamps=(93, 13)),
    ]


def again(
    *,
    ts_value: int | None = 5_000,
    old: tuple[int, int] = (NEXT_SERVER, NEXT_CLIENT),
    echoes: int = 13,
    resets: bool = True,
    at_ms: float = 900,
) -> list[Tcp]:
    """The port once more: each SYN is answered with the old numbers, and refused with RST."""
    packets = []
    for number, at in enumerate((0, 1_000, 3_000)):
        stamps = None if ts_value is None else (ts_value + at, 0)
        echoed = None if ts_value is None else (at_ms_value(at_ms + at), echoes)
        packets.append(Tcp(at_ms + at, CLIENT, SERVICE, "S", 77_000_000, ip_id=90 + number, stamps=stamps))
        packets.append(Tcp(at_ms + at + 0.1, SERVICE, CLIENT, "A", *old, ip_id=10 + number, stamps=echoed))
        if resets:
            packets.append(Tcp(at_ms + at + 0.2, CLIENT, SERVICE, "R", old[1]))
    return packets


def at_ms_value(at_ms: float) -> int:
    """The server's timestamp at a time."""
    return 90 + int(at_ms)


def told_at(folder: Path, place: str, segments: list[Tcp]) -> Report:
    capture(folder / place / "eth0.pcap", [*segments, *others(8)])
    return report(folder)


def test_an_established_connection_of_a_crashed_client_is_left_over(tmp_path: Path) -> None:
    told = told_at(tmp_path, "server", [*before(closed=False), *again(old=(501_020, 1019), echoes=12, resets=False)])
    found = only(told)
    assert (found.cause, found.confidence) == ("stale-connection", "likely")
    assert "holds in ESTABLISHED an older connection" in found.explanation
    assert "0.9 s before" in found.explanation
    excluded = {one.cause for one in found.ruled_out}
    assert {"synack-lost", "timestamp-rejected", "accept-queue-overflow"} <= excluded


def test_a_time_wait_without_timestamps_is_left_over_and_with_older_ones_it_is_the_timestamp(tmp_path: Path) -> None:
    rests = [Tcp(**{**vars(one), "stamps": None}) for one in before()]
    found = only(told_at(tmp_path / "without", "server", [*rests, *again(ts_value=None)]))
    assert (found.cause, found.confidence) == ("stale-connection", "likely")
    assert "TIME-WAIT" in found.explanation
    found = only(told_at(tmp_path / "older", "server", [*before(), *again(ts_value=4_000_000_000)]))
    assert (found.cause, found.confidence) == ("timestamp-rejected", "likely")
    assert f"{(13 - 4_000_000_000) % 2**32} behind" in found.explanation


def test_a_time_wait_in_spite_of_the_reset_is_rfc1337_by_the_host_s_state(tmp_path: Path) -> None:
    sockets = f"{LISTENERS}TIME-WAIT 0 0 {SERVICE} {CLIENT} timer:(timewait,48sec,0)\n"
    state(tmp_path / "rs1/state", {"ip-route.json": BACK, "ss-tcp.txt": sockets}, settings={"net.ipv4.tcp_rfc1337": 1})
    found = only(told_at(tmp_path, "rs1", [*before(), *again(ts_value=4_000_000_000)]))
    assert (found.cause, found.confidence) == ("timestamp-rejected", "confirmed")
    assert "net.ipv4.tcp_rfc1337 is 1" in found.explanation
    assert any("net.ipv4.tcp_rfc1337=0" in line for line in found.fix)
    assert any(one.text == f"{SERVICE} is in TIME-WAIT with {CLIENT}" for one in found.evidence)


def test_a_socket_in_ss_proves_what_no_capture_holds(tmp_path: Path) -> None:
    sockets = f'{LISTENERS}ESTAB 0 0 {SERVICE} {CLIENT} users:(("nginx",pid=812,fd=9))\n'
    state(tmp_path / "rs1/state", {"ip-route.json": BACK, "ss-tcp.txt": sockets})
    found = only(told_at(tmp_path, "rs1", again(resets=False)))
    assert (found.cause, found.confidence) == ("stale-connection", "confirmed")
    assert "`ss -K" in found.fix[-1]


@pytest.mark.parametrize(("ts_value", "rejected"), [(5_000, False), (4_000_000_000, True)])
def test_without_the_older_connection_it_is_possible_only(tmp_path: Path, ts_value: int, rejected: bool) -> None:
    told = told_at(tmp_path, "client", again(ts_value=ts_value))
    causes = {cause for cause, _ in verdicts(told)}
    assert all(confidence == "possible" for _, confidence in verdicts(told))
    assert {"stale-connection", "synack-lost"} <= causes
    assert ("timestamp-rejected" in causes) == rejected


def test_an_attempt_that_was_never_established_is_no_older_connection(tmp_path: Path) -> None:
    first = [
        Tcp(0, CLIENT, SERVICE, "S", 1000, ip_id=1, stamps=(10, 0)),
        Tcp(0.1, SERVICE, CLIENT, "SA", 500_000, 1001, stamps=(90, 10)),
        Tcp(800, SERVICE, CLIENT, "SA", 500_000, 1001, stamps=(890, 10)),
    ]
    told = told_at(tmp_path, "server", [*first, *again(old=(500_001, 1001), echoes=10)])
    assert not {cause for cause, _ in verdicts(told)} & {"stale-connection", "timestamp-rejected"}


def test_a_port_that_was_cleared_up_is_healthy_at_either_end(tmp_path: Path) -> None:
    retried = exchange(CLIENT, SERVICE, 912, isn=77_000_000)
    segments = [*again(ts_value=4_000_000_000)[:3], *retried]
    for place, older in (("server", before()), ("client", [])):
        told = told_at(tmp_path / place, place, [*older, *segments])
        assert (told.totals.failed, verdicts(told)) == (0, set())


def test_a_client_that_is_refused_for_seconds_and_then_taken_is_a_finding(tmp_path: Path) -> None:
    late = exchange(CLIENT, SERVICE, 7_900, isn=77_000_000)
    told = told_at(tmp_path, "server", [*before(closed=False), *again(old=(501_020, 1019), echoes=12, resets=False), *late])
    assert verdicts(told) == {("stale-connection", "likely")}


def test_tcp_tw_recycle_drops_syns_without_a_word(tmp_path: Path) -> None:
    syns = [one for one in again(ts_value=4_000_000_000, resets=False) if one.flags == "S"]
    on = {"net.ipv4.tcp_tw_recycle": 1}
    (tmp_path / "on/rs1/state-before").mkdir(parents=True)
    (tmp_path / "on/rs1/state-before/nstat.txt").write_text("#kernel\nTcpExtPAWSPassive 2 0.0\n")
    state(tmp_path / "on/rs1/state", {"ip-route.json": BACK, "nstat.txt": "#kernel\nTcpExtPAWSPassive 5 0.0\n"}, settings=on)
    found = only(told_at(tmp_path / "on", "rs1", syns))
    assert (found.cause, found.confidence) == ("timestamp-rejected", "confirmed")
    assert any("tcp_tw_recycle=0" in line for line in found.fix)
    state(tmp_path / "off/rs1/state", {"ip-route.json": BACK})
    told = told_at(tmp_path / "off", "rs1", syns)
    assert "timestamp-rejected" not in {cause for cause, _ in verdicts(told)}


def test_an_ack_of_the_attempt_s_own_data_is_none_of_an_older_connection(tmp_path: Path) -> None:
    """SYN-ACKs are lost for three seconds, and the request comes right behind the last SYN."""
    syns = [Tcp(900 + at, CLIENT, SERVICE, "S", 77_000_000, ip_id=at % 900, stamps=(5_000 + at, 0)) for at in (0, 1_000, 3_000)]
    taken = exchange(CLIENT, SERVICE, 3_900, isn=77_000_000, step_ms=10)
    request = next(one for one in taken if one.payload.startswith(b"GET"))
    ack = Tcp(request.at_ms + 5, SERVICE, CLIENT, "A", request.ack, request.seq + len(request.payload), stamps=(95, 12))
    told = told_at(tmp_path, "server", [*syns, *taken[1:], ack])
    assert not {cause for cause, _ in verdicts(told)} & {"stale-connection", "timestamp-rejected"}
