"""A sosreport as a folder and as an archive: what is read of it, and what is said not to have been collected."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpwhy.evidence import open_evidence
from tcpwhy.evidence.sosreport import SOSREPORT_FILES, read_sosreport, read_sosreport_host
from tcpwhy.evidence.state import STATE_FILES
from tcpwhy.tables.host import HostTables
from tests.state.namespace import outputs

NETWORKING = "sos_commands/networking"
KERNEL = "Linux rs1.example 5.14.0-427.el9.x86_64 #1 SMP PREEMPT_DYNAMIC Wed Jan 31 2024 x86_64 GNU/Linux\n"
MISSING = "timeout: failed to run command 'ipvsadm': No such file or directory\n"
NO_TABLE = "iptables v1.8.4 (legacy): can't initialize iptables table `raw': Table does not exist (do you need to insmod?)\n"


def new_sosreport() -> dict[str, str]:
    """As sos 4 lays it out, from the output of this machine's programs."""
    printed = outputs()
    return {
        f"{NETWORKING}/ip_-s_-d_link": printed["ip -s -d link"],
        f"{NETWORKING}/ip_-d_address": printed["ip -d address"],
        f"{NETWORKING}/ip_-o_addr": printed["ip -o addr"],
        f"{NETWORKING}/ip_route_show_table_all": printed["ip route show table all"],
        f"{NETWORKING}/ip_-6_route_show_table_all": printed["ip -6 route show table all"],
        f"{NETWORKING}/ip_-4_rule_list": printed["ip rule"],
        f"{NETWORKING}/ip_-6_rule_list": printed["ip -6 rule"],
        f"{NETWORKING}/ip_-s_-s_neigh_show": printed["ip -s -s neigh show"],
        f"{NETWORKING}/ss_-peaonmi": "Netid State Recv-Q Send-Q Local Address:Port Peer Address:Port Process\n",
        f"{NETWORKING}/nstat_-zas": "",
        f"{NETWORKING}/namespaces/blue/ip_netns_exec_blue_ip_-d_address_show": "1: lo: <LOOPBACK> mtu 65536\n",
        "sos_commands/kernel/sysctl_-a": printed["sysctl -a --pattern ^net\\."],
        "sos_commands/kernel/uname_-a": KERNEL,
        "sos_commands/host/hostname": "rs1.example\n",
        "sos_commands/date/date": "Tue Sep 29 12:15:33 PM CEST 2026\n",
        "sos_commands/date/date_--utc": "Tue Sep 29 10:15:31 UTC 2026\n",
        "sos_commands/ipvs/ipvsadm_-Ln": MISSING,
        "sos_commands/firewall_tables/iptables_-t_raw_-nvL": NO_TABLE + "Perhaps iptables or your kernel needs to be upgraded.\n",
        "sos_commands/firewall_tables/nft_-a_list_ruleset": "",
        "sos_commands/firewall_tables/iptables_-vnxL": "Chain INPUT (policy ACCEPT 0 packets, 0 bytes)\n",
        "sos_commands/firewall_tables/iptables_-t_filter_-nvL": "Chain INPUT (policy ACCEPT 0 packets, 0 bytes)\n",
    }


def old_sosreport() -> dict[str, str]:
    """As sos 3 lays it out."""
    printed = outputs()
    return {
        f"{NETWORKING}/ip_link": printed["ip -d link"],
        f"{NETWORKING}/ip_address": printed["ip address"],
        f"{NETWORKING}/ip_route_show_table_all": printed["ip route show table all"],
        f"{NETWORKING}/ip_-4_rule": printed["ip rule"],
        f"{NETWORKING}/ip_neigh_show": printed["ip neigh"],
        f"{NETWORKING}/iptables_-t_nat_-nvL": "Chain PREROUTING (policy ACCEPT 0 packets, 0 bytes)\n",
        f"{NETWORKING}/ip6tables_-t_nat_-nvL": "sh: ip6tables: command not found\n",
        "sos_commands/general/hostname": "rs1.example\n",
        "sos_commands/general/date": "Tue Sep 29 10:15:31 UTC 2026\n",
        "sos_commands/kernel/uname_-a": KERNEL,
        "sos_commands/kernel/sysctl_-a": printed["sysctl -a --pattern ^net\\."],
    }


def laid_out(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def packed(path: Path, files: dict[str, str], links: dict[str, str] | None = None) -> Path:
    """With the links at the top that sos makes, and `links` by their paths."""
    with tarfile.open(path, "w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{path.name.removesuffix('.tar.xz')}/{name}")
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))
        usual = {"hostname": "sos_commands/host/hostname", "ip_addr": f"{NETWORKING}/ip_-o_addr"}
        for name, target in (usual | (links or {})).items():
            link = tarfile.TarInfo(f"{path.name.removesuffix('.tar.xz')}/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return path


@pytest.mark.parametrize("how", ["folder", "archive"])
@pytest.mark.parametrize("age", ["new", "old"])
def test_tables_of_a_sosreport(tmp_path: Path, age: str, how: str) -> None:
    files = new_sosreport() if age == "new" else old_sosreport()
    if how == "folder":
        laid_out(tmp_path / "case" / "rs1.example", files)
    else:
        (tmp_path / "case").mkdir()
        packed(tmp_path / "case" / "sosreport-rs1-2026-09-29-abc.tar.xz", files)
    with open_evidence([str(tmp_path / "case")]) as evidence:
        (point,) = evidence.vantage_points
        assert point.name == "rs1.example"
        assert point.state is not None
        host = point.state.host
        assert (host.name, host.kernel, host.time_ns) == ("rs1.example", "5.14.0-427.el9.x86_64", 1_790_676_931_000_000_000)
        assert host.utc_offset_s == (7200 if age == "new" else 0)
        tables = HostTables(point.state)
        assert tables.links is not None
        assert tables.links.by_name["eth0"].kind == "veth"
        assert tables.addresses is not None
        assert {"10.1.0.2", "10.1.0.3"} <= {one.ip for one in tables.addresses.entries}
        assert tables.routes is not None
        assert tables.routes6 is not None
        assert min(len(tables.routes.routes), len(tables.routes6.routes)) > 8
        assert tables.policy_rules is not None
        assert (tables.policy_rules6 is None) == (age == "old")
        assert tables.neighbours is not None
        assert tables.sysctls is not None
        assert tables.sysctls.of_interface("rp_filter", "eth0") is not None
        route = tables.routes.routes[0]
        assert route.source.file.endswith(f"{NETWORKING}/ip_route_show_table_all")
        assert not any("no known kind" in note for note in point.notes)


def test_a_command_that_failed_is_not_one_that_found_nothing(tmp_path: Path) -> None:
    laid_out(tmp_path / "rs1", new_sosreport())
    with open_evidence([str(tmp_path / "rs1")]) as evidence:
        (point,) = evidence.vantage_points
        assert point.state is not None
        assert not any(map(point.state.is_collected, ("ipvsadm-rules.txt", "iptables-listing-raw.txt", "nstat.txt", "conntrack.txt")))
        assert all(map(point.state.is_collected, ("nft-ruleset.txt", "iptables-listing-filter.txt")))
        path = point.state.path("iptables-listing-filter.txt")
        assert path is not None
        assert path.name == "iptables_-vnxL"
        assert [name for name, _ in point.state.host.failed] == ["nstat.txt", "iptables-listing-raw.txt", "ipvsadm-rules.txt"]
        said = "\n".join(point.notes)
        assert "ipvsadm-rules.txt was not collected: sos_commands/ipvs/ipvsadm_-Ln: timeout: failed to run command 'ipvsadm'" in said
        assert "nstat.txt was not collected: sos_commands/networking/nstat_-zas: is empty" in said
        assert "that of its network namespaces is not" in said


def test_the_second_name_stands_in_for_a_first_that_failed(tmp_path: Path) -> None:
    files = {f"{NETWORKING}/ip_-d_address": "", f"{NETWORKING}/ip_-o_addr": "1: lo    inet 127.0.0.1/8 scope host lo\n"}
    report = read_sosreport(laid_out(tmp_path, files))
    assert report.files["ip-addr.json"].name == "ip_-o_addr"
    assert not report.host.failed


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 40123 1 0000000000000000 100 0 0 10 0
"""


@pytest.mark.parametrize("how", ["folder", "archive"])
def test_proc_net_is_a_link_to_the_folder_of_a_process(tmp_path: Path, how: str) -> None:
    files = {
        f"{NETWORKING}/ip_-o_addr": "1: lo    inet 127.0.0.1/8 scope host lo\n",
        "proc/4711/net/tcp": TCP,
        "proc/4711/limits": "Limit\n",
    }
    if how == "folder":
        root = laid_out(tmp_path / "rs1", files)
        (root / "proc/self").symlink_to("4711")
        (root / "proc/net").symlink_to("self/net")
    else:
        root = packed(tmp_path / "sosreport-rs1-2026-09-29-abc.tar.xz", files, {"proc/self": "4711", "proc/net": "self/net"})
    with open_evidence([str(root)]) as evidence:
        (point,) = evidence.vantage_points
        assert point.state is not None
        sockets = HostTables(point.state).sockets
        assert sockets is not None
        assert [socket.local for socket in sockets.sockets] == ["127.0.0.1:8080"]


def test_of_several_processes_none_is_taken_for_the_own(tmp_path: Path) -> None:
    report = read_sosreport(laid_out(tmp_path, {"proc/1/net/tcp": TCP, "proc/4711/net/tcp": TCP}))
    assert "proc-net-tcp.txt" not in report.files


@pytest.mark.parametrize("how", ["folder", "archive"])
def test_a_folder_named_state_in_a_sosreport_is_no_host(tmp_path: Path, how: str) -> None:
    files = new_sosreport() | {"var/lib/juju/agents/unit-a-0/state/uniter": "started: true\n", "var/lib/b/state/host.json": "{}"}
    root = laid_out(tmp_path / "rs1", files) if how == "folder" else packed(tmp_path / "sosreport-rs1.tar.xz", files)
    with open_evidence([str(root)]) as evidence:
        assert len(evidence.vantage_points) == 1


def test_error_messages_of_this_machines_programs(tmp_path: Path) -> None:
    for at, command in enumerate(("ipvsadmm -Ln", "ip -d adress", "ip route show table all bogus", "cat /nonexistent/file")):
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        folder = laid_out(tmp_path / str(at), {"sos_commands/kernel/sysctl_-a": done.stdout + done.stderr})
        if "bogus" not in command:  # a message that is not known is read, and what is not understood is kept
            assert "sysctl.txt" not in read_sosreport(folder).files, done.stderr


@pytest.mark.parametrize(
    ("utc", "local", "offset"),
    [
        ("Tue Sep 29 10:15:31 UTC 2026", "Tue 29 Sep 2026 06:15:40 PM CST", 8 * 3600),
        ("Tue Sep 29 23:15:31 UTC 2026", "Wed Sep 30 04:45:32 IST 2026", 19800),
        ("Thu Jan  1 01:15:31 UTC 2026", "Wed Dec 31 20:15:31 EST 2025", -5 * 3600),
        ("", "Tue Sep 29 10:15:31 +0530 2026", 19800),
        ("", "Tue Sep 29 10:15:31 CST 2026", None),
        ("nonsense", "Tue Foo 99 10:15:31 UTC 2026", None),
    ],
)
def test_offset_of_the_hosts_clock(tmp_path: Path, utc: str, local: str, offset: int | None) -> None:
    laid_out(tmp_path, {"sos_commands/date/date_--utc": utc, "sos_commands/date/date": local})
    host = read_sosreport_host(tmp_path)
    assert host.utc_offset_s == offset
    assert (host.time_ns is None) == (offset is None)


def test_every_name_is_a_state_file() -> None:
    assert set(SOSREPORT_FILES) <= set(STATE_FILES)
    paths = [path for paths in SOSREPORT_FILES.values() for path in paths]
    assert len(paths) == len(set(paths))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=120) | st.text("TueSp 29:012UTCAM+-\n", max_size=60).map(str.encode))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    for name in ("sos_commands/date/date", "sos_commands/date/date_--utc", "hostname", "uname", "sos_commands/kernel/sysctl_-a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    report = read_sosreport(tmp_path)
    assert set(report.files) <= {"sysctl.txt"}
    assert report.files or report.host.failed
