"""Settings of the kernel as procps and busybox print them."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpwhy.tables.sysctls import Sysctls, canonical, read_sysctls
from tests.state.namespace import outputs, state_of

TEXT = """\
net.ipv4.conf.all.rp_filter = 1
net.ipv4.conf.eth0/5.rp_filter = 2
net.ipv4.tcp_rmem = 4096\t131072\t6291456
net.ipv4.neigh.eth0/5.gc_stale_time = 60
sysctl: permission denied on key 'net.ipv4.tcp_fastopen_key'
sysctl: reading key "net.ipv6.conf.eth0/5.stable_secret"
error: permission denied on key 'net.ipv4.route.flush'
kernel.modprobe =
net.ipv4.ip_forward = 0
net.ipv4.ip_forward = 1
sysctl: cannot stat /proc/sys/net/x: No such file or directory
sysctl: unable to open directory "/proc/sys/fs/binfmt_misc/"
sysctl: something else
"""
BUSYBOX = "net.ipv4.conf.eth0.5.rp_filter = 2\nnet.ipv6.conf.a.b.c.accept_ra = 0\nnet/ipv4/conf/eth0.7/rp_filter = 1\n"


def read(folder: Path, content: str | bytes) -> Sysctls:
    table = read_sysctls(state_of(folder, sysctl__txt=content))
    assert table is not None
    return table


def test_procps(tmp_path: Path) -> None:
    table = read(tmp_path, TEXT)
    found = table.of_interface("rp_filter", "eth0.5")
    assert found is not None
    assert (found.key, found.number, found.source.line) == ("net.ipv4.conf.eth0/5.rp_filter", 2, 2)
    forward = table.get("net.ipv4.ip_forward")
    assert forward is not None
    assert (forward.number, forward.source.line) == (1, 10)
    memory, modprobe = table.get("net.ipv4.tcp_rmem"), table.get("kernel.modprobe")
    assert memory is not None
    assert modprobe is not None
    assert (memory.value, memory.number, modprobe.value) == ("4096\t131072\t6291456", None, "")
    assert {key: place.line for key, place in table.unreadable.items()} == {
        "net.ipv4.tcp_fastopen_key": 5,
        "net.ipv6.conf.eth0/5.stable_secret": 6,
        "net.ipv4.route.flush": 7,
        "net.x": 11,
        "fs.binfmt_misc": 12,
    }
    assert [piece.source.line for piece in table.unread.pieces] == [13]


def test_busybox_and_slashes(tmp_path: Path) -> None:
    table = read(tmp_path, BUSYBOX)
    assert not table.unread.count
    for name, interface, family, value in (("rp_filter", "eth0.5", 4, 2), ("accept_ra", "a.b.c", 6, 0), ("rp_filter", "eth0.7", 4, 1)):
        found = table.of_interface(name, interface, family)
        assert found is not None
        assert found.number == value


@pytest.mark.parametrize(
    ("printed", "one"),
    [
        ("net.ipv4.conf.eth0/5.rp_filter", "net.ipv4.conf.eth0/5.rp_filter"),
        ("net.ipv4.conf.eth0.5.rp_filter", "net.ipv4.conf.eth0/5.rp_filter"),
        ("net/ipv4/conf/eth0.5/rp_filter", "net.ipv4.conf.eth0/5.rp_filter"),
        ("net.ipv4.neigh.a.b.gc_thresh", "net.ipv4.neigh.a/b.gc_thresh"),
        ("net.ipv4.conf.conf.rp_filter", "net.ipv4.conf.conf.rp_filter"),
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
    ],
)
def test_one_spelling(printed: str, one: str) -> None:
    assert canonical(printed) == one


def test_a_real_list(tmp_path: Path) -> None:
    printed = outputs()["sysctl -a --pattern ^net\\."]
    table = read(tmp_path, printed)
    assert len(table.settings) == len(printed.splitlines())
    assert not table.unread.count
    assert table.of_interface("rp_filter", "eth0") is not None


def test_not_collected_is_not_empty(tmp_path: Path) -> None:
    assert read_sysctls(state_of(tmp_path)) is None
    assert read(tmp_path, "").settings == {}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text("net.ipv4/conf =:\n\t'key", max_size=100).map(str.encode), cut=st.integers(0, 500))
def test_any_bytes(tmp_path: Path, content: bytes, cut: int) -> None:
    for text in (content, TEXT.encode()[:cut] + content + TEXT.encode()[cut:]):
        table = read(tmp_path, text)
        assert all(one.source.line and canonical(canonical(key)) == key for key, one in table.settings.items())
        kept = len(table.settings) + table.unread.count + len(table.unreadable)
        assert kept or not text.decode("utf-8", "replace").strip()


def test_a_long_line_takes_no_long_time(tmp_path: Path) -> None:
    for line in ("a" * 1_000_000, "sysctl: " + "key '" * 200_000, "net.ipv4.conf." + "conf." * 200_000 + "x = 1", " " * 1_000_000 + "x"):
        assert len(read(tmp_path, line).settings) <= 1
