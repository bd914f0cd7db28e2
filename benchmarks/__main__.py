"""A size comes in, a table goes out: what one generated capture costs cat, tcpdump, tcpwhy and tshark.

The programs run in turn, round after round, so that a machine that slows down slows all of them; each row
is the median of its rounds. The first, unmeasured reading puts the file into the page cache.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.traffic import write_capture

MEASURE = Path(__file__).with_name("measure.py")
TCPWHY = Path(sys.executable).with_name("tcpwhy")


@dataclass(frozen=True)
class Contender:
    """One program to measure, and the call that shows what its start alone costs."""

    name: str
    command: tuple[str, ...]
    start: tuple[str, ...]


@dataclass(frozen=True)
class Usage:
    """What one run used."""

    wall_s: float
    cpu_s: float
    peak_kib: int
    floor_kib: int


def run(command: tuple[str, ...]) -> Usage:
    """Measure one run; SystemExit with a sentence where the program did not succeed."""
    call = [sys.executable, "-I", "-S", str(MEASURE), *command]
    found = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    if found["status"] != 0:
        raise SystemExit(f"benchmark: `{' '.join(command)}` exited with {found['status']}, expected 0")
    return Usage(found["wall_s"], found["cpu_s"], found["peak_kib"], found["floor_kib"])


def contenders(capture: Path) -> list[Contender]:
    """The programs that are installed, cat first."""
    file = str(capture)
    known = [
        Contender("cat", ("cat", file), ("cat", "/dev/null")),
        Contender("tcpdump -w", ("tcpdump", "-r", file, "-w", "/dev/null"), ("tcpdump", "--version")),
        Contender("tcpwhy index", (str(TCPWHY), "index", file), (str(TCPWHY), "--version")),
        Contender("tshark conv,tcp", ("tshark", "-r", file, "-q", "-z", "conv,tcp"), ("tshark", "--version")),
    ]
    return [contender for contender in known if shutil.which(contender.command[0])]


def drop_index(folder: Path) -> None:
    """Remove what an earlier round of `tcpwhy index` wrote, so that each round scans."""
    shutil.rmtree(folder / ".tcpwhy", ignore_errors=True)


def index_bytes(folder: Path) -> int:
    """How large the index is that tcpwhy left beside the capture."""
    return sum(file.stat().st_size for file in (folder / ".tcpwhy").rglob("*") if file.is_file())


def table(runs: dict[str, list[Usage]], starts: dict[str, float], packets: int, capture_bytes: int) -> str:
    """The medians, one row a program; `× cat` and the rate count CPU seconds beyond the program's start."""
    rows = [
        f"{capture_bytes / 1e6:.0f} MB, {packets} packets, {len(runs['cat'])} rounds, medians",
        f"{'':<17}{'wall s':>9}{'CPU s':>9}{'start s':>9}{'× cat':>9}{'Mpkt/CPU-s':>12}{'peak MB':>9}",
    ]
    cat_cpu_s = median(usage.cpu_s for usage in runs["cat"])
    for name, usages in runs.items():
        cpu_s = median(usage.cpu_s for usage in usages)
        work_s = max(cpu_s - (0 if name == "cat" else starts[name]), 1e-4)
        peak_kib = median(usage.peak_kib for usage in usages)
        bound = "≤" if peak_kib <= max(usage.floor_kib for usage in usages) else ""
        rows.append(
            f"{name:<17}{median(usage.wall_s for usage in usages):>9.3f}{cpu_s:>9.3f}{starts[name]:>9.3f}"
            f"{work_s / max(cat_cpu_s, 1e-4):>9.1f}{packets / work_s / 1e6:>12.3f}"
            f"{bound + format(peak_kib / 1024, '.0f'):>9}"
        )
    return "\n".join(rows)


def benchmark(folder: Path, megabytes: int, rounds: int, seed: int, *, small: bool = False) -> str:
    """Write the capture into `folder`, run every program `rounds` times in turn, and tell it as text."""
    capture = folder / "traffic.pcap"
    packets = write_capture(capture, megabytes * 1_000_000, seed, small=small)
    field = contenders(capture)
    run(field[0].command)
    runs: dict[str, list[Usage]] = {contender.name: [] for contender in field}
    for _ in range(rounds):
        for contender in field:
            drop_index(folder)
            runs[contender.name].append(run(contender.command))
            if contender.name == "tcpwhy index" and not index_bytes(folder):
                raise SystemExit(f"benchmark: tcpwhy left no index in {folder / '.tcpwhy'}")
    starts = {contender.name: median(run(contender.start).cpu_s for _ in range(rounds)) for contender in field}
    drop_index(folder)
    run((str(TCPWHY), "index", str(capture)))
    size = capture.stat().st_size
    share = index_bytes(folder) / size
    return table(runs, starts, packets, size) + f"\nthe index is {share:.2%} of the capture"


def main() -> None:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=20, help="size of the capture (default: 20)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each program (default: 5)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same bytes (default: 1)")
    parser.add_argument("--small", action="store_true", help="packets of at most 100 bytes")
    parser.add_argument("--folder", type=Path, help="where to put the capture (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tcpwhy-bench-", dir=options.folder) as folder:
        print(benchmark(Path(folder), options.megabytes, options.rounds, options.seed, small=options.small))


if __name__ == "__main__":
    main()
