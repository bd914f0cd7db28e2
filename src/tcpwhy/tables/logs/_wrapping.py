"""A line wrapped by a runtime, journal or shipper goes in, the program's own line and a time come out."""

from __future__ import annotations

import calendar
import dataclasses
import re
from typing import Any

import msgspec

from tcpwhy.tables.logs._event import SECOND_NS

LAYERS = 4
"""Wrappers within wrappers: Kubernetes' log of a container whose program writes JSON, shipped as JSON."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stamp:
    """A wall clock, its precision and, where it is named, its zone."""

    naive_ns: int
    precision_ns: int
    zone_offset_s: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Unwrapped:
    """The program's own text."""

    text: str
    stamp: Stamp | None = None
    partial: str = ""
    """The stream of a line that goes on in the next record of that stream (CRI tag P), else empty."""


_RFC3339 = r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d\d:?\d\d)?"
_STAMP = re.compile(_RFC3339, re.ASCII)
_CRI = re.compile(_RFC3339 + r" (stdout|stderr) ([FP])(?::\S*)? ?", re.ASCII)
_SYSLOG = re.compile(
    r"(?:<\d{1,3}>\d?\s?)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)?(?: \d{4})?|" + _RFC3339 + r")"
    r" (?:\S{1,255} )?[^\s:\[\]]{1,128}(?:\[\d+\])?:\s",
    re.ASCII,
)
_STAMPED = re.compile(_RFC3339 + r"\s", re.ASCII)
_LABEL = re.compile(r"(?:\[(?:pod|container)?/?[\w./-]{1,253}\] |[\w.-]{1,128}\s{1,40}\| )", re.ASCII)
_LOGFMT_TIME = re.compile(r'\b(?:time|ts)="?(' + _RFC3339 + r')"?(?:\s|$)', re.ASCII)

_TEXT_KEYS = ("log", "message", "msg", "MESSAGE")
_ERROR_KEYS = ("error", "err", "error.message")
_TIME_KEYS = ("time", "@timestamp", "timestamp", "ts", "__REALTIME_TIMESTAMP")


def unwrap(line: str) -> Unwrapped:
    """Take off what is round a program's line: CRI, JSON, journal and syslog prefixes, labels.

    The time of the innermost wrapper that names its zone is kept. A syslog prefix without a year gives no
    time. Forms: Kubernetes CRI logging format; Docker json-file; RFC 3164 section 4.1 and RFC 3339 syslog;
    `kubectl logs --timestamps --prefix`; `journalctl -o json`; Elastic common schema.
    """
    text, stamp, partial = line, None, ""
    for _ in range(LAYERS):
        layer = _one_layer(text)
        if layer is None:
            break
        text = layer.text
        if layer.stamp and (stamp is None or layer.stamp.zone_offset_s is not None):
            stamp = layer.stamp
        partial = partial or layer.partial
    if stamp is None:
        found = _LOGFMT_TIME.search(text[:200])
        if found:
            stamp = _stamp(found, first_group=2)
    return Unwrapped(text, stamp, partial)


def _one_layer(text: str) -> Unwrapped | None:
    if text.startswith("{"):
        return _from_json(text)
    found = _CRI.match(text)
    if found:
        return Unwrapped(text[found.end() :], _stamp(found), found.group(9) if found.group(10) == "P" else "")
    found = _LABEL.match(text)
    if found:
        return Unwrapped(text[found.end() :])
    found = _SYSLOG.match(text)
    if found:
        return Unwrapped(text[found.end() :], _stamp(found) if found.group(1) else None)
    found = _STAMPED.match(text)
    if found:
        return Unwrapped(text[found.end() :], _stamp(found))
    return None


def _from_json(text: str) -> Unwrapped | None:
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    if isinstance(raw, dict) and isinstance(raw.get("_source"), dict):
        raw = raw["_source"]
    if not isinstance(raw, dict):
        return None
    words = [raw[key] for key in _TEXT_KEYS if isinstance(raw.get(key), str)][:1]
    words += [raw[key] for key in _ERROR_KEYS if isinstance(raw.get(key), str)][:1]
    if isinstance(raw.get("error"), dict) and isinstance(raw["error"].get("message"), str):
        words.append(raw["error"]["message"])
    if not words:
        return None
    times = (_json_time(key, raw[key]) for key in _TIME_KEYS if key in raw)
    stamp = next((time for time in times if time), None)
    return Unwrapped(": ".join(word.rstrip("\r\n") for word in words), stamp)


def _json_time(key: str, value: Any) -> Stamp | None:
    if key == "__REALTIME_TIMESTAMP" and isinstance(value, str) and re.fullmatch(r"\d{1,18}", value, re.ASCII):
        return Stamp(int(value) * 1000, 1000, 0)  # microseconds, systemd.journal-fields(7)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e14:
        return Stamp(int(value * 1_000_000) if value > 1e11 else int(value * 1e9), 1_000_000, 0)
    if isinstance(value, str):
        found = _STAMP.match(value)
        return _stamp(found) if found else None
    return None


def _stamp(found: re.Match[str], first_group: int = 1) -> Stamp | None:
    groups = [found.group(first_group + number) for number in range(8)]
    naive = naive_ns(*(int(part) for part in groups[:6]))
    if naive is None:
        return None
    fraction = groups[6] or ""
    zone: int | None = None
    if groups[7]:
        zone = 0
        if groups[7] != "Z":
            digits = groups[7][1:].replace(":", "")
            zone = (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if groups[7][0] == "-" else 1)
    return Stamp(naive + int((fraction + "0" * 9)[:9]), 10 ** (9 - len(fraction)), zone)


def naive_ns(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    """A wall clock as nanoseconds since 1970, as if it were UTC; None where there is no such time."""
    if not (1970 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]):
        return None
    if hour > 23 or minute > 59 or second > 60:
        return None
    return calendar.timegm((year, month, day, hour, minute, second)) * SECOND_NS
