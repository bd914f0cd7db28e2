"""Filters go in; a flow must match where tcpdump, asked with the same words, prints one of its packets."""

import ipaddress
import shutil
import string
import struct
import subprocess
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpwhy.expression import ExpressionError, parse_filter

FLOWS = [
    ("10.0.0.5", 40000, "10.0.0.9", 80),
    ("10.0.0.50", 40001, "10.1.0.9", 443),
    ("192.168.7.1", 80, "10.0.0.5", 8080),
    ("172.16.200.7", 65535, "192.168.255.255", 22),
    ("2001:db8::5", 40000, "2001:db8::9", 80),
    ("2001:db8:0:1:2:3:4:5", 1, "fe80::1", 443),
    ("::1", 50000, "::", 8443),
    ("::ffff:10.0.0.5", 5, "64:ff9b::a00:9", 80),
    ("1:0:0:2::3", 8080, "ff02::1", 90),
]


@pytest.fixture(scope="module")
def db() -> duckdb.DuckDBPyConnection:
    db = duckdb.connect(":memory:")
    db.execute(
        "CREATE TABLE flow (n INTEGER, client_ip VARCHAR, client_port USMALLINT, server_ip VARCHAR, server_port USMALLINT, ipv6 BOOLEAN)"
    )
    for number, (client, client_port, server, server_port) in enumerate(FLOWS):
        db.execute("INSERT INTO flow VALUES (?, ?, ?, ?, ?, ?)", [number, client, client_port, server, server_port, ":" in client])
    return db


def matches(db: duckdb.DuckDBPyConnection, text: str) -> list[int]:
    condition = parse_filter(text)
    return [row[0] for row in db.execute(f"SELECT n FROM flow WHERE {condition.sql} ORDER BY n", condition.parameters).fetchall()]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("host 10.0.0.5", [0, 2]),
        ("src 10.0.0.5", [0, 2]),
        ("src host 10.0.0.5 and dst port 80", [0, 2]),
        ("src host 10.0.0.5 and src port 8080", [2]),
        ("src host 10.0.0.5 and dst host 10.0.0.9", [0]),
        ("src host 10.0.0.9 and dst host 10.0.0.5", [0]),
        ("src and dst net 10", [0, 1]),
        ("src or dst port 22", [3]),
        ("not src host 10.0.0.5", [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("not host 10.0.0.5", [1, 3, 4, 5, 6, 7, 8]),
        ("! host 10.0.0.5 && ip", [1, 3]),
        ("port 80", [0, 2, 4, 7]),
        ("port 80 or 443", [0, 1, 2, 4, 5, 7]),
        ("port (80 or 443) and ip6", [4, 5, 7]),
        ("portrange 80-90", [0, 2, 4, 7, 8]),
        ("portrange 443-80 and ip", [0, 1, 2]),
        ("tcp port 22", [3]),
        ("tcp", list(range(9))),
        ("ip6", [4, 5, 6, 7, 8]),
        ("ip host 10.0.0.5", [0, 2]),
        ("net 10.0.0.0/8", [0, 1, 2]),
        ("net 10.0", [0, 1, 2]),
        ("net 192.168", [2, 3]),
        ("net 10.0.0.32/27", [1]),
        ("net 10.0.0.0 mask 255.255.255.0", [0, 1, 2]),
        ("net 0.0.0.0/0", [0, 1, 2, 3]),
        ("net 172.16.0.0/12", [3]),
        ("net 2001:db8::/32", [4, 5]),
        ("net 2001:db8::/33", [4, 5]),
        ("net 2001:db8::/64", [4]),
        ("net ::/0", [4, 5, 6, 7, 8]),
        ("net ::/127", [6]),
        ("net 64:ff9b::/96", [7]),
        ("host 2001:DB8:0:0::5", [4]),
        ("host ::ffff:10.0.0.5", [7]),
        ("host ::ffff:a00:5", [7]),
        ("net ::ffff:0:0/96", [7]),
        ("host 1::2:0:0:0:3", [8]),
        ("host 1:0:0:2::3", [8]),
        ("port 22 or port 443 and ip6", [5]),
        ("port 22 or (port 443 and ip6)", [3, 5]),
        ("host 10.0.0.5 or 10.0.0.50", [0, 1, 2]),
        ("(host 10.0.0.5)", [0, 2]),
        ("not port 80 and 443", [1, 5]),
    ],
)
def test_it_finds_what_tcpdump_would(db: duckdb.DuckDBPyConnection, text: str, found: list[int]) -> None:
    assert matches(db, text) == found


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "expected one of"),
        ("10.0.0.5", 0, "expected `host` or `port` before it"),
        ("10.0.0.0/8", 0, "expected `net` before it"),
        ("udp port 53", 0, "`udp` is not supported here, expected host, net, port"),
        ("tcp and icmp", 8, "`icmp` is not supported here"),
        ("tcp[13] & 2 != 0", 0, "`tcp` is not supported here"),
        ("vlan 5", 0, "`vlan` is not supported"),
        ("less 100", 0, "`less` is not supported"),
        ("host example.com", 5, "names are not looked up"),
        ("host 10.0.0", 5, "expected an IP address"),
        ("host 10.0.0.0/8", 5, "`net` before it"),
        ("host", 4, "read the end, expected an IP address"),
        ("port http", 5, "expected a port from 0 to 65535"),
        ("port 65536", 5, "expected a port"),
        ("portrange 80", 10, "expected a range"),
        ("net 10.1.2.3/8", 4, "bits set behind its prefix"),
        ("net 10.0.0.0/33", 4, "expected a network"),
        ("net 10.0.0.0 mask 255.0.255.0", 18, "ones stand together"),
        ("net 2001:db8:: mask 255.0.0.0", 20, "`mask` is for IPv4"),
        ("ip6 host 10.0.0.5", 9, "no address of `ip6`"),
        ("ip net 2001:db8::/32", 7, "no address of `ip`"),
        ("port 80 port 90", 8, "expected `and`, `or` or the end"),
        ("(port 80", 8, "expected `)`"),
        ("port 80)", 7, "expected `and`"),
        ("(port 80) or 90", 13, "before it"),
        ("port 80 or", 10, "expected"),
        ("port 80 & port 90", 8, "`&`"),
        ("tcp and 80", 8, "before it"),
        ("(" * 300 + "port 80", 100, "levels"),
        ("src or dst", 10, "expected an address"),
    ],
)
def test_an_error_says_where_and_what(text: str, position: int, message: str) -> None:
    with pytest.raises(ExpressionError) as error:
        parse_filter(text)
    assert (error.value.position, message in str(error.value)) == (position, True), str(error.value)


WORDS = st.sampled_from(
    ["host", "net", "port", "portrange", "src", "dst", "tcp", "ip", "ip6", "and", "or", "not", "&&", "||", "!", "(", ")", "mask",
     "10.0.0.5", "10.0.0.0/8", "2001:db8::/32", "::1", "80", "80-90", "255.0.0.0", "udp"]
)  # fmt: skip


@settings(deadline=None)
@given(st.one_of(st.text(), st.text(alphabet=string.printable), st.lists(WORDS, max_size=12).map(" ".join)))
def test_anything_is_a_condition_or_an_expression_error(db: duckdb.DuckDBPyConnection, text: str) -> None:
    try:
        condition = parse_filter(text)
    except ExpressionError as error:
        position = error.position
    else:
        db.execute(f"SELECT n FROM flow WHERE {condition.sql}", condition.parameters).fetchall()
        assert not any(word in condition.sql for word in ("10.0.0.5", "2001", "8443", "40000"))
        position = 0
    assert 0 <= position <= len(text)


@settings(deadline=None)
@given(address=st.ip_addresses(), prefix=st.integers(0, 128), other=st.ip_addresses())
def test_networks_are_those_of_the_ipaddress_module(
    db: duckdb.DuckDBPyConnection,
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    prefix: int,
    other: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    net = ipaddress.ip_network(f"{address}/{min(prefix, address.max_prefixlen)}", strict=False)
    condition = parse_filter(f"net {net}")
    sql = f"SELECT {condition.sql} FROM (SELECT ip AS client_ip, ip AS server_ip, ipv6 FROM (SELECT ?::VARCHAR AS ip, ?::BOOLEAN AS ipv6))"
    for candidate in (address, other, net.network_address, net.broadcast_address):
        found = db.execute(sql, [*condition.parameters, str(candidate), candidate.version == 6]).fetchall()[0][0]
        assert found == (candidate.version == net.version and candidate in net)


def _packet(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    """An Ethernet frame with a bare TCP header."""
    tcp = struct.pack("!HHIIHHHH", source_port, destination_port, 1, 0, 0x5002, 1024, 0, 0)
    one, two = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    if one.version == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + one.packed + two.packed
        return b"\0" * 12 + b"\x08\0" + header + tcp
    return b"\0" * 12 + b"\x86\xdd" + struct.pack("!IHBB", 0x6000_0000, len(tcp), 6, 64) + one.packed + two.packed + tcp


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One packet each way of each flow, the number of the flow as its second."""
    path = tmp_path_factory.mktemp("filter") / "flows.pcap"
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for number, (client, client_port, server, server_port) in enumerate(FLOWS):
        for packet in (_packet(client, client_port, server, server_port), _packet(server, server_port, client, client_port)):
            data += struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet
    path.write_bytes(data)
    return path


def _atoms() -> st.SearchStrategy[str]:
    hosts = st.sampled_from([flow[0] for flow in FLOWS] + [flow[2] for flow in FLOWS]).filter(lambda ip: "ffff" not in ip)
    nets = st.sampled_from(["10.0.0.0/8", "10.0.0.0/24", "192.168", "2001:db8::/32", "2001:db8::/64", "0.0.0.0/0", "fe80::/10"])
    ports = st.sampled_from(["80", "443", "40000", "65535", "1"])
    ranges = st.sampled_from(["80-443", "1-1", "8000-65535"])
    directions = st.sampled_from(["", "src ", "dst ", "src or dst ", "src and dst "])
    typed = st.one_of(
        st.tuples(directions, st.just("host "), hosts),
        st.tuples(directions, st.just("net "), nets),
        st.tuples(directions, st.just("port "), ports),
        st.tuples(directions, st.just("portrange "), ranges),
        st.tuples(st.sampled_from(["tcp port ", "tcp dst port ", "port "]), ports, st.sampled_from([" or 90", " and 22", ""])),
    )
    return st.one_of(typed.map("".join), st.sampled_from(["tcp", "ip", "ip6"]))


FILTERS = st.recursive(
    _atoms(),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" and ", " or ", " && ", " || "]), inner).map("".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"not {text}"),
    ),
    max_leaves=6,
)


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=FILTERS)
def test_tcpdump_prints_a_packet_of_the_same_flows(db: duckdb.DuckDBPyConnection, capture: Path, text: str) -> None:
    done = subprocess.run(["tcpdump", "-tt", "-n", "-r", capture, text], capture_output=True, text=True, check=False)
    if done.returncode:
        # libpcap refuses filters that can match nothing; then nothing may match here.
        assert "rejects all packets" in done.stderr, f"{text}: {done.stderr}"
        assert matches(db, text) == []
        return
    printed = sorted({int(line.split(".")[0]) for line in done.stdout.splitlines() if line and line[0].isdigit()})
    assert matches(db, text) == printed, text
