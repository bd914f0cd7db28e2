"""Tables of real kernels: a NAT host in namespaces and a director in User Mode Linux name each connection's client rightly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tcpwhy.clients.row import Translation
from tcpwhy.clients.translations import host_translations
from tcpwhy.evidence import open_evidence
from tcpwhy.lab.runners import UML_KERNELS
from tcpwhy.tables.host import HostTables

WORK = Path(__file__).with_name("middle_host.py")

INIT = """#!/bin/sh
exec >{folder}/talk.txt 2>&1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs none /run
mkdir -p /run/modules/lib/modules; ln -s {modules}/$(uname -r) /run/modules/lib/modules/
printf '#!/bin/sh\\nexec /sbin/modprobe -d /run/modules "$@"\\n' >/run/modprobe
chmod 755 /run/modprobe; echo /run/modprobe >/proc/sys/kernel/modprobe
for module in veth ip_vs ip_vs_rr nf_conntrack nf_nat xt_MASQUERADE nf_conntrack_netlink iptable_nat; do /run/modprobe $module; done
{python} {work} {folder} ipvs
poweroff -f
"""

End = tuple[str, int]


def found_in(folder: Path) -> tuple[list[Translation], dict[tuple[End, End], End]]:
    """What the tables say, and the truth: the client by both ends as the server sees them."""
    truth = {(end(row["peer"]), end(row["local"])): end(row["client"]) for row in json.loads((folder / "truth.json").read_text())}
    with open_evidence([str(folder / "middle")]) as evidence:
        (point,) = evidence.vantage_points
        assert point.state is not None
        tables = HostTables(point.state)
        found = list(host_translations("middle", tables))
        assert [piece for piece in tables.unread() if "ip_vs" in piece.source.file or "conntrack" in piece.source.file] == []
    return found, truth


def end(pair: list[str | int]) -> End:
    return str(pair[0]), int(pair[1])


def by_behind(found: list[Translation]) -> dict[tuple[End, End], list[Translation]]:
    named: dict[tuple[End, End], list[Translation]] = defaultdict(list)
    for one in found:
        behind = one.behind
        named[(behind.client_ip, behind.client_port), (behind.server_ip, behind.server_port)].append(one)
    return named


def test_a_nat_host_names_the_client_of_every_connection_that_it_rewrote(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not all(shutil.which(program) for program in ("unshare", "ip", "iptables", "ip6tables", "conntrack")):
        pytest.skip("root, unshare, ip, iptables and conntrack are needed")
    lines = f"mount -t tmpfs none /run && exec {sys.executable} {WORK} {tmp_path} nat"
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", lines],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, truth = found_in(tmp_path)
    named = by_behind(found)
    assert len(truth) == 24
    for ends, client in truth.items():
        (one,) = named[ends]
        assert (one.before.client_ip, one.before.client_port) == client
        assert (one.basis, one.is_open) == ("conntrack", True)
        assert one.taken_ns is not None
    rewritten = [ends for ends, client in truth.items() if ends[0] != client]
    assert len(rewritten) == 20  # of 10.1.0.3 by way of 10.9.0.1 only the server is another
    assert {one.before.server_ip for one in found} == {"10.9.0.1", "10.2.0.2", "fd09::1", "fd02::2"}


@pytest.mark.lab
def test_a_director_names_the_client_of_every_connection_that_it_handed_on(tmp_path: Path) -> None:
    if shutil.which("linux.uml") is None or not UML_KERNELS.is_dir() or shutil.which("ipvsadm") is None:
        pytest.skip("linux.uml or ipvsadm is not installed")
    init = tmp_path / "init"
    init.write_text(INIT.format(folder=tmp_path, modules=UML_KERNELS, python=sys.executable, work=WORK))
    init.chmod(0o755)
    words = f"linux.uml root=/dev/root rootfstype=hostfs rw mem=384M init={init} con=null con0=fd:0,fd:1 uml_dir={tmp_path} umid=tables"
    subprocess.run(words.split(), stdin=subprocess.DEVNULL, capture_output=True, timeout=240, check=False)
    assert (tmp_path / "truth.json").exists(), (tmp_path / "talk.txt").read_text()
    found, truth = found_in(tmp_path)
    named = by_behind(found)
    assert len(truth) == 20
    for ends, client in truth.items():
        assert named[ends], ends
        assert {(one.before.client_ip, one.before.client_port) for one in named[ends]} == {client}
        assert all(one.is_open for one in named[ends])
    bases = {(one.basis, one.before == one.behind) for ends in truth for one in named[ends]}
    assert bases == {("lb-table", False), ("lb-table", True), ("conntrack", False)}
    assert not any(0 in (one.before.client_port, one.behind.client_port) for one in found)
