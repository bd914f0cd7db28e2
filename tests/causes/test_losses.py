"""Packets that are seen at one place and not at the next: of which size, at which rate, with what else; and what one place shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import tcpwhy
from tcpwhy.connections.losses import crossings
from tcpwhy.diagnosis.finding import Between, Finding, Report
from tests.causes.cases import only, report, verdicts
from tests.packets import Icmp, Tcp, exchange, write_pcap

CLIENT, SERVER = "10.0.0.7:40001", "10.9.0.1:80"
C, S = 1_001, 501_001
HEAD = b"POST /up HTTP/1.1\r\nContent-Length: 9000\r\n\r\n"
FULL = 1_448
REPEATS = (200, 600, 1_400, 3_000, 6_200)

Drops = Callable[[Tcp], bool]


def others(count: int = 12, every_ms: float = 700) -> list[Tcp]:
    """Healthy exchanges of other ports, spread over the time."""
    return [
        one
        for number in range(count)
        for one in exchange(f"10.0.0.7:{41_000 + number}", SERVER, number * every_ms, isn=9_000_000 * (number + 1))
    ]


def client(at_ms: float, seq: int, payload: bytes = b"", flags: str = "A", *, number: int = 0, ack: int = S) -> Tcp:
    return Tcp(at_ms, CLIENT, SERVER, flags, seq, ack, payload, ip_id=1_000 + round(at_ms * 10) % 50_000 + number, stamps=(round(at_ms), 1))


def server(at_ms: float, ack: int, *, seq: int = S, payload: bytes = b"", sack: tuple[tuple[int, int], ...] = (), flags: str = "A") -> Tcp:
    return Tcp(
        at_ms, SERVER, CLIENT, flags, seq, ack, payload, ip_id=7_000 + round(at_ms * 10) % 50_000, stamps=(round(at_ms), 1), sack=sack
    )


def opened(at_ms: float = 1_000) -> list[Tcp]:
    """The handshake, and the head of a request that is acknowledged."""
    return [
        Tcp(at_ms, CLIENT, SERVER, "S", C - 1, ip_id=9, stamps=(round(at_ms), 0), mss=1460),
        Tcp(at_ms + 1, SERVER, CLIENT, "SA", S - 1, C, stamps=(round(at_ms), round(at_ms)), mss=1460),
        client(at_ms + 2, C),
        client(at_ms + 3, C, HEAD, "PA"),
        server(at_ms + 4, C + len(HEAD)),
    ]


BODY = C + len(HEAD)


def places(folder: Path, said: Sequence[Tcp], lost: Drops, *, more: Sequence[Tcp] | None = None, server_alone: bool = False) -> Report:
    """Captures at the client and, two routers on, at the server: what is `lost` is at its sender only."""
    everyone = [*said, *(others() if more is None else more)]
    near, far = [], []
    for one in sorted(everyone, key=lambda segment: segment.at_ms):
        up = one.destination == SERVER
        if up or not lost(one):
            near.append(one if up else dataclasses.replace(one, ttl=62))
        if not up or not lost(one):
            far.append(dataclasses.replace(one, at_ms=one.at_ms + (0.3 if up else -0.3), ttl=62 if up else 64))
    if not server_alone:
        write_pcap(folder / "client/eth0.pcap", near)
    write_pcap(folder / "server/eth0.pcap", sorted(far, key=lambda segment: segment.at_ms))
    return report(folder)


def alone(folder: Path, said: Sequence[Tcp]) -> Report:
    """The client's capture only."""
    seen = [dataclasses.replace(one, ttl=62) if one.source == SERVER else one for one in [*said, *others()]]
    write_pcap(folder / "client/eth0.pcap", sorted(seen, key=lambda one: one.at_ms))
    return report(folder)


def confirmed(told: Report, cause: str) -> Finding:
    finding = only(told)
    assert (finding.cause, finding.confidence) == (cause, "confirmed"), verdicts(told)
    return finding


# --- packet-loss


def in_vain(size: int = 300, at_ms: float = 1_010) -> list[Tcp]:
    """A small segment that is sent six times, and one behind it that passes: SACK says so."""
    data = b"x" * size
    tries = [client(at_ms + later, BODY, data, "PA", number=number) for number, later in enumerate((0, *REPEATS))]
    behind = client(at_ms + 1, BODY + size, b"y" * 400, "PA")
    return [*tries, behind, server(at_ms + 2, BODY, sack=((BODY + size, BODY + size + 400),))]


def test_small_segments_lost_between_two_places_while_larger_ones_pass_are_confirmed(tmp_path: Path) -> None:
    finding = confirmed(places(tmp_path, [*opened(), *in_vain()], lambda one: one.seq == BODY and bool(one.payload)), "packet-loss")
    assert finding.where == Between(("client", "server"))
    assert "6 of" in finding.explanation
    assert {one.cause for one in finding.ruled_out} >= {"mtu-blackhole", "peer-vanished", "slow-server", "asymmetric-drop"}


def test_a_way_that_became_narrower_after_full_segments_had_passed_has_not_lost_by_chance(tmp_path: Path) -> None:
    """Five times full segments in vain, then a smaller piece passes, and all that follow it are small."""
    full, piece = b"x" * FULL, 1_024
    early = [client(1_010, BODY, full), server(1_011, BODY + FULL)]
    stuck = BODY + FULL
    tries = [client(1_012 + later, stuck, full, number=number) for number, later in enumerate((0, *REPEATS))]
    ahead = [client(1_013 + at / 10, stuck + (1 + at) * FULL, full, number=at) for at in range(4)]
    pieces = [client(10_000 + at * 10, stuck + at * piece, b"x" * piece, "PA") for at in range(7)]
    acks = [server(one.at_ms + 1, one.seq + piece) for one in pieces]
    lost = {one.at_ms for one in (*tries, *ahead)}
    told = places(tmp_path, [*opened(), *early, *tries, *ahead, *pieces, *acks], lambda one: one.at_ms in lost and one.source == CLIENT)
    assert {confidence for _, confidence in verdicts(told)} == {"possible"}
    assert {"mtu-blackhole", "packet-loss"} <= {cause for cause, _ in verdicts(told)}


def test_syns_lost_behind_the_captures_may_be_packet_loss_too_where_short_losses_are_proven(tmp_path: Path) -> None:
    """The last capture is a router's: two SYNs are lost behind it, and later an ACK before it, which is made good at once."""
    syns = [Tcp(1_000 + at, CLIENT, SERVER, "S", C - 1, ip_id=9 + number, mss=1460) for number, at in enumerate((0, 1_030, 3_110))]
    opening = [*syns, *(dataclasses.replace(one, at_ms=one.at_ms + 3_110) for one in opened()[1:])]
    data = [client(4_200, BODY, b"x" * 300, "PA"), server(4_201, BODY + 300), client(4_410, BODY, b"x" * 300, "PA", number=1)]
    data += [server(4_411, BODY + 300)]
    near = [one if one.source == CLIENT else dataclasses.replace(one, ttl=62) for one in [*opening, *data] if one.at_ms != 4_201]
    seen = [*opening, *data, *others()]
    hop = [dataclasses.replace(one, at_ms=one.at_ms + (0.2 if one.source != SERVER else -0.2), ttl=63) for one in seen]
    near += [one if one.source != SERVER else dataclasses.replace(one, ttl=62) for one in others()]
    write_pcap(tmp_path / "client/eth0.pcap", sorted(near, key=lambda one: one.at_ms))
    write_pcap(tmp_path / "router/eth0.pcap", sorted(hop, key=lambda one: one.at_ms))
    assert ("packet-loss", "possible") in verdicts(report(tmp_path))


def test_what_ends_a_wait_after_the_client_had_given_up_is_no_cause_of_it(tmp_path: Path) -> None:
    """Its close, sent again, brings the ACK that had been lost; the rest of the answer then meets a socket that nobody reads."""
    asked, half, rest = C + len(HEAD), b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc", b"z" * 96
    tries = [server(1_010 + later, asked, payload=half, flags="PA") for later in (0, *REPEATS[:4])]
    acks = [client(one.at_ms + 1, asked, ack=S + len(half)) for one in tries]
    closes = [client(at, asked, flags="FA", ack=S + len(half)) for at in (5_100, 5_300)]
    end = [server(5_302, asked + 1, seq=S + len(half), payload=rest, flags="PA"), Tcp(5_303, CLIENT, SERVER, "R", asked + 1)]
    lost = {*(one.at_ms for one in acks), closes[0].at_ms}
    told = places(tmp_path, [*opened(), *tries, *acks, *closes, *end], lambda one: one.at_ms in lost and one.source == CLIENT)
    confirmed(told, "packet-loss")


def test_who_gives_up_as_the_last_repetition_comes_through_has_waited_for_it(tmp_path: Path) -> None:
    """The end of an upload is sent five times in vain; the sixth is acknowledged, and the client closes at once: it was too late."""
    tries = [client(1_010 + later, BODY, b"x" * 300, "PA", number=number) for number, later in enumerate((0, *REPEATS))]
    end = BODY + 300
    came = tries[-1].at_ms
    last = [server(came + 1, end), client(came + 1.1, end, flags="FA"), server(came + 5, end, payload=b"HTTP/1.1 200", flags="PA")]
    last.append(Tcp(came + 5.1, CLIENT, SERVER, "R", end))
    lost = {one.at_ms for one in tries[:-1]} | {last[1].at_ms}
    told = places(tmp_path, [*opened(), *tries, *last], lambda one: one.at_ms in lost and one.source == CLIENT)
    confirmed(told, "packet-loss")


def test_a_repetition_that_got_through_begins_a_new_wait_for_what_follows(tmp_path: Path) -> None:
    asked, one, two = C + len(HEAD), b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 500, b"y" * 400
    first = [server(1_010 + later, asked, payload=one + two, flags="PA") for later in (0, 10)]
    parts = [server(at, asked, payload=one, flags="PA") for at in (1_300, 2_000)]
    second = [server(at, asked, seq=S + len(one), payload=two, flags="PA") for at in (2_002, 2_600, 3_500, 4_700)]
    story = [*first, *parts, client(2_001, asked, ack=S + len(one)), *second]
    story += [client(5_600, asked, flags="FA", ack=S + len(one)), server(5_601, asked + 1, seq=S + len(one + two))]
    story += [server(7_000, asked + 1, seq=S + len(one), payload=two, flags="PA"), Tcp(7_001, CLIENT, SERVER, "R", asked + 1)]
    lost = {item.at_ms for item in (*first, parts[0], *second)}
    told = places(tmp_path, [*opened(), *story], lambda item: item.at_ms in lost and item.source == SERVER)
    confirmed(told, "packet-loss")


def test_a_host_without_the_connection_may_have_closed_unseen(tmp_path: Path) -> None:
    """At the server alone: the request comes 6 s after the handshake, and its answer is refused; the FIN was lost before."""
    story = [
        *opened()[:3],
        client(7_000, C, HEAD, "PA"),
        server(7_001, C + len(HEAD)),
        server(7_002, C + len(HEAD), payload=b"HTTP/1.1 200"),
    ]
    story.append(Tcp(7_003, CLIENT, SERVER, "R", C + len(HEAD), ttl=62))
    told = places(tmp_path, story, lambda _: False, server_alone=True)
    assert {"packet-loss", "reset-with-unread-data"} <= {cause for cause, _ in verdicts(told)}
    assert {confidence for _, confidence in verdicts(told)} == {"possible"}


def test_lost_acks_are_loss_as_well(tmp_path: Path) -> None:
    data = b"x" * 300
    tries = [client(1_010 + later, BODY, data, "PA", number=number) for number, later in enumerate((0, *REPEATS))]
    acks = [server(one.at_ms + 1, BODY + 300) for one in tries]
    late = [server(9_000, BODY + 300, payload=b"HTTP/1.1 200 OK\r\n\r\n", flags="PA"), client(9_001, BODY + 300, ack=S + 19)]
    finding = confirmed(places(tmp_path, [*opened(), *tries, *acks, *late], lambda one: one in acks), "packet-loss")
    assert "the answers to it" in finding.explanation


def test_the_sender_alone_cannot_tell_where(tmp_path: Path) -> None:
    assert ("packet-loss", "possible") in verdicts(alone(tmp_path, [*opened(), *in_vain()]))


def test_the_receiver_alone_cannot_tell_why(tmp_path: Path) -> None:
    given_up = [client(9_000, BODY + 700, flags="FA"), server(9_001, BODY, sack=((BODY + 300, BODY + 701),))]
    told = places(tmp_path, [*opened(), *in_vain(), *given_up], lambda one: one.seq == BODY and bool(one.payload), server_alone=True)
    assert all(confidence == "possible" for _, confidence in verdicts(told))


def test_all_of_one_connection_lost_from_a_moment_on_while_others_pass_is_withheld(tmp_path: Path) -> None:
    data = [client(1_010 + later, BODY, b"x" * 300, "PA", number=number) for number, later in enumerate((0, *REPEATS))]
    told = places(tmp_path, [*opened(), *data], lambda one: one in data)
    assert ("packet-loss", "possible") in verdicts(told)
    assert all(confidence == "possible" for _, confidence in verdicts(told))


def test_bytes_that_were_acknowledged_all_the_same_were_not_lost(tmp_path: Path) -> None:
    """A capture that drops a burst in the middle is no lossy link, however much it lacks."""
    said = [*opened()]
    for number in range(40):
        said.append(client(1_010 + number, BODY + number * 300, b"x" * 300, "PA", number=number))
        said.append(server(1_010.8 + number, BODY + (number + 1) * 300))
    more = [one for number in range(40) for one in exchange(f"10.0.0.7:{42_000 + number}", SERVER, 100 * number, isn=10**7 * (number + 1))]
    burst = {BODY + number * 300 for number in range(5, 30)}
    told = places(tmp_path, said, lambda one: one.seq in burst and bool(one.payload), more=more)
    assert not told.findings


# --- the link


def lossy(count: int, every: int) -> tuple[list[Tcp], list[Tcp]]:
    """Healthy uploads of ten segments; of these each `every`-th is lost once and repeated after 200 ms."""
    said, lost, at = [], [], 0
    for number in range(count):
        name, c, s, begin = f"10.0.0.7:{42_000 + number}", 10**7 * (number + 1), 10**7 * (number + 1) + 500_000, 100.0 * number
        said += [
            Tcp(begin, name, SERVER, "S", c - 1, ip_id=1, stamps=(round(begin), 0), mss=1460),
            Tcp(begin + 1, SERVER, name, "SA", s - 1, c, stamps=(round(begin), 1), mss=1460),
            Tcp(begin + 2, name, SERVER, "A", c, s, ip_id=2, stamps=(round(begin) + 2, 1)),
        ]
        for piece in range(10):
            now, at = begin + 5 + 3 * piece, at + 1
            one = Tcp(now, name, SERVER, "PA", c + 200 * piece, s, b"z" * 200, ip_id=10 + piece, stamps=(round(now), 1))
            said.append(one)
            if at % every == 0:
                lost.append(one)
                said.append(dataclasses.replace(one, at_ms=now + 200, ip_id=50 + piece, stamps=(round(now) + 200, 1)))
        said.append(Tcp(begin + 300, SERVER, name, "A", s, c + 2_000, ip_id=3, stamps=(round(begin) + 300, 1)))
    return said, lost


def test_a_link_that_loses_two_per_cent_is_told_with_every_connection_that_lost(tmp_path: Path) -> None:
    said, lost = lossy(70, 37)
    finding = confirmed(places(tmp_path, said, lambda one: one in lost, more=[]), "packet-loss")
    assert {one.client for one in finding.connections} == {one.source for one in lost}
    assert f"{len(lost)} of" in finding.explanation
    assert "0 of" in finding.explanation


def test_a_link_that_loses_half_a_per_cent_is_healthy(tmp_path: Path) -> None:
    said, lost = lossy(70, 170)
    assert lost
    assert not places(tmp_path, said, lambda one: one in lost, more=[]).findings


def test_what_a_capture_that_began_late_lacks_is_not_lost(tmp_path: Path) -> None:
    said, _ = lossy(70, 10**6)
    told = places(tmp_path, said, lambda one: one.at_ms < 2_500 and one.destination == SERVER, more=[])
    assert not told.findings


# --- mtu-blackhole


def too_large(*, small_behind: bool, at_ms: float = 1_010, count: int = 3) -> list[Tcp]:
    """Full segments and a small one; the first is repeated, the small one passes."""
    flight = [client(at_ms, BODY + FULL * number, b"x" * FULL, number=number) for number in range(count)]
    again = [client(at_ms + later, BODY, b"x" * FULL, number=number + 5) for number, later in enumerate(REPEATS)]
    if not small_behind:
        return [*flight, *again]
    tail = BODY + count * FULL
    return [*flight, client(at_ms + 1, tail, b"y" * 90, "PA"), server(at_ms + 2, BODY, sack=((tail, tail + 90),)), *again]


def is_full(one: Tcp) -> bool:
    return len(one.payload) == FULL


def test_only_full_segments_missing_at_the_next_place_are_an_mtu_black_hole(tmp_path: Path) -> None:
    finding = confirmed(places(tmp_path, [*opened(), *too_large(small_behind=True)], is_full), "mtu-blackhole")
    assert "Packets of 142 bytes pass, packets of 1500 bytes do not" in finding.explanation
    assert "No ICMP error" in finding.explanation
    assert any("tcp_mtu_probing" in one for one in finding.fix)


def test_an_icmp_error_that_the_sender_never_sees_names_the_size_and_the_tunnel(tmp_path: Path) -> None:
    said = [*opened(), *too_large(small_behind=True)]
    full = [one for one in said if is_full(one)]
    router = [
        dataclasses.replace(one, at_ms=one.at_ms + (0.1 if one.destination == SERVER else -0.1), ttl=63) for one in [*said, *others()]
    ]
    errors = [Icmp(one.at_ms + 0.2, "10.5.0.1", 3, 4, one, mtu=1450) for one in full]
    write_pcap(tmp_path / "router/eth0.pcap", sorted([*router, *errors], key=lambda one: one.at_ms))
    finding = confirmed(places(tmp_path, said, is_full), "mtu-blackhole")
    assert "the link carries 1450, 50 fewer than 1500, as with VXLAN" in finding.explanation
    assert "never at client" in finding.explanation
    assert any("--set-mss 1410" in one for one in finding.fix)


def test_the_sender_alone_tells_it_by_what_is_acknowledged_behind_the_hole(tmp_path: Path) -> None:
    told = alone(tmp_path, [*opened(), *too_large(small_behind=True, count=10)])
    assert verdicts(told) == {("mtu-blackhole", "likely")}


def test_the_sender_alone_does_not_take_a_few_lost_segments_for_their_size(tmp_path: Path) -> None:
    told = verdicts(alone(tmp_path, [*opened(), *too_large(small_behind=True)]))
    assert told >= {("mtu-blackhole", "possible"), ("packet-loss", "possible")}
    assert all(confidence == "possible" for _, confidence in told)


def test_the_sender_alone_without_any_small_segment_behind_is_withheld(tmp_path: Path) -> None:
    told = verdicts(alone(tmp_path, [*opened(), *too_large(small_behind=False)]))
    assert told >= {("mtu-blackhole", "possible"), ("packet-loss", "possible")}
    assert all(confidence == "possible" for _, confidence in told)


def test_a_way_that_became_narrower_stays_possible_although_large_segments_had_passed(tmp_path: Path) -> None:
    """A full segment passed, the next is sent six times in vain, and half of it passes at once (tcp_mtu_probing)."""
    passed = [client(1_010, BODY, b"a" * FULL), server(1_011, BODY + FULL)]
    stuck = [client(1_012 + later, BODY + FULL, b"b" * FULL) for later in (0, *REPEATS[:4])]
    halves = [client(at, BODY + FULL + number * 724, b"b" * 724) for number, at in enumerate((6_300, 6_302))]
    acks = [server(one.at_ms + 1, one.seq + 724) for one in halves]
    told = verdicts(alone(tmp_path, [*opened(), *passed, *stuck, *halves, *acks]))
    assert told >= {("mtu-blackhole", "possible"), ("packet-loss", "possible")}
    assert all(confidence == "possible" for _, confidence in told)


def test_the_receiver_alone_shows_a_hole_of_full_segments(tmp_path: Path) -> None:
    given_up = [client(9_000, BODY + 3 * FULL + 90, flags="FA"), server(9_001, BODY)]
    told = places(tmp_path, [*opened(), *too_large(small_behind=True), *given_up], is_full, server_alone=True)
    assert all(confidence == "possible" for _, confidence in verdicts(told))


def test_smaller_segments_that_rescue_the_connection_tell_it_too(tmp_path: Path) -> None:
    said = [*opened(), *too_large(small_behind=False)]
    begin, end = BODY, BODY + 3 * FULL
    rescue = [
        client(11_000 + number, seq, b"x" * min(1_000, end - seq), number=number) for number, seq in enumerate(range(begin, end, 1_000))
    ]
    acks = [server(one.at_ms + 0.9, one.seq + len(one.payload)) for one in rescue]
    finding = confirmed(places(tmp_path, [*said, *rescue, *acks], is_full), "mtu-blackhole")
    assert "smaller segments were tried" in finding.explanation


def test_loss_that_spares_no_size_is_no_mtu_black_hole(tmp_path: Path) -> None:
    said = [*opened(), *too_large(small_behind=True)]
    first = [one for one in said if one.seq == BODY and one.payload]
    told = places(tmp_path, said, lambda one: one in first)
    assert "mtu-blackhole" not in {cause for cause, confidence in verdicts(told) if confidence != "possible"}
    assert ("packet-loss", "confirmed") in verdicts(told)


def test_a_record_that_the_capture_holds_whole_and_cut_is_sent_once(tmp_path: Path) -> None:
    """A VLAN's interface has one large record of which its parent has the pieces; a capture of `any` with cooked headers tells neither."""
    whole = client(1_500, BODY, b"x" * 5 * FULL, "PA")
    pieces = [client(1_500.01, BODY + at * FULL, b"x" * FULL, number=at, flags="PA" if at == 4 else "A") for at in range(5)]
    story = [
        *opened(),
        *pieces,
        server(1_501, BODY + 5 * FULL),
        server(1_502, BODY + 5 * FULL, payload=b"HTTP/1.1 200 OK\r\n\r\n", flags="PA"),
    ]
    everyone = sorted([*story, *others()], key=lambda one: one.at_ms)
    write_pcap(tmp_path / "client/any.pcap", sorted([*everyone, whole], key=lambda one: one.at_ms))
    far = [dataclasses.replace(one, at_ms=one.at_ms + (0.3 if one.destination == SERVER else -0.3)) for one in everyone]
    write_pcap(tmp_path / "server/eth0.pcap", sorted(far, key=lambda one: one.at_ms))
    with tcpwhy.open_case(tmp_path, index=False) as case:
        [connection] = case.find(f"{CLIENT}-{SERVER}")
        up = next(one for one in crossings(connection) if one.side == "client")
    assert (up.near, up.far, up.doubt) == ("client", "server", None)
    assert up.lost == 0
    assert sum(one.length for one in up.passed) == len(HEAD) + 5 * FULL
