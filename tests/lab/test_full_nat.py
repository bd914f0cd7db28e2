"""The lab's full-NAT balancer without a network: segments go in, and what DPVS and Alibaba's LVS make of them must come out."""

from __future__ import annotations

import dataclasses
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwhy.evidence.source import Source
from tcpwhy.lab.balancer_tables import dpvs_table, lvs_table
from tcpwhy.lab.fullnat import PROXY_V2, Entry, FullNat, Manner
from tcpwhy.lab.segment import ACK, FIN, PSH, RST, SYN, End, Segment, checksum, read_options, read_segment
from tcpwhy.tables.director import BalancedConnection
from tcpwhy.tables.ipvs_connections import parse_connections, parse_proc_connections
from tcpwhy.tables.unread import UnreadPieces

CLIENT: End = (socket.inet_aton("192.0.2.7"), 40001)
VIRTUAL: End = (socket.inet_aton("198.51.100.1"), 80)
REAL: End = (socket.inet_aton("10.0.0.11"), 8080)
LOCAL = socket.inet_aton("10.0.1.1")
SIX = [(socket.inet_pton(socket.AF_INET6, f"2001:db8::{number}"), 4000 + number) for number in range(4)]
LINUX_SYN = [b"\x02\x04\x05\xb4", b"\x04\x02", b"\x08\x0a" + bytes(8), b"\x01", b"\x03\x03\x07"]
TOA = b"\xfe\x08" + struct.pack("!H", CLIENT[1]) + CLIENT[0]


def full_nat(manner: Manner | None = None, *, virtual: End = VIRTUAL, real: End = REAL, local: bytes = LOCAL, seed: int = 1) -> FullNat:
    return FullNat(manner or Manner(), virtual, [real], [local], ports=(2000, 2009), mtu=1500, seed=seed)


class Conversation:
    """A client and a server that talk through a balancer; both count as their own TCP would."""

    def __init__(self, balancer: FullNat, *, client: End = CLIENT, options: list[bytes] | None = None) -> None:
        self.balancer = balancer
        self.client = client
        self.sequence, self.server_sequence, self.now = 1000, 5000, 100.0
        self.syn = self.ask(SYN, options=LINUX_SYN if options is None else options)
        assert self.syn is not None
        self.server, self.local = self.syn.target, self.syn.source
        self.sequence += 1
        self.heard = (self.syn.sequence + 1) % 2**32  # what the server expects next
        self.syn_ack = self.answer(SYN | ACK, options=[b"\x02\x04\x05\xb4", b"\x04\x02"])
        self.server_sequence += 1

    def take(self, segment: Segment) -> Segment | None:
        self.now += 0.01
        taken = self.balancer.take(segment.to_bytes(), self.now)
        return None if taken is None else read_segment(taken.to_bytes())

    def ask(self, flags: int, payload: bytes = b"", *, sequence: int | None = None, options: list[bytes] | None = None) -> Segment | None:
        """The client's segment as the server gets it."""
        number = self.sequence if sequence is None else sequence
        acknowledged = self.server_sequence if flags & ACK else 0
        return self.take(
            Segment(self.client, self.balancer.virtual, number, acknowledged, flags, 500, options=options or [], payload=payload)
        )

    def get(self, flags: int, payload: bytes = b"", *, sequence: int | None = None, options: list[bytes] | None = None) -> Segment:
        """The same where the server must get it."""
        segment = self.ask(flags, payload, sequence=sequence, options=options)
        assert segment is not None
        return segment

    def answer(self, flags: int, payload: bytes = b"", *, options: list[bytes] | None = None) -> Segment:
        """The server's segment as the client gets it."""
        segment = self.take(
            Segment(self.server, self.local, self.server_sequence, self.heard, flags, 500, options=options or [], payload=payload)
        )
        assert segment is not None
        return segment


@given(
    st.booleans(),
    st.tuples(*[st.integers(0, 2**32 - 1)] * 2),
    st.integers(0, 0x1FF),
    st.lists(st.sampled_from([b"\x01", b"\x02\x04\x05\xb4", b"\x04\x02", b"\x03\x03\x07"]), max_size=9),
    st.binary(max_size=60),
)
def test_a_segment_survives_being_written_and_its_checksums_hold(
    six: bool, numbers: tuple[int, int], flags: int, options: list[bytes], payload: bytes
) -> None:
    ends = (SIX[0], SIX[1]) if six else (CLIENT, VIRTUAL)
    segment = Segment(*ends, *numbers, flags, 7, options=options, payload=payload, fragment=0 if six else 0x4000)
    packet = segment.to_bytes()
    read = read_segment(packet)
    assert read is not None
    filled = read.options[len(options) :]
    assert set(filled) <= {b"\x01"}
    assert dataclasses.replace(read, options=options) == segment
    assert len(packet) == segment.size
    body = packet[40 if six else 20 :]
    assert checksum(ends[0][0] + ends[1][0] + struct.pack("!II", len(body), 6) + body) == 0
    assert six or checksum(packet[:20]) == 0


@given(st.binary(max_size=120))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    read_segment(data)
    read_segment(b"\x45\x00" + struct.pack("!H", len(data) + 20) + bytes(5) + b"\x06" + bytes(10) + data)
    assert sum(map(len, read_options(data))) <= len(data)


def test_the_servers_side_has_other_numbers_and_no_timestamps() -> None:
    talk = Conversation(full_nat())
    assert talk.syn is not None
    assert talk.syn.source[0] == LOCAL
    assert talk.syn.target == REAL
    assert talk.syn.sequence != 1000
    kept = [option for option in LINUX_SYN if option[0] != 8]
    assert [option for option in talk.syn.options if option != b"\x01"] == [option for option in kept if option != b"\x01"]
    assert talk.syn.options.count(b"\x01") == 11  # the timestamps' ten bytes and one that was there
    assert talk.syn_ack.source == VIRTUAL
    assert talk.syn_ack.acknowledgement == 1001
    assert talk.syn_ack.sequence == 5000
    assert talk.syn_ack.options[0] == b"\x02\x04" + struct.pack("!H", 1460 - 8)
    data = talk.get(ACK | PSH, b"GET")
    assert (data.sequence - talk.syn.sequence) % 2**32 == 1
    assert data.acknowledgement == 5001
    retransmitted = Segment(CLIENT, VIRTUAL, 1000, 0, SYN, 500, options=LINUX_SYN)
    assert talk.take(retransmitted) == talk.syn


def test_dpvs_marks_what_acknowledges_nothing_of_the_server_and_no_syn() -> None:
    talk = Conversation(full_nat())
    assert talk.syn is not None
    assert TOA not in talk.syn.options
    assert talk.get(ACK).options == [TOA]
    assert talk.get(ACK | PSH, b"GET ").options == [TOA]
    assert talk.get(ACK | FIN).options == [TOA]
    assert talk.get(RST | ACK).options == []
    talk.server_sequence += 10
    assert talk.get(ACK | PSH, b"more").options == []


def test_lvs_marks_the_syn_too_and_no_fin() -> None:
    talk = Conversation(full_nat(Manner(on_syn=True, on_fin=False)))
    assert talk.syn is not None
    assert talk.syn.options[0] == TOA
    assert talk.get(ACK).options == [TOA]
    assert talk.get(ACK | FIN).options == []


@pytest.mark.parametrize(("kind", "manner"), [(254, Manner()), (253, Manner(kind6=253, on_syn=True))])
def test_an_address_of_ipv6_takes_20_bytes(kind: int, manner: Manner) -> None:
    talk = Conversation(full_nat(manner, virtual=SIX[0], real=SIX[1], local=SIX[2][0]), client=SIX[3])
    option = bytes([kind, 20]) + struct.pack("!H", SIX[3][1]) + SIX[3][0]
    assert talk.get(ACK).options == [option]
    assert talk.syn is not None
    assert (option in talk.syn.options) == manner.on_syn
    assert talk.syn_ack.options[0] == b"\x02\x04" + struct.pack("!H", 1460 - 20)


def test_between_ip_versions_the_option_is_that_of_the_client() -> None:
    talk = Conversation(full_nat(virtual=SIX[0]), client=SIX[3])
    assert talk.syn is not None
    assert not talk.syn.is_ipv6
    assert (talk.syn.source[0], talk.syn.target, talk.syn.fragment, talk.syn.traffic) == (LOCAL, REAL, 0x4000, 0)
    assert talk.get(ACK).options == [b"\xfe\x14" + struct.pack("!H", SIX[3][1]) + SIX[3][0]]
    assert (talk.syn_ack.source, talk.syn_ack.target) == (SIX[0], SIX[3])
    assert talk.syn_ack.options[0] == b"\x02\x04" + struct.pack("!H", 1460 - 20 - 20)


def test_the_option_may_stand_anywhere() -> None:
    places = set()
    for number in range(60):
        talk = Conversation(full_nat(Manner(kind4=200, place="anywhere", on_syn=True), seed=number))
        assert talk.syn is not None
        option = b"\xc8" + TOA[1:]
        assert option in talk.syn.options
        places.add(sum(map(len, talk.syn.options[: talk.syn.options.index(option)])))
    assert len(places) >= 8
    last = Conversation(full_nat(Manner(place="last", on_syn=True)))
    assert last.syn is not None
    assert [option for option in last.syn.options if option != b"\x01"][-1] == TOA


def test_room_is_made_for_the_option_and_a_full_packet_goes_without() -> None:
    balancer = full_nat()
    talk = Conversation(balancer)
    sack = b"\x05\x22" + bytes(32)
    assert talk.get(ACK, options=[b"\x01", b"\x01", sack]).options == [TOA]
    full = talk.get(ACK, bytes(1460))
    assert full.options == []
    assert len(full.payload) == 1460
    assert balancer.unmarked == 1


def test_blocks_of_sack_are_shifted_back() -> None:
    talk = Conversation(full_nat())
    first = talk.heard
    edges = struct.pack("!II", (first + 100) % 2**32, (first + 200) % 2**32)
    answer = talk.answer(ACK, options=[b"\x01", b"\x01", b"\x05\x0a" + edges])
    assert answer.options[-1] == b"\x05\x0a" + struct.pack("!II", 1101, 1201)


@pytest.mark.parametrize(
    ("mark", "header"),
    [
        ("proxy-v1", b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 80\r\n"),
        ("proxy-v2", PROXY_V2 + b"\x21\x11\x00\x0c" + CLIENT[0] + VIRTUAL[0] + struct.pack("!HH", 40001, 80)),
    ],
)
def test_a_proxy_header_stands_before_the_first_data_and_is_hidden_from_the_client(mark: str, header: bytes) -> None:
    talk = Conversation(full_nat(Manner(mark=mark)))
    assert talk.get(ACK).options == []
    start = talk.heard
    first = talk.get(ACK | PSH, b"GET /")
    assert (first.sequence, first.payload) == (start, header + b"GET /")
    talk.heard = (start + len(header) + 2) % 2**32
    assert talk.answer(ACK).acknowledgement == 1003
    talk.heard = (start + 3) % 2**32  # a part of the header alone was acknowledged
    assert talk.answer(ACK).acknowledgement == 1001
    again = talk.get(ACK | PSH, b"GET /")
    assert again == first
    more = talk.get(ACK | PSH, b"more", sequence=1006)
    assert (more.sequence, more.payload) == ((start + len(header) + 5) % 2**32, b"more")


def test_strangers_and_packets_of_no_connection_are_dropped() -> None:
    balancer = full_nat()
    assert balancer.take(Segment(CLIENT, VIRTUAL, 1, 1, ACK, 1).to_bytes(), 1.0) is None
    assert balancer.take(Segment(CLIENT, REAL, 1, 0, SYN, 1).to_bytes(), 1.0) is None
    assert balancer.take(Segment(REAL, (LOCAL, 2000), 1, 1, ACK, 1).to_bytes(), 1.0) is None


def test_a_port_is_used_again_only_when_its_entry_is_gone() -> None:
    balancer = full_nat(Manner(time_wait_s=0.5))
    talks = [Conversation(balancer, client=(CLIENT[0], 1000 + number)) for number in range(10)]
    locals_ = {talk.local for talk in talks}
    assert len(locals_) == 10
    assert balancer.take(Segment(CLIENT, VIRTUAL, 1, 0, SYN, 1).to_bytes(), 101.0) is None
    assert balancer.refused == 1
    talks[3].get(ACK | FIN)
    talks[3].answer(ACK | FIN)
    assert balancer.entries[3].state == "TIME_WAIT"
    assert balancer.expire(talks[3].now + 0.4) == []
    balancer.expire(talks[3].now + 0.6)
    assert len(balancer.entries) == 9
    assert Conversation(balancer).local == talks[3].local


def test_an_idle_entry_ends_with_a_reset_to_both_ends() -> None:
    talk = Conversation(full_nat())
    sent = talk.get(ACK | PSH, b"GET")
    talk.heard = (talk.heard + 3) % 2**32
    talk.answer(ACK | PSH, b"answer")
    assert talk.balancer.expire(talk.now + 89) == []
    to_server, to_client = talk.balancer.expire(talk.now + 91)
    assert (to_server.source, to_server.target, to_client.source, to_client.target) == (talk.local, REAL, VIRTUAL, CLIENT)
    assert to_server.sequence == (sent.sequence + 3) % 2**32
    assert (to_client.sequence, to_client.acknowledgement) == (5001 + 6, 1004)
    assert to_server.flags == to_client.flags == RST | ACK
    assert talk.balancer.entries == []


@pytest.mark.parametrize("six", [False, True])
def test_its_tables_are_read_as_those_of_the_real_programs(six: bool) -> None:
    ends = SIX if six else [CLIENT, VIRTUAL, (LOCAL, 2000), REAL]
    entry = Entry(ends[0], ends[1], ends[2], ends[3], client_isn=0, shift=0, state="ESTABLISHED", touched=100.0)
    unread = UnreadPieces()
    source = Source("balancer", "table")
    printed = parse_connections(dpvs_table([entry], 130.0).splitlines(), source, unread)
    listed = parse_proc_connections(lvs_table([entry], 130.0).splitlines(), source, unread)
    for (read,) in (printed, listed):
        assert ends_of(read) == ends
        assert (read.state, read.expires_s) == ("ESTABLISHED", 60)


def ends_of(read: BalancedConnection) -> list[End]:
    pairs = (
        (read.client_ip, read.client_port),
        (read.virtual_ip, read.virtual_port),
        (read.local_ip, read.local_port or 0),
        (read.real_ip, read.real_port),
    )
    return [(socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip), port) for ip, port in pairs]
