"""Attached eBPF programs as bpftool prints them."""

from hypothesis import given
from hypothesis import strategies as st

from tcpwhy.evidence import Source
from tcpwhy.tables.programs import parse_programs

TEXT = """\
xdp:
eth0(2) driver id 198

tc:
eth0(2) clsact/ingress cil_from_netdev id 2310
lxc1(7) tcx/egress cil_to_container prog_id 11 link_id 12

flow_dissector:

netfilter:
ip prerouting prio 21 prog_id 14

CgroupPath
ID       AttachType      AttachFlags     Name
/sys/fs/cgroup
    45       cgroup_inet4_connect multi           cil_sock4_connect
    46       connect6                        sock6
    47       ingress         multi           sd_fw_ingress
???
"""


def test_programs() -> None:
    table = parse_programs(TEXT.splitlines(), Source("n1", "n1/state/bpf-net.txt"))
    assert [(one.hook, one.interface, one.source.line) for one in table.programs] == [
        ("xdp", "eth0", 2),
        ("ingress", "eth0", 5),
        ("egress", "lxc1", 6),
        ("netfilter", "", 11),
        ("connect", "", 16),
        ("connect", "", 17),
        ("cgroup", "", 18),
    ]
    assert [one.source.line for one in table.connect_hooks] == [16, 17]
    assert [one.text for one in table.at("eth0", "xdp", "ingress")] == [
        "eth0(2) driver id 198",
        "eth0(2) clsact/ingress cil_from_netdev id 2310",
    ]
    assert (table.unread.count, table.unread.pieces[0].source.line) == (1, 19)


@given(st.lists(st.one_of(st.text(max_size=80), st.sampled_from(TEXT.splitlines())), max_size=20))
def test_any_lines_are_read_or_counted(lines: list[str]) -> None:
    table = parse_programs(lines, Source("n1", "bpf-net.txt"))
    assert len(table.programs) + table.unread.count <= len(lines)
