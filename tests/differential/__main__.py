"""A seed and a number of configurations go in; each probe's fate by the kernel is held against the walk's; differences are printed.

python -m tests.differential SEED [COUNT] [--uml] [--probes N] [--verbose]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.differential import worlds
from tests.differential.compare import Comparison, compare
from tests.differential.generate import generate


def main() -> int:
    """Exit status 0 where all agree, 1 where they differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("count", type=int, nargs="?", default=1, help="configurations, with seeds that count up")
    parser.add_argument("--probes", type=int, default=60, help="packets of each configuration")
    parser.add_argument("--uml", action="store_true", help="run in User Mode Linux, not in namespaces of this kernel")
    parser.add_argument("--only", choices=("iptables", "nft", "none"), help="drop the other rulesets")
    parser.add_argument("--unknown", action="store_true", help="print what the walk calls unknown too")
    parser.add_argument("--verbose", action="store_true", help="print every probe")
    arguments = parser.parse_args()
    has_users = os.geteuid() == 0
    configurations = [
        generate(seed, arguments.probes, kernel="uml" if arguments.uml else "own", has_users=has_users)
        for seed in range(arguments.seed, arguments.seed + arguments.count)
    ]
    for one in configurations:
        if arguments.only:
            one.iptables = one.iptables if arguments.only == "iptables" else ""
            one.nft = one.nft if arguments.only == "nft" else ""
    fates: Counter[str] = Counter()
    differing = unknown = 0
    with tempfile.TemporaryDirectory() as scratch:
        for outcome in worlds.run("uml" if arguments.uml else "namespaces", configurations, Path(scratch)):
            found = compare(outcome)
            fates.update(one.walked.forward.fate.value for one in found)
            differing += sum(bool(one.differences) for one in found)
            unknown += sum(one.is_unknown for one in found)
            _print(found, arguments)
    print(", ".join(f"{name} {count}" for name, count in fates.most_common()))
    print(f"{sum(fates.values())} probes, {differing} differ, {unknown} unknown")
    return int(differing > 0)


def _print(found: list[Comparison], arguments: argparse.Namespace) -> None:
    chosen = [one for one in found if one.differences or arguments.verbose or (arguments.unknown and one.is_unknown)]
    if chosen:
        print(chosen[0].configuration)
    for one in chosen:
        print(f"{one}\n")


if __name__ == "__main__":
    sys.exit(main())
