"""Connection tracking as conntrack 1.4.7 and Linux 6.18 print it."""

# ruff: noqa: E501 (the lines are as the programs write them)

import shutil
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwhy.evidence import Source
from tcpwhy.tables import conntrack
from tcpwhy.tables.conntrack import Conntrack, Tuple, parse_conntrack

HERE = Source("gw", "gw/state/conntrack.txt")
EXTENDED = """\
conntrack v1.4.7 (conntrack-tools): 12 flow entries have been shown.
ipv4     2 tcp      6 431997 ESTABLISHED src=10.1.0.2 dst=10.2.0.2 sport=41920 dport=81 src=10.2.0.2 dst=10.2.0.1 sport=81 dport=41920 [ASSURED] mark=0 use=1
ipv4     2 tcp      6 117 SYN_SENT src=10.1.0.2 dst=10.2.0.77 sport=48218 dport=5555 [UNREPLIED] src=10.2.0.77 dst=10.2.0.1 sport=5555 dport=48218 mark=0 use=2
ipv6     10 icmpv6   58 28 src=fd01::2 dst=fd02::2 type=128 code=0 id=78 src=fd02::2 dst=fd02::1 type=129 code=0 id=78 mark=0 use=1
ipv4     2 icmp     1 28 src=10.1.0.2 dst=10.2.0.2 type=8 code=0 id=77 src=10.2.0.2 dst=10.2.0.1 type=0 code=0 id=77 mark=0 use=1
ipv4     2 tcp      6 431996 ESTABLISHED src=10.1.0.2 dst=10.2.0.2 sport=51278 dport=6667 zone-orig=6 src=10.2.0.2 dst=10.2.0.1 sport=6667 dport=51278 [ASSURED] mark=0 use=1
ipv4     2 tcp      6 115 SYN_SENT src=10.1.0.2 dst=10.2.0.2 sport=56042 dport=6666 [UNREPLIED] src=10.2.0.2 dst=10.2.0.1 sport=6666 dport=56042 mark=0 zone=5 use=1
ipv4     2 unknown  4 598 src=10.1.0.2 dst=10.2.0.2 [UNREPLIED] src=10.2.0.2 dst=10.2.0.1 mark=0 use=1
ipv4     2 gre      47 28 src=10.1.0.2 dst=10.2.0.2 srckey=0x0 dstkey=0x0 [UNREPLIED] src=10.2.0.2 dst=10.2.0.1 srckey=0x0 dstkey=0x0 mark=0 use=1
ipv6     10 tcp      6 58 CLOSE_WAIT src=fd01::2 dst=fd02::2 sport=34410 dport=81 src=fd02::2 dst=fd02::1 sport=81 dport=34410 [ASSURED] mark=0 use=1
ipv4     2 udp      17 28 src=10.1.0.2 dst=10.2.0.2 sport=46059 dport=54 [UNREPLIED] src=10.2.0.2 dst=10.2.0.1 sport=54 dport=46059 mark=0 use=1
ipv4     2 tcp      6 431995 ESTABLISHED src=10.1.0.2 dst=10.9.9.9 sport=37782 dport=80 src=10.2.0.2 dst=10.2.0.1 sport=8080 dport=37782 [ASSURED] mark=42 use=1
ipv4     2 tcp      6 431993 ESTABLISHED src=10.1.0.2 dst=10.1.0.1 sport=37790 dport=9 src=10.1.0.1 dst=10.1.0.2 sport=9 dport=37790 [ASSURED] mark=0 use=1
"""
PROC = """\
ipv6     10 tcp      6 58 CLOSE_WAIT src=fd01:0000:0000:0000:0000:0000:0000:0002 dst=fd02:0000:0000:0000:0000:0000:0000:0002 sport=34410 dport=81 src=fd02:0000:0000:0000:0000:0000:0000:0002 dst=fd02:0000:0000:0000:0000:0000:0000:0001 sport=81 dport=34410 [ASSURED] mark=0 zone=0 use=2
ipv4     2 gre      47 28 timeout=30, stream_timeout=180 src=10.1.0.2 dst=10.2.0.2 srckey=0x0 dstkey=0x0 [UNREPLIED] src=10.2.0.2 dst=10.2.0.1 srckey=0x0 dstkey=0x0 mark=0 zone=0 use=2
ipv4     2 tcp      6 431996 ESTABLISHED src=10.1.0.2 dst=10.2.0.2 sport=54658 dport=6667 zone-orig=6 packets=12 bytes=637 src=10.2.0.2 dst=10.2.0.1 sport=6667 dport=54658 packets=7 bytes=377 [ASSURED] mark=0 delta-time=3 use=2
ipv4     2 tcp      6 src=10.1.0.2 dst=10.2.0.2 sport=54660 dport=80 src=10.2.0.2 dst=10.2.0.1 sport=80 dport=54660 [OFFLOAD] mark=0 secctx=system_u:object_r:unlabeled_t:s0 zone=0 use=3
"""
STAMPED = "tcp      6 115 SYN_SENT src=10.1.0.2 dst=10.2.0.2 sport=52292 dport=6666 packets=1 bytes=60 [UNREPLIED] src=10.2.0.2 dst=10.2.0.1 sport=6666 dport=52292 packets=0 bytes=0 mark=0 zone=5 delta-time=4 [start=Sat Nov 21 13:17:37 2026] use=1 id=2286943675 labels=a,b helper=ftp"
OLD = "tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=4000 dport=80 packets=3 bytes=164 src=10.0.0.2 dst=10.0.0.1 sport=80 dport=4000 packets=2 bytes=112 [ASSURED] use=1 rate=12"
SPLIT = """\
ipv4     2 unknown  41 584 src=10.0.10.1 dconntrack v1.4.7 (conntrack-tools): 1 flow entries have been shown.
st=10.0.10.6 [UNREPLIED] src=10.0.10.6 dst=10.0.10.1 mark=0 use=1
"""


def parse(text: str) -> Conntrack:
    return parse_conntrack(text.splitlines(), HERE)


def test_every_row_that_conntrack_prints_is_read() -> None:
    table = parse(EXTENDED)
    assert (len(table.entries), table.unread.count, table.is_complete) == (12, 0, True)
    assert [entry.protocol for entry in table.entries[2:8]] == ["icmpv6", "icmp", "tcp", "tcp", "4", "gre"]
    first = table.entries[0]
    assert (first.state, first.timeout_s, set(first.flags), first.source.line) == ("ESTABLISHED", 431997, {"ASSURED"}, 2)
    assert first.original == Tuple("10.1.0.2", "10.2.0.2", 41920, 81)
    assert first.reply == Tuple("10.2.0.2", "10.2.0.1", 81, 41920)
    assert table.entries[1].flags == {"UNREPLIED"}
    assert table.entries[3].original == Tuple("10.1.0.2", "10.2.0.2", None, None)


def test_translation_is_the_difference_of_the_two_tuples() -> None:
    table = parse(EXTENDED)
    seen = {entry.original.destination_port: (entry.is_destination_translated, entry.is_source_translated) for entry in table.entries}
    assert seen[80] == (True, True)  # DNAT to 10.2.0.2:8080, and masqueraded
    assert seen[81] == (False, True)
    assert seen[9] == (False, False)


def test_an_entry_is_found_by_both_its_tuples_in_its_zone() -> None:
    table = parse(EXTENDED)
    asked = Tuple("10.1.0.2", "10.9.9.9", 37782, 80)
    answered = Tuple("10.2.0.2", "10.2.0.1", 8080, 37782)
    for packet, is_reply in ((asked, False), (answered, True)):
        found = table.find("tcp", packet)
        assert found is not None
        assert (found[0].mark, found[1]) == (42, is_reply)
        assert table.find("udp", packet) is None
        assert table.find("tcp", packet, zone=5) is None
    in_zone = Tuple("10.1.0.2", "10.2.0.2", 56042, 6666)
    assert table.find("tcp", in_zone) is None
    assert table.find("tcp", in_zone, zone=5) is not None
    one_way = table.find("tcp", Tuple("10.1.0.2", "10.2.0.2", 51278, 6667), zone=6)
    assert one_way is not None
    assert one_way[0].zone_side == "original"
    assert table.find("tcp", one_way[0].reply, zone=0) == (one_way[0], True)


def test_proc_with_long_addresses_counters_and_offloaded_flows() -> None:
    table = parse(PROC)
    assert (len(table.entries), table.unread.count) == (4, 0)
    assert table.entries[0].original == Tuple("fd01::2", "fd02::2", 34410, 81)
    assert (table.entries[2].packets, table.entries[2].octets) == ((12, 7), (637, 377))
    offloaded = table.entries[3]
    assert (set(offloaded.flags), offloaded.timeout_s, offloaded.state) == ({"OFFLOAD"}, None, "")
    assert offloaded.security_context == "system_u:object_r:unlabeled_t:s0"


def test_times_ids_labels_and_helpers_and_the_old_ip_conntrack() -> None:
    stamped, old = parse(STAMPED + "\n" + OLD).entries
    assert (stamped.zone, stamped.labels, stamped.helper, stamped.packets) == (5, ("a", "b"), "ftp", (1, 0))
    assert (old.state, old.packets, old.is_source_translated) == ("ESTABLISHED", (3, 2), False)


def test_a_row_that_the_summary_splits_is_joined_again() -> None:
    table = parse(SPLIT)
    assert (len(table.entries), table.unread.count, table.is_complete) == (1, 0, True)
    assert table.entries[0].reply.source_ip == "10.0.10.6"


def test_what_is_lost_is_told() -> None:
    cut = parse("\n".join(EXTENDED.splitlines()[:-2]))
    assert (len(cut.entries), cut.is_complete, cut.unread.count) == (10, False, 1)
    assert "12 entries, and 10 are here" in cut.unread.pieces[0].because
    for line in (
        "nonsense",
        "tcp 6 9 ESTABLISHED src=1.2.3.4 dst=x",
        OLD.replace("sport=80", "sport=80000"),
        OLD.replace("[ASSURED]", "mark=x"),
    ):
        broken = parse(line)
        assert (broken.entries, broken.unread.count, broken.is_complete) == ([], 1, False)
    odd = parse(OLD + " [NOVEL] colour=blue")
    assert (len(odd.entries), odd.unread.count) == (1, 1)
    assert "[NOVEL] colour=blue" in odd.unread.pieces[0].because
    twice = parse(SPLIT.splitlines()[0] + "\n" + SPLIT)
    assert (len(twice.entries), twice.unread.count, twice.is_complete) == (1, 2, False)


def test_a_table_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conntrack, "MOST_ENTRIES", 3)
    table = parse(EXTENDED)
    assert (len(table.entries), table.unread.count, table.is_complete) == (3, 9, False)


def test_long_lines_are_not_slow() -> None:
    began = time.monotonic()
    for part in ("src=1.2.3.4 ", "[start=", "conntrack v1.4.7 (conntrack-tools): ", "tcp ", "=", "[ASSURED] "):
        parse("tcp 6 9 " + part * 100_000)
    parse(SPLIT.splitlines()[0] + "\n" + (SPLIT.splitlines()[0] + "\n") * 20_000)
    assert time.monotonic() - began < 5


@pytest.mark.skipif(shutil.which("conntrack") is None, reason="the program conntrack is not installed")
def test_this_machine_s_own_table() -> None:
    done = subprocess.run(["conntrack", "-L", "-o", "extended"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"conntrack cannot run here: {done.stderr.strip()}")
    table = parse(done.stdout)
    assert (len(table.entries), table.unread.count) == (len(done.stdout.splitlines()), 0)


ROWS = [*EXTENDED.splitlines(), *PROC.splitlines(), STAMPED, OLD, *SPLIT.splitlines()]


@settings(max_examples=200, deadline=2000)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=80),
            st.tuples(st.sampled_from(ROWS), st.integers(0, 200), st.text(max_size=9)).map(
                lambda part: part[0][: part[1]] + part[2] + part[0][part[1] + 2 :]
            ),
        ),
        max_size=12,
    )
)
def test_changed_lines_never_raise_and_nothing_is_lost_in_silence(lines: list[str]) -> None:
    table = parse_conntrack(lines, HERE)
    said = [line for line in lines if line.strip() and "conntrack" not in line and not line.startswith(("nfct", "WARNING"))]
    if "conntrack" not in "".join(lines):
        assert len(table.entries) + table.unread.count >= len(said)
    for entry in table.entries:
        table.find(entry.protocol, entry.original, entry.zone)
