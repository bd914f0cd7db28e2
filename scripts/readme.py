"""The README and the program come in; the README goes out with the program's own report in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- demo -->\n", "<!-- /demo -->\n"
DEMO = ("tcpwhy", "diagnose", "examples/gateway-502")
FOUND_A_FAILURE = 1  # tcpwhy's exit status where a connection failed


def demo_report() -> str:
    """What the demo prints at 80 columns, without colour, its times in UTC.

    SystemExit where tcpwhy does not exit with FOUND_A_FAILURE.
    """
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TZ": "UTC"}
    program = Path(sys.executable).with_name(DEMO[0])
    done = subprocess.run([program, *DEMO[1:]], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != FOUND_A_FAILURE:
        raise SystemExit(f"`{' '.join(DEMO)}` exited with {done.returncode}, expected {FOUND_A_FAILURE}\n{done.stderr}")
    return done.stdout


def with_report(readme: str, report: str) -> str:
    """The README's text with this report between the markers; ValueError where one is missing."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"README.md: expected `{BEGIN.strip()}` and `{END.strip()}` once each")
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    lines = "\n".join(line.rstrip() for line in report.strip("\n").splitlines())
    return f"{before}{BEGIN}```text\n$ {' '.join(DEMO)}\n{lines}\n```\n{END}{after}"


def main() -> None:
    """Write the README anew."""
    README.write_text(with_report(README.read_text(), demo_report()))
    print("README.md shows the report of " + " ".join(DEMO))


if __name__ == "__main__":
    main()
