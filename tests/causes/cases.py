"""A host's state and a few segments go in, a case folder and its report come out: for rules that need no kernel."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import tcpwhy
from tcpwhy.diagnosis.finding import Finding, Report
from tests.packets import START_NS, Tcp, exchange, write_pcap
from tests.path.states import ROUTER, SETTINGS, link

CLIENT, SERVICE = "192.0.2.7:40009", "10.0.0.1:80"
MAC = "02:00:00:00:00:01"
"""To which tests.packets sends each frame."""

COLLECTED = f'{{"name": "rs1", "time": {START_NS / 1e9 + 60}}}'

LINKS = [
    link(1, "lo", address="00:00:00:00:00:00"),
    link(2, "eth0", address=MAC),
    link(3, "eth1", address="02:00:00:00:00:99"),
]


def state(folder: Path, files: Mapping[str, object] | None = None, *, settings: Mapping[str, int] | None = None) -> Path:
    """A state folder: the router of tests/path, its interfaces apart by hardware address, with `files` in the place of its own."""
    sysctls = "".join(f"{key} = {value}\n" for key, value in {**SETTINGS, **(settings or {})}.items())
    contents = {**ROUTER, "ip-link.json": LINKS, "host.json": COLLECTED, "sysctl.txt": sysctls, **(files or {})}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def unanswered(client: str = CLIENT, service: str = SERVICE, at_ms: float = 500) -> list[Tcp]:
    """A SYN, four times, that is never answered."""
    return [
        Tcp(at_ms + at, client, service, "S", 5, ip_id=90 + number, ttl=61, stamps=(int(at), 0))
        for number, at in enumerate((0, 1_000, 3_000, 7_000))
    ]


def others(count: int = 6, service: str = SERVICE, begin_ms: float = 0) -> list[Tcp]:
    """Healthy exchanges of another client on the network of eth0."""
    return [
        one
        for number in range(count)
        for one in exchange(f"10.0.0.77:{41_000 + number}", service, begin_ms + number * 2_000, isn=7_000_000 * (number + 1))
    ]


def capture(path: Path, segments: Sequence[Tcp]) -> Path:
    """The segments in the order of time."""
    return write_pcap(path, sorted(segments, key=lambda one: one.at_ms))


def report(folder: Path) -> Report:
    with tcpwhy.open_case(folder, index=False) as case:
        return case.diagnosis().report


def verdicts(told: Report) -> set[tuple[str, str]]:
    return {(finding.cause, finding.confidence) for finding in told.findings}


def only(told: Report) -> Finding:
    """The one finding of a report."""
    assert len(told.findings) == 1, verdicts(told)
    return told.findings[0]
