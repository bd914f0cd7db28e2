"""Errors that Node programs print go in; whose connection failed and how come out.

    Error: connect ECONNREFUSED 10.0.1.2:80
    Error: read ECONNRESET
    Error: socket hang up

`socket hang up` is a FIN before the answer (and a connection that was closed while it idled), although its code is ECONNRESET too; a RST
has its system call in front (Node lib/_http_client.js, lib/net.js; undici lib/core/errors.js).
"""

from __future__ import annotations

import re

from tcpwhy.tables.haproxy_sessions import end_of
from tcpwhy.tables.logs._event import ParsedLine, What

MARKERS = (
    "connect E",
    "read ECONNRESET",
    "write ECONNRESET",
    "write EPIPE",
    "socket hang up",
    "other side closed",
    "Connect Timeout Error",
    "Headers Timeout Error",
    "Body Timeout Error",
    "Error: aborted",
    "AxiosError: timeout of ",
    "aborted due to timeout",
)
"""A line without any of these is none of this dialect."""

_CONNECT = re.compile(r"\bconnect (E[A-Z]{4,14}) ([0-9a-fA-F:.]{3,60})(?![\w.:])", re.ASCII)
_ERRNOS: dict[str, What] = {
    "ECONNREFUSED": "refused",
    "ECONNRESET": "reset",
    "ETIMEDOUT": "timeout_connecting",
    "EHOSTUNREACH": "unreachable",
    "ENETUNREACH": "unreachable",
    "EHOSTDOWN": "unreachable",
}
_LOCAL = re.compile(r"- Local \(([0-9a-fA-F:.]{3,60})\)", re.ASCII)
_ATTEMPTED = re.compile(r"\((?:attempted address(?:es)?: ([^,)\s]{1,100})[^)]{0,200}?)?,? ?(?:timeout: (\d{1,9})ms)?\)", re.ASCII)
_WAITED = re.compile(r"timeout of (\d{1,9})ms exceeded", re.ASCII)
_SOCKET = re.compile(r"\b(local|remote)(Address|Port): '?([0-9a-fA-F:.]{1,60})'?", re.ASCII)

_TEXTS: dict[str, What] = {
    "read ECONNRESET": "reset",
    "write ECONNRESET": "reset",
    "write EPIPE": "broken_pipe",
    "socket hang up": "eof",
    "other side closed": "eof",
    "Connect Timeout Error": "timeout_connecting",
    "Headers Timeout Error": "timeout_reading",
    "Body Timeout Error": "timeout_reading",
    "timeout of": "timeout",
    "aborted": "eof",
    "The operation was aborted due to timeout": "timeout",
}
_SAID = re.compile(rf"(?:^|: |\"|')({'|'.join(_TEXTS)})(?=[\s,.\"')]|$)", re.ASCII)


def unfinished(line: str) -> bool:
    """True for undici's error of a socket until its ends are there: it prints them below."""
    at = line.find("SocketError: other side closed")
    return at >= 0 and "bytesRead" not in line[at:] and "\n}" not in line[at:]


def parse(line: str) -> ParsedLine | None:
    """What a line says of a connection that failed, or None."""
    if not any(marker in line for marker in MARKERS):
        return None
    connect = _CONNECT.search(line[:4000])
    if connect is not None and connect[1] in _ERRNOS:
        end = end_of(connect[2])
        local = _LOCAL.search(line[:4000])
        own = end_of(local[1]) if local else None
        return ParsedLine(
            kind=_ERRNOS[connect[1]],
            failing=True,
            message=line,
            local=_text(own) if own and own[1] else None,
            remote=_text(end),
            about="upstream",
        )
    said = _SAID.search(line[:4000])
    if said is None:
        return None
    values = {(side, what): value for side, what, value in _SOCKET.findall(line)}
    ends = [end_of(f"{values.get((side, 'Address'), '')}:{values.get((side, 'Port'), '')}") for side in ("local", "remote")]
    attempted, waited = _ATTEMPTED.search(line[:2000]) if "Timeout Error" in line else None, _WAITED.search(line[:2000])
    milliseconds = waited[1] if waited else attempted[2] if attempted else None
    return ParsedLine(
        kind=_TEXTS[said[1]],
        failing=True,
        message=line,
        local=_text(ends[0]),
        remote=_text(ends[1]) or (_text(end_of(attempted[1])) if attempted and attempted[1] else None),
        about="upstream" if "ECONNRESET" not in line and "EPIPE" not in line else None,
        waited_ns=int(milliseconds) * 1_000_000 if milliseconds else None,
    )


def _text(end: tuple[str, int] | None) -> str | None:
    if end is None or not end[1]:
        return None
    return f"[{end[0]}]:{end[1]}" if ":" in end[0] else f"{end[0]}:{end[1]}"
