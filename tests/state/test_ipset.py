"""Sets as ipset writes them, the kernel's own answers, and anything at all."""

import ipaddress
import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwhy.evidence import Source
from tcpwhy.tables.ipset import IpSets, contains, parse_ipsets
from tcpwhy.tables.ipset_entries import Asked

HERE = Source("h", "h/state/ipset.txt")

MADE = """\
create timed hash:ip timeout 300 comment counters
add timed 1.2.3.4 comment "he llo, nomatch"
add timed 1.2.3.5 timeout 0
create wide hash:ip netmask 24
add wide 10.1.2.3
create nets hash:net
add nets 10.0.0.0/8
add nets 10.1.0.0/16 nomatch
add nets 10.1.2.0/24
create netport hash:net,port
add netport 10.0.0.0/8,tcp:80
add netport 10.0.0.0/8,udp:53
add netport 1.1.1.1,icmp:8/0
add netport 2.2.2.2,gre:0
create ipport hash:ip,port
add ipport 1.2.3.4,tcp:80-82
add ipport 1.2.3.4,90
create ipportip hash:ip,port,ip
add ipportip 1.2.3.4,tcp:80,5.6.7.8
create ipportnet hash:ip,port,net
add ipportnet 1.2.3.4,tcp:80,5.6.7.0/24
create iface hash:net,iface
add iface 10.0.0.0/8,eth0
add iface 11.0.0.0/8,veth wildcard
create some bitmap:ip range 192.168.0.0/24
add some 192.168.0.4-192.168.0.6
create ports bitmap:port range 1-1000
add ports 10-12
create six hash:net family inet6
add six 2001:db8::/32
create cards bitmap:ip,mac range 192.168.0.0/24
add cards 192.168.0.5,00:11:22:33:44:55
create all list:set
add all timed
add all six
add all netport
"""
"""As `ipset restore` takes it; the kernel writes ranges out."""

SAVED = MADE.replace("192.168.0.4-192.168.0.6", "192.168.0.4\nadd some 192.168.0.5\nadd some 192.168.0.6").replace(
    "tcp:80-82", "tcp:80\nadd ipport 1.2.3.4,tcp:81\nadd ipport 1.2.3.4,tcp:82"
).replace("10-12", "10\nadd ports 11\nadd ports 12").replace("1.1.1.1,icmp:8/0", "1.1.1.1,icmp:echo-request")  # fmt: skip


def asked(directions: str, source: str, destination: str = "9.9.9.9", **more: object) -> Asked:
    values: dict[str, object] = {"protocol": 6, "source_port": 80, "destination_port": 80, **more}
    return Asked(tuple(directions.split(",")), ipaddress.ip_address(source), ipaddress.ip_address(destination), **values)  # type: ignore[arg-type]


CASES = [
    ("timed", asked("src", "1.2.3.4"), True),
    ("timed", asked("dst", "1.2.3.4"), False),
    ("wide", asked("src", "10.1.2.200"), True),
    ("wide", asked("src", "10.1.3.3"), False),
    ("nets", asked("src", "10.9.9.9"), True),
    ("nets", asked("src", "10.1.9.9"), False),
    ("nets", asked("src", "10.1.2.9"), True),
    ("nets", asked("src", "11.1.2.9"), False),
    ("nets", asked("src", "fd00::1", "fd00::2"), False),
    ("netport", asked("src,dst", "10.2.3.4"), True),
    ("netport", asked("src,dst", "10.2.3.4", destination_port=81), False),
    ("netport", asked("src,dst", "10.2.3.4", destination_port=None), None),
    ("netport", asked("src,dst", "10.2.3.4", protocol=17, destination_port=53), True),
    ("netport", asked("src,dst", "1.1.1.1", protocol=1, icmp=(8, 0)), True),
    ("netport", asked("src,dst", "1.1.1.1", protocol=1, icmp=(0, 0)), False),
    ("netport", asked("src,dst", "2.2.2.2", protocol=47), True),
    ("netport", asked("src", "10.2.3.4"), False),
    ("ipport", asked("src,src", "1.2.3.4", source_port=82), True),
    ("ipport", asked("src,src", "1.2.3.4", source_port=83), False),
    ("ipport", asked("src,src", "1.2.3.4", source_port=90), True),
    ("ipportip", asked("src,dst,dst", "1.2.3.4", "5.6.7.8"), True),
    ("ipportip", asked("src,dst,dst", "1.2.3.4", "5.6.7.9"), False),
    ("ipportnet", asked("src,dst,dst", "1.2.3.4", "5.6.7.9"), True),
    ("iface", asked("src,src", "10.2.3.4", in_interface="eth0"), True),
    ("iface", asked("src,src", "10.2.3.4", in_interface="eth1"), False),
    ("iface", asked("src,src", "10.2.3.4"), False),
    ("iface", asked("dst,dst", "9.9.9.9", "11.2.3.4", out_interface="veth12"), True),
    ("some", asked("src", "192.168.0.6"), True),
    ("some", asked("src", "192.168.0.7"), False),
    ("ports", asked("dst", "1.1.1.1", destination_port=12), True),
    ("ports", asked("dst", "1.1.1.1", destination_port=13), False),
    ("ports", asked("dst", "1.1.1.1", protocol=132, destination_port=12), False),
    ("six", asked("src", "2001:db8::5", "::1"), True),
    ("six", asked("src", "1.2.3.4"), False),
    ("cards", asked("src,src", "192.168.0.5"), None),
    ("all", asked("src,dst", "1.2.3.5"), True),
    ("all", asked("src,dst", "10.2.3.4"), True),
    ("all", asked("src,dst", "12.2.3.4"), False),
    ("absent", asked("src", "1.2.3.4"), None),
]


@pytest.mark.parametrize(("name", "question", "answer"), CASES)
def test_contains(name: str, question: Asked, answer: bool | None) -> None:
    sets = parse_ipsets(SAVED.splitlines(), HERE)
    assert sets.unread.count == 0
    assert contains(sets, name, question) is answer


def test_return_nomatch_asks_for_the_exception() -> None:
    sets = parse_ipsets(SAVED.splitlines(), HERE)
    assert contains(sets, "nets", asked("src", "10.1.9.9"), is_exception=True) is True
    assert contains(sets, "nets", asked("src", "10.1.2.9"), is_exception=True) is False
    assert contains(None, "nets", asked("src", "10.1.2.9")) is None


def run_in_namespace(script: str) -> str | None:
    if os.geteuid() != 0 or shutil.which("ipset") is None:
        return None
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout if done.returncode == 0 else None


def test_what_the_program_writes_in_both_forms() -> None:
    restore = f"ipset restore <<'END'\n{MADE}END\n"
    saved, listed = run_in_namespace(f"{restore} ipset save"), run_in_namespace(f"{restore} ipset list")
    terse = run_in_namespace(f"{restore} ipset list -t")
    if saved is None or listed is None or terse is None:
        pytest.skip("ipset cannot run here")
    one, other = (parse_ipsets(text.splitlines(), HERE) for text in (saved, listed))
    assert one.unread.count == other.unread.count == 0
    assert set(one.sets) == set(other.sets) == {line.split()[1] for line in MADE.splitlines() if line.startswith("create")}
    for name, question, answer in CASES:
        assert contains(one, name, question) is answer, name
        assert contains(other, name, question) is answer, name
    assert contains(parse_ipsets(terse.splitlines(), HERE), "nets", asked("src", "10.9.9.9")) is None


def test_the_kernel_says_the_same() -> None:
    """`ipset test` of elements in one dimension, and of pairs of an address and a port."""
    elements = [(name, f"10.{one}.{two}.7") for name in ("nets", "wide", "timed") for one in (0, 1, 2) for two in (1, 2, 3)]
    elements += [("ipport", f"1.2.3.4,tcp:{port}") for port in (79, 80, 82, 83, 90)]
    elements += [("netport", f"10.{one}.0.1,udp:{port}") for one in (0, 5) for port in (52, 53)]
    tests = "".join(f"ipset -q test {name} {element} && echo yes || echo no\n" for name, element in elements)
    answers = run_in_namespace(f"ipset restore <<'END'\n{MADE}END\n{tests}true")
    if answers is None:
        pytest.skip("ipset cannot run here")
    sets = parse_ipsets(SAVED.splitlines(), HERE)
    for (name, element), answer in zip(elements, answers.split(), strict=True):
        address, _, port = element.partition(",")
        protocol, _, number = port.partition(":")
        question = asked("src,dst" if port else "src", address, protocol=17 if protocol == "udp" else 6, destination_port=int(number or 80))
        assert contains(sets, name, question) is (answer == "yes"), element


def test_what_is_missing_or_not_understood_is_no_answer() -> None:
    text = "create a hash:ip family inet\nadd a 1.2.3.0-1.2.3.9\ncreate b hash:magic\nadd b 1.2.3.4\nadd c 1.1.1.1\nrubbish\n"
    sets = parse_ipsets(text.splitlines(), HERE)
    assert contains(sets, "a", asked("src", "1.2.3.4")) is None
    assert contains(sets, "b", asked("src", "1.2.3.4")) is None
    assert sets.unread.count == 2
    assert [piece.source.line for piece in sets.unread.pieces] == [5, 6]


_LINES = [
    *SAVED.splitlines(), "Name: x", "Type: hash:net,iface", "Header: family inet6 netmask 900", "Members:", "Number of entries: 7",
    "1.2.3.4/99,tcp:99999,::1", "add nets 300.1.1.1/-1 nomatch",
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(_LINES) | st.text(max_size=20), max_size=30))
def test_anything_is_read(lines: list[str]) -> None:
    sets: IpSets = parse_ipsets(lines, HERE)
    for name in sets.sets:
        assert contains(sets, name, asked("src,dst,src", "10.1.2.3", in_interface="eth0")) in (True, False, None)
