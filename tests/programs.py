"""The name of a real program goes in, its path comes out; without it a test is skipped, and fails where everything must be installed."""

from __future__ import annotations

import os
import shutil

import pytest


def installed(name: str) -> str:
    """Where a program is, also in the folders that an ordinary user's PATH lacks."""
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is not None:
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed: .ci/debian-packages must name its package")
    pytest.skip(f"{name} is not installed")
