"""A host's state/ folder goes in; which files of it were collected, and their lines, come out."""

from __future__ import annotations

import dataclasses
import datetime
import re
from pathlib import Path
from typing import Any

import msgspec

from tcpwhy.evidence.source import Source

HAPROXY_FILES = ("haproxy-sessions.txt", *(f"haproxy-sessions-{number}.txt" for number in range(2, 5)))
"""What each HAProxy process of a host answers to `show sess all` on its stats socket."""

STATE_FILES = (
    "iptables-save.txt",
    "ip6tables-save.txt",
    "nft-ruleset.json",
    "nft-ruleset.txt",
    "ip-link.json",
    "ip-addr.json",
    "ip-neigh.json",
    "ip-route.json",
    "ip6-route.json",
    "ip-rule.json",
    "ip6-rule.json",
    "sysctl.txt",
    "ss-tcp.txt",
    "nstat.txt",
    "conntrack.txt",
    "ipvsadm-rules.txt",
    "ipvsadm-connections.txt",
    *HAPROXY_FILES,
    "ipset.txt",
    "iptables-legacy-save.txt",
    "ip6tables-legacy-save.txt",
    "conntrack-stats.txt",
    "dmesg-net.txt",
    "tc.txt",
    "bpf-net.txt",
    "ip-route-cache.txt",
    "proc-net-tcp.txt",
    "proc-net-tcp6.txt",
    "proc-net-ip_vs.txt",
    "proc-net-ip_vs_conn.txt",
    "proc-net-netstat.txt",
    "proc-net-snmp.txt",
    *(
        f"{program}-listing-{table}.txt"
        for program in ("iptables", "ip6tables")
        for table in ("filter", "nat", "mangle", "raw", "security")
    ),
    "host.json",
)
"""The names that are read; one file a command, its raw output. The names of ip's JSON may hold its text instead, which older versions
print although asked for JSON."""

LARGEST = 256 << 20
"""Bytes of a state file that are read; a socket table of a million sockets takes about as much."""


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """host.json: whose state this is, and when it was taken."""

    name: str | None = None
    kernel: str | None = None
    time_ns: int | None = None
    """Nanoseconds since 1970 UTC."""
    utc_offset_s: int | None = None
    """East of Greenwich is positive."""
    failed: tuple[tuple[str, str], ...] = ()
    """What could not be collected, and why."""


class State:
    """One snapshot of one host."""

    def __init__(
        self, vantage_point: str, files: dict[str, Path], shown: dict[str, str], notes: list[str], host: Host | None = None
    ) -> None:
        """`files` and `shown` by the names of STATE_FILES: the path, and the path relative to the case.

        `host` where something else than host.json tells it, as in a sosreport.
        """
        self.vantage_point = vantage_point
        self._files = files
        self._shown = shown
        self.notes = notes
        self.has_losses = False
        """Whether a file could not be read, or not whole; the notes say which."""
        self.host = host if host is not None else self._read_host()

    @property
    def collected(self) -> frozenset[str]:
        """The names of STATE_FILES that are there, empty ones too."""
        return frozenset(self._files)

    def is_collected(self, name: str) -> bool:
        """False where nobody took it; True for an empty file, which says that there was nothing."""
        return name in self._files

    def add(self, name: str, path: Path, shown: str) -> bool:
        """Takes a file of another name for `name` of STATE_FILES; False where that was collected already."""
        if name in self._files:
            return False
        self._files[name], self._shown[name] = path, shown
        return True

    def path(self, name: str) -> Path | None:
        """The file, or None where it was not collected."""
        return self._files.get(name)

    def source(self, name: str, line: int | None = None) -> Source:
        """The place of a fact in a collected file. Raises KeyError where it was not collected."""
        return Source(self.vantage_point, self._shown[name], line=line)

    def read_lines(self, name: str) -> list[str] | None:
        """The lines of a file, without their ends; None where it was not collected or cannot be read.

        Bytes that are not UTF-8 are replaced; of a file longer than LARGEST the first part is given. What
        could not be read is noted.
        """
        path = self._files.get(name)
        if path is None:
            return None
        try:
            with path.open("rb") as stream:
                data = stream.read(LARGEST + 1)
        except OSError as error:
            self._note(f"{self._shown[name]} cannot be read ({error.strerror or error})")
            return None
        if len(data) > LARGEST:
            self._note(f"{self._shown[name]} is longer than {LARGEST >> 20} MiB; the rest was not read")
            data = data[:LARGEST]
        lines = data.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
        if lines and not lines[-1]:
            lines.pop()
        return lines

    def _note(self, text: str) -> None:
        self.has_losses = True
        if text not in self.notes:
            self.notes.append(text)

    def _read_host(self) -> Host:
        lines = self.read_lines("host.json")
        if lines is None:
            return Host()
        try:
            raw = msgspec.json.decode("\n".join(lines))
        except (msgspec.DecodeError, RecursionError) as error:
            self._note(f"{self._shown['host.json']} is not JSON ({error}); name and time of the host are not known")
            return Host()
        if not isinstance(raw, dict):
            self._note(f"{self._shown['host.json']} is not an object; name and time of the host are not known")
            return Host()
        offset = parse_utc_offset(_first(raw, "utc_offset", "utc_offset_s", "utc_offset_seconds"))
        failed = _first(raw, "failed", "failures")
        pairs = sorted(failed.items()) if isinstance(failed, dict) else ()
        return Host(
            name=_text(_first(raw, "name", "hostname")),
            kernel=_text(_first(raw, "kernel")),
            time_ns=_time_ns(_first(raw, "time", "collected", "collected_at")),
            utc_offset_s=offset,
            failed=tuple((str(name), str(reason)[:200]) for name, reason in pairs[:100]),
        )


def _first(raw: dict[str, Any], *names: str) -> Any:
    return next((raw[name] for name in names if raw.get(name) is not None), None)


def _text(value: Any) -> str | None:
    return value[:255] if isinstance(value, str) and value else None


def parse_utc_offset(value: Any) -> int | None:
    """`+08:00`, `+0800`, `Z` or a number of seconds, as seconds east; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if abs(value) <= 18 * 3600 else None
    if not isinstance(value, str):
        return None
    if value in ("Z", "UTC"):
        return 0
    found = re.fullmatch(r"([+-])(\d\d):?(\d\d)(?::?(\d\d))?", value.strip(), re.ASCII)
    if not found:
        return None
    sign, hours, minutes, seconds = found.groups()
    total = int(hours) * 3600 + int(minutes) * 60 + int(seconds or 0)
    return None if total > 18 * 3600 else -total if sign == "-" else total


def _time_ns(value: Any) -> int | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e11:
        return int(value * 1_000_000_000)
    if not isinstance(value, str):
        return None
    try:
        time = datetime.datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    if time.tzinfo is None:
        return None
    elapsed = time - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000_000 + elapsed.microseconds * 1000
