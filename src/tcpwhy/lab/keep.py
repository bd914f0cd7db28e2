"""How a finished case is kept: the raw case and the options come in; file format, clocks and places are made so."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

from .options import Options


def settle(case: Path, options: Options, seed: int) -> dict[str, object]:
    """Gives the captures the format, the clocks and the places that were asked for; returns what was changed.

    Clocks: every vantage point without a log gets a clock of its own, up to some seconds off (the key
    `clock_offsets_s`: this clock minus true time). Places: the others' folders are taken away.
    """
    draw = random.Random(seed)
    offsets: dict[str, float] = {}
    for place in sorted(path for path in case.iterdir() if path.is_dir()):
        captures = sorted(place.glob("*.pcap"))
        apart = options.clocks == "apart" and not any(place.glob("*.log")) and captures
        offset = round(draw.choice([-1, 1]) * draw.uniform(0.2, 9.0), 6) if apart else 0.0
        if offset:
            offsets[place.name] = offset
        for capture in captures:
            _convert(capture, options, offset)
    if options.places:
        for place in [path for path in case.iterdir() if path.is_dir()]:
            if place.name not in options.places:
                shutil.rmtree(place)
    changes: dict[str, object] = {"vantage_points": sorted(path.name for path in case.iterdir() if path.is_dir())}
    kept = {place: offset for place, offset in offsets.items() if (case / place).is_dir()}
    return changes | ({"clock_offsets_s": kept} if kept else {})


def _convert(capture: Path, options: Options, offset: float) -> None:
    if options.format != "pcapng" and not offset:
        return
    kind = {"pcap": "pcap", "nano": "nsecpcap", "pcapng": "pcapng"}[options.format]
    fresh = capture.with_suffix(".pcapng" if kind == "pcapng" else ".pcap.part")
    command = ["editcap", "-F", kind, *(["-t", f"{offset:.6f}"] if offset else []), str(capture), str(fresh)]
    subprocess.run(command, check=True, capture_output=True)
    capture.unlink()
    if kind != "pcapng":
        fresh.rename(capture)
