"""The files of this folder go in, the catalogue of causes comes out: ids from file names, pages from docstrings."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tcpwhy.causes._prediction import Prediction
from tcpwhy.causes._verdict import Found, Verdict
from tcpwhy.connections.connection import Connection

if TYPE_CHECKING:
    from tcpwhy.tables.host import HostTables

ALL_IDS = (
    "syn-lost", "synack-lost", "port-closed", "rejected-by-firewall", "reverse-path-filter", "accept-queue-overflow", "vip-missing",
    "arp-conflict", "local-redirect", "stale-connection", "timestamp-rejected", "mid-connection-rehash", "injected-reset",
    "idle-timeout", "keepalive-race", "mtu-blackhole", "zero-window", "packet-loss", "reset-with-unread-data", "peer-vanished",
    "asymmetric-drop", "slow-server",
)  # fmt: skip
"""The ids of the contract, for ever, in its order (docs/causes.md)."""

HEADINGS = ("Mechanism", "Signature", "Source", "Fix", "Not to be taken for")
"""Each cause's docstring has these, each at the begin of a paragraph and ended by a full stop."""


@dataclasses.dataclass(frozen=True)
class CauseFile:
    """One cause: its page and its code."""

    id: str
    title: str
    """The docstring's first line."""
    headings: dict[str, str]
    text: str
    """The whole docstring."""
    suspect: str
    """SQL over the flow table: flows that are worth examining."""
    examine: Callable[[Connection], Verdict]
    predict: Callable[[Mapping[str, HostTables]], list[Prediction]] | None
    """What the states of hosts foretell of it, without any packet; None where a state alone foretells nothing."""
    together: Callable[[Sequence[Found]], str] | None
    """Says what several connections of one finding have in common; None where a cause has nothing to say."""
    references: tuple[str, ...]


def parse_page(text: str) -> dict[str, str]:
    """The paragraphs of a cause's docstring by heading."""
    pattern = re.compile(r"^(" + "|".join(re.escape(name) for name in HEADINGS) + r")\.(?:[ \t]+|$)", re.MULTILINE)
    matches = list(pattern.finditer(text))
    ends = [match.start() for match in matches[1:]] + [len(text)]
    return {match.group(1): text[match.end() : end].strip("\n") for match, end in zip(matches, ends, strict=True)}


@functools.cache
def catalogue() -> tuple[CauseFile, ...]:
    """All causes that have a file, in the order of their ids."""
    import tcpwhy.causes as folder

    found = []
    for module_info in pkgutil.iter_modules(folder.__path__):
        if module_info.name.startswith("_"):
            continue
        module = importlib.import_module(f"tcpwhy.causes.{module_info.name}")
        text = module.__doc__ or ""
        found.append(
            CauseFile(
                id=module_info.name.replace("_", "-"),
                title=text.strip().splitlines()[0],
                headings=parse_page(text),
                text=text.strip(),
                suspect=module.SUSPECT,
                examine=module.examine,
                predict=getattr(module, "predict", None),
                together=getattr(module, "together", None),
                references=tuple(module.REFERENCES),
            )
        )
    return tuple(sorted(found, key=lambda cause: cause.id))
