"""The collecting script on a freshly booted kernel with modules (User Mode Linux): the kernel is never made to ask for one.

The kernel's own requests go to /proc/sys/kernel/modprobe, which is a script here that writes them down and loads what is asked.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tcpwhy.lab.runners import UML_KERNELS
from tcpwhy.record.collect import script

INIT = r"""#!/bin/sh
exec >{folder}/talk.txt 2>&1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/run/tmp HOME=/run
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs none /run
mkdir -p /run/modules/lib/modules; ln -s {modules}/$(uname -r) /run/modules/lib/modules/; mkdir -m 1777 /run/tmp
printf '#!/bin/sh\necho "$@" >>/run/asked\nexec /sbin/modprobe -d /run/modules "$@"\n' >/run/modprobe
chmod 755 /run/modprobe; echo /run/modprobe >/proc/sys/kernel/modprobe
touch /run/asked; chmod 666 /run/asked
ip link set lo up
loaded() {{ cut -d ' ' -f 1 /proc/modules | sort; }}
step() {{
    : >/run/asked; loaded >/run/before
    sh {folder}/collect.sh -d {folder}/$1
    mkdir -m 777 /run/$1
    setpriv --reuid=65534 --regid=65534 --clear-groups sh -s -- -d /run/$1 <{folder}/collect.sh
    mkdir -p {folder}/$1-user; cp /run/$1/state/* {folder}/$1-user/
    cp /run/asked {folder}/$1.asked
    loaded | diff /run/before - >{folder}/$1.loaded; ls -A /run/tmp >{folder}/$1.left
}}
step bare
modprobe -d /run/modules ip_vs; modprobe -d /run/modules ip_vs_rr
ipvsadm -A -t 10.9.9.9:80 -s rr; ipvsadm -a -t 10.9.9.9:80 -r 10.9.9.10:80 -m
for rule in '-p tcp -m tcp --dport 99 -m comment --comment "of course" -j REJECT' '-m conntrack --ctstate INVALID -j DROP'; do
    eval iptables-legacy -A INPUT $rule
done
step loaded
modprobe -d /run/modules nf_tables; modprobe -d /run/modules ip_set
step tables
: >/run/asked; conntrack -L >/dev/null; iptables-nft -V >/dev/null; ip6tables-nft-save >/dev/null; cp /run/asked {folder}/control.asked
poweroff -f
"""


@pytest.mark.lab
def test_no_module_is_loaded_whatever_is_installed_and_loaded_already(tmp_path: Path) -> None:
    if shutil.which("linux.uml") is None or not UML_KERNELS.is_dir():
        pytest.skip("linux.uml is not installed")
    (tmp_path / "collect.sh").write_bytes(script())
    init = tmp_path / "init"
    init.write_text(INIT.format(folder=tmp_path, modules=UML_KERNELS))
    init.chmod(0o755)
    words = f"linux.uml root=/dev/root rootfstype=hostfs rw mem=384M init={init} con=null con0=fd:0,fd:1 uml_dir={tmp_path} umid=collect"
    subprocess.run(words.split(), stdin=subprocess.DEVNULL, capture_output=True, timeout=240, check=False)
    talk = (tmp_path / "talk.txt").read_text()
    assert (tmp_path / "control.asked").exists(), talk
    assert (tmp_path / "control.asked").read_text() != "", "programs that load modules were not noticed: the test sees nothing"
    for step in ("bare", "loaded", "tables"):
        for what in ("asked", "loaded", "left"):
            assert (tmp_path / f"{step}.{what}").read_text() == "", f"{step}: {what}\n{talk}"

    def about(step: str) -> dict[str, dict[str, str]]:
        found = json.loads((tmp_path / step / "state" / "host.json").read_text())
        assert isinstance(found, dict)
        return found

    assert about("bare")["failed"] == {}
    empty = {"conntrack.txt", "ipvsadm-rules.txt", "iptables-save.txt", "ip6tables-save.txt", "ipset.txt", "nft-ruleset.json"}
    assert empty <= set(about("bare")["none"])
    rules = (tmp_path / "loaded" / "state" / "ipvsadm-rules.txt").read_text()
    assert "-a -t 10.9.9.9:80 -r 10.9.9.10:80 -m -w 1" in rules
    assert "0A090909:0050" in (tmp_path / "loaded-user" / "proc-net-ip_vs.txt").read_text()
    saved = (tmp_path / "loaded" / "state" / "iptables-save.txt").read_text()
    assert "--ctstate INVALID" in saved
    assert '--comment "of course"' in saved
    assert about("loaded")["none"].keys() >= {"nft-ruleset.json"}
    assert "nft_compat" in about("tables")["failed"]["ip6tables-save.txt"]
    assert "--ctstate INVALID" in (tmp_path / "tables" / "state" / "iptables-save.txt").read_text()
    assert json.loads((tmp_path / "tables" / "state" / "nft-ruleset.json").read_text())["nftables"]
