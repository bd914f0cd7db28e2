"""The half of a differential run that stands in its world: configurations (lines of JSON) come in, states and observations go out."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import msgspec

from tests.differential.configuration import Configuration
from tests.differential.kernel_host import HostUnderTest
from tests.differential.observation import Result, follow_up


def main(folder: Path) -> None:
    """Works through `configurations.jsonl`; each line of `results.jsonl` has what was observed, or an error."""
    with (folder / "configurations.jsonl").open("rb") as cases, (folder / "results.jsonl").open("wb") as sink:
        for line in cases:
            configuration = msgspec.json.decode(line, type=Configuration)
            sink.write(msgspec.json.encode(_run(configuration, folder / str(configuration.seed))) + b"\n")
            sink.flush()


def _run(configuration: Configuration, folder: Path) -> Result:
    try:
        with HostUnderTest(configuration) as host:
            follow_ups = [follow_up(probe, host.observe(probe)) for probe in configuration.warm]
            known = [probe for probe in follow_ups if probe is not None]
            host.collect(folder / "state")
            return Result([host.observe(probe) for probe in [*configuration.probes, *known]], known)
    except Exception:  # noqa: BLE001  whatever it was is told outside, with the configuration
        return Result([], [], traceback.format_exc())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
