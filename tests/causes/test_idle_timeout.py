"""Connections that fail behind a silence: what one place, two places, a NAT and a host's settings can show of a device that forgot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from tcpwhy.causes._idle_defaults import DEFAULTS, defaults_within
from tests.causes.cases import report, verdicts
from tests.packets import Tcp, exchange, write_pcap

CLIENT, SERVER = "10.0.0.7:40001", "10.9.0.1:80"
REQUEST, ANSWER = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"
ISN, SERVER_ISN = 1_000, 501_000


def talk(client: str, silences_s: Sequence[float], *, at_ms: float = 0, isn: int = ISN) -> list[Tcp]:
    """A handshake and an exchange, then one more behind each silence; the last packet is the ACK of the last answer."""
    c, s, now, ip_id, server_id = isn + 1, isn + 500_001, at_ms, 10, 70
    said = [
        Tcp(now, client, SERVER, "S", isn, ip_id=9, stamps=(int(now), 0)),
        Tcp(now + 1, SERVER, client, "SA", s - 1, c, stamps=(int(now), int(now))),
        Tcp(now + 2, client, SERVER, "A", c, s, ip_id=10, stamps=(int(now), int(now))),
    ]
    for pause_s in (0, *silences_s):
        now += pause_s * 1000 + 5
        ip_id, server_id = ip_id + 2, server_id + 1
        stamps = (int(now), int(now))
        said += [
            Tcp(now, client, SERVER, "PA", c, s, REQUEST, ip_id=ip_id - 1, stamps=stamps),
            Tcp(now + 1, SERVER, client, "PA", s, c + len(REQUEST), ANSWER, ip_id=server_id, stamps=stamps),
            Tcp(now + 2, client, SERVER, "A", c + len(REQUEST), s + len(ANSWER), ip_id=ip_id, stamps=stamps),
        ]
        c, s = c + len(REQUEST), s + len(ANSWER)
    return said


def unheard(said: Sequence[Tcp], silence_s: float, times: Sequence[float] = (0, 0.2, 0.6, 1.4, 3.0, 6.2)) -> list[Tcp]:
    """The next request behind a silence, sent so often."""
    last = said[-1]
    return [
        Tcp(last.at_ms + (silence_s + later) * 1000, last.source, SERVER, "PA", last.seq, last.ack, REQUEST, ip_id=last.ip_id + 1 + number,
            stamps=(int(last.at_ms + (silence_s + later) * 1000), 0))
        for number, later in enumerate(times)
    ]  # fmt: skip


def reset(to: Tcp, *, ttl: int = 64) -> Tcp:
    """A stateless RST for a packet."""
    return Tcp(to.at_ms + 1, to.destination, to.source, "R", to.ack, ttl=ttl)


def others(count: int, every_ms: float) -> list[Tcp]:
    """Healthy exchanges of other ports, spread over the time."""
    return [
        one
        for number in range(count)
        for one in exchange(f"10.0.0.7:{41_000 + number}", SERVER, number * every_ms, isn=9_000_000 * (number + 1))
    ]


def case(folder: Path, at_client: Sequence[Tcp], at_server: Sequence[Tcp] | None) -> Path:
    """Captures of the client, and of the server two routers behind it."""
    write_pcap(folder / "client/eth0.pcap", sorted(at_client, key=lambda one: one.at_ms))
    if at_server is not None:
        far = [dataclasses.replace(one, at_ms=one.at_ms + (0.2 if one.destination == SERVER else -0.2),
                                   ttl=62 if one.destination == SERVER else 64) for one in at_server]  # fmt: skip
        write_pcap(folder / "server/eth0.pcap", sorted(far, key=lambda one: one.at_ms))
    return folder


def as_client(said: Sequence[Tcp]) -> list[Tcp]:
    """Packets as the client's host sees them: the server's arrive two routers on."""
    return [dataclasses.replace(one, ttl=62) if one.source == SERVER and "R" not in one.flags else one for one in said]


def test_lost_behind_a_silence_while_others_pass_is_confirmed_with_its_bracket(tmp_path: Path) -> None:
    healthy, said = others(24, 20_000), talk(CLIENT, [])
    survivor = talk("10.0.0.7:40002", [200], isn=77_000_000)
    lost = unheard(said, 400)
    told = report(case(tmp_path, as_client([*healthy, *survivor, *said, *lost]), [*healthy, *survivor, *said]))
    assert verdicts(told) == {("idle-timeout", "confirmed")}
    (found,) = told.findings
    assert "longer than 200.0 s" in found.explanation
    assert "at most 400.0 s" in found.explanation
    assert "350 s is the default of AWS Network Load Balancer" in found.explanation
    assert "240 s is the default of Azure" in found.explanation
    assert "900 s" not in found.explanation
    assert "`sysctl -w net.ipv4.tcp_keepalive_time=200" in found.fix[0]
    assert any(one.cause == "keepalive-race" for one in found.ruled_out)


def test_a_reset_that_the_server_never_sent_for_what_it_never_got_is_confirmed(tmp_path: Path) -> None:
    healthy, said = others(24, 20_000), talk(CLIENT, [])
    lost = unheard(said, 400, (0,))
    told = report(case(tmp_path, as_client([*healthy, *said, *lost, reset(lost[0], ttl=63)]), [*healthy, *said]))
    assert verdicts(told) == {("idle-timeout", "confirmed")}
    assert "answers it with RST" in told.findings[0].explanation


@pytest.mark.parametrize("with_reset", [False, True])
def test_the_client_alone_cannot_decide(tmp_path: Path, with_reset: bool) -> None:
    healthy, said = others(24, 20_000), talk(CLIENT, [])
    lost = unheard(said, 400, (0,) if with_reset else (0, 0.2, 0.6, 1.4, 3.0, 6.2))
    told = report(case(tmp_path, as_client([*healthy, *said, *lost, *([reset(lost[0], ttl=62)] if with_reset else [])]), None))
    assert ("idle-timeout", "possible") in verdicts(told)
    assert {confidence for _, confidence in verdicts(told)} == {"possible"}
    finding = next(one for one in told.findings if one.cause == "idle-timeout")
    assert "silent for 400.0 s" in finding.explanation
    assert finding.next_evidence[0].startswith("`tcpdump -ni any -s 160 -w server.pcap tcp port 80` on 10.9.0.1")


def test_a_longer_silence_that_others_survived_contradicts(tmp_path: Path) -> None:
    healthy, said = others(24, 30_000), talk(CLIENT, [])
    survivor = talk("10.0.0.7:40002", [600], isn=77_000_000)
    told = report(case(tmp_path, as_client([*healthy, *survivor, *said, *unheard(said, 400)]), [*healthy, *survivor, *said]))
    assert "idle-timeout" not in {cause for cause, _ in verdicts(told)}


def test_without_a_silence_it_is_ruled_out(tmp_path: Path) -> None:
    healthy, said = others(24, 500), talk(CLIENT, [0.1, 0.1])
    told = report(case(tmp_path, as_client([*healthy, *said, *unheard(said, 0.05)]), None))
    assert told.totals.failed == 1
    assert "idle-timeout" not in {cause for cause, _ in verdicts(told)}


def test_a_server_that_closed_is_no_device_that_forgot(tmp_path: Path) -> None:
    healthy, said = others(24, 20_000), talk(CLIENT, [])
    last = said[-1]
    fin = Tcp(last.at_ms + 399_990, SERVER, CLIENT, "FA", last.ack, last.seq, ip_id=99, stamps=(1, 1))
    lost = unheard(said, 400, (0,))
    told = report(case(tmp_path, as_client([*healthy, *said, fin, *lost, reset(lost[0], ttl=62)]), None))
    assert "idle-timeout" not in {cause for cause, _ in verdicts(told)}
    assert ("keepalive-race", "likely") in verdicts(told)


def test_another_port_behind_a_nat_is_joined_and_named(tmp_path: Path) -> None:
    healthy, said = others(24, 20_000), talk(CLIENT, [])
    (stray,) = unheard(said, 400, (0,))
    behind = "203.0.113.9"

    def hidden(address: str) -> str:
        return address.replace("10.0.0.7", behind)

    shown = [dataclasses.replace(one, source=hidden(one.source), destination=hidden(one.destination)) for one in [*healthy, *said]]
    moved = dataclasses.replace(stray, source=f"{behind}:61234")
    told = report(case(tmp_path, as_client([*healthy, *said, stray, reset(stray, ttl=62)]), [*shown, moved, reset(moved)]))
    assert told.totals.failed == 1
    assert verdicts(told) == {("idle-timeout", "confirmed")}
    assert f"It was {behind}:40001 to the server before, and is {behind}:61234 now." in told.findings[0].explanation


def test_defaults_are_told_by_their_bracket() -> None:
    assert [one.seconds for one in defaults_within(300, 400)] == [300, 350]
    assert not defaults_within(100, 200)
    assert sorted(one.seconds for one in DEFAULTS) == [one.seconds for one in DEFAULTS]
