"""The half of a differential run that stands in its world: configurations (JSON lines) come in, states and observations go out."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

from tests.differential.configuration import Configuration
from tests.differential.kernel_host import HostUnderTest


def main(folder: Path) -> None:
    """Works through `configurations.jsonl`; each line of `observations.jsonl` has what was observed, or an error."""
    with (folder / "configurations.jsonl").open() as cases, (folder / "observations.jsonl").open("w") as sink:
        for line in cases:
            configuration = Configuration.from_words(json.loads(line))
            sink.write(json.dumps(_run(configuration, folder / str(configuration.seed))) + "\n")
            sink.flush()


def _run(configuration: Configuration, folder: Path) -> dict[str, object]:
    try:
        with HostUnderTest(configuration) as host:
            for probe in configuration.warm:
                host.observe(probe)
            host.collect(folder / "state")
            observations = [host.observe(probe).as_words() for probe in configuration.probes]
    except Exception:  # noqa: BLE001  whatever it was is told outside, with the seed
        return {"seed": configuration.seed, "error": traceback.format_exc(), "observations": []}
    return {"seed": configuration.seed, "error": "", "observations": observations}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
