"""The name of an extra of pyproject.toml comes in, its requirements go out, one a line, for pip.

`pip install '.[test]'` would build the extension a second time; this installs the tools alone.
"""

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def requirements(extra: str) -> list[str]:
    """The requirements of one extra, as pyproject.toml writes them; KeyError where there is no such extra."""
    extras: dict[str, list[str]] = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    return extras[extra]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
