"""The half of the lab that runs in its world: a plan (JSON) comes in, case folders and one report a run go out.

It runs as the first process of fresh namespaces, or of User Mode Linux: when it ends, everything it made ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path

from .host import run_checked
from .options import Options, with_words
from .scenarios import by_name
from .world import World, kernel_release


def main(plan_file: str) -> None:
    """Runs each entry of the plan; what went wrong in one stands in its report and does not stop the next."""
    plan = json.loads(Path(plan_file).read_text())
    for number, entry in enumerate(plan["runs"]):
        run_entry(entry, tag=f"l{number}-", keep=plan["keep"])


def run_entry(entry: dict[str, object], *, tag: str, keep: bool) -> None:
    """One scenario from its first host to its last capture."""
    scratch = Path(str(entry["scratch"]))
    report: dict[str, object] = {"kernel": kernel_release(), "error": None}
    words = entry["options"]
    assert isinstance(words, dict)
    try:
        with ExitStack() as undo:
            scenario = by_name(str(entry["scenario"]))
            world = World(
                options=with_words(Options(), words),
                seed=int(str(entry["seed"])),
                fault=scenario.fault,
                form=scenario.form,
                case=Path(str(entry["case"])),
                scratch=scratch,
                undo=undo,
                tag=tag,
            )
            scenario.story(world)
            world.finish()
            if keep:
                write_report(scratch, report)
                wait_while_kept(scratch)
    except Exception:  # noqa: BLE001  whatever it was stands in the report
        report["error"] = traceback.format_exc()
    write_report(scratch, report)


def write_report(scratch: Path, report: dict[str, object]) -> None:
    """Says how the run went; the file is whole as soon as it is there."""
    (scratch / "report.json.part").write_text(json.dumps(report))
    (scratch / "report.json.part").rename(scratch / "report.json")


def wait_while_kept(scratch: Path) -> None:
    """Leaves the namespaces as they are until the runner says that they were looked at."""
    (scratch / "kept").write_text(run_checked(["ip", "netns", "list"]))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    os.environ.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    main(sys.argv[1])
