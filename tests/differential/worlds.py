"""Configurations go in, a kernel of their own works through them, and what it did with each probe comes out."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tcpwhy.lab import runners
from tests.differential.configuration import Configuration
from tests.differential.observation import Observation, Result

CHECKOUT = Path(__file__).parents[2]
UML_MODULES = (
    f"{runners.UML_MODULES} xt_iprange xt_dscp xt_DSCP xt_hl xt_HL xt_NETMAP xt_socket xt_TPROXY nf_log_syslog"
    " ip_set_hash_ipport ip_set_bitmap_port"
)
"""Modules that a configuration may want; those that a kernel lacks are passed over."""


class WorldFailed(RuntimeError):
    """A world did not work through its configurations; the message holds what it said."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What one configuration led to."""

    configuration: Configuration
    """With the probes that the world added."""
    state: Path
    """The folder with the host's state, taken before the probes."""
    observations: list[Observation]
    """One a probe."""


def run(runner: str, configurations: Sequence[Configuration], scratch: Path, seconds: float = 300) -> Iterator[Outcome]:
    """Runs `namespaces` or `uml`; raises WorldFailed where a configuration cannot be loaded or the world does not end in time."""
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "configurations.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in configurations))
    talk = scratch / "world.txt"
    with talk.open("wb") as sink:
        world = subprocess.Popen(
            _namespace_command(scratch) if runner == "namespaces" else _uml_command(scratch),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            env={**os.environ, "PATH": runners.search_path(), "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        )
    try:
        world.wait(seconds)
    except subprocess.TimeoutExpired:
        raise WorldFailed(f"the world did not end within {seconds} s\n{talk.read_text(errors='replace')[-2000:]}") from None
    finally:
        runners.stop(world)
    results = scratch / "results.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    if len(lines) != len(configurations):
        said = "".join(path.read_text(errors="replace")[-2000:] for path in (talk, scratch / "uml.txt") if path.exists())
        raise WorldFailed(f"{len(lines)} of {len(configurations)} configurations were worked through\n{said}")
    for line, configuration in zip(lines, configurations, strict=True):
        result = msgspec.json.decode(line, type=Result)
        if result.error:
            raise WorldFailed(f"{result.error}\n{configuration}")
        configuration.probes += result.follow_ups
        yield Outcome(configuration, scratch / str(configuration.seed) / "state", result.observations)


def _program(scratch: Path) -> str:
    return f"{sys.executable} -m tests.differential.inside {scratch}"


def _namespace_command(scratch: Path) -> list[str]:
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid():
        unshare += ["--user", "--map-root-user"]
    return [*unshare, "sh", "-c", f"cd {CHECKOUT} && mount -t tmpfs none /run && ip link set lo up && exec {_program(scratch)}"]


def _uml_command(scratch: Path) -> list[str]:
    init = scratch / "init"
    init.write_text(
        f"""#!/bin/sh
exec >{scratch}/uml.txt 2>&1
export PATH={runners.search_path()} HOME={Path.home()} PYTHONPATH={CHECKOUT} PYTHONDONTWRITEBYTECODE=1
cd {CHECKOUT}
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs none /run
mkdir -p /run/modules/lib/modules; ln -s {runners.UML_KERNELS}/$(uname -r) /run/modules/lib/modules/
for module in {UML_MODULES}; do modprobe -q -d /run/modules $module; done
ip link set lo up
{_program(scratch)}
poweroff -f
"""
    )
    init.chmod(0o755)
    words = (
        f"linux.uml root=/dev/root rootfstype=hostfs rw mem=768M init={init} con=null con0=fd:0,fd:1 uml_dir={scratch} umid=differential"
    )
    return words.split()
