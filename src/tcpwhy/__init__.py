"""tcpwhy names the root cause of each failed TCP connection, from captures, host state and logs: `open_case()` is the way in."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tcpwhy.case import Case, open_case
    from tcpwhy.evidence import EvidenceError as CaseError

__all__ = ["Case", "CaseError", "__version__", "open_case"]

__version__ = "0.1.0"

_HOMES = {
    "Case": ("tcpwhy.case", "Case"),
    "open_case": ("tcpwhy.case", "open_case"),
    "CaseError": ("tcpwhy.evidence", "EvidenceError"),
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is asked for: `tcpwhy --version` needs none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
