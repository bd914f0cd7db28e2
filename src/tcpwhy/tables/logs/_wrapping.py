"""A line wrapped by a runtime, journal or shipper goes in, the program's own line and a time come out."""

from __future__ import annotations

import calendar
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tcpwhy.tables.logs._event import SECOND_NS, endpoint

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
    fields: Mapping[str, Any] | None = None
    """The members of the innermost JSON object."""


_RFC3339 = r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d\d:?\d\d)?"
_STAMP = re.compile(_RFC3339, re.ASCII)
_CRI = re.compile(_RFC3339 + r" (stdout|stderr) ([FP])(?::\S*)? ?", re.ASCII)
_SYSLOG = re.compile(
    r"(?:<\d{1,3}>\d?\s?)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)?(?: \d{4})?|" + _RFC3339 + r")"
    r" (?:\S{1,255} )?[^\s:\[\]]{1,128}(?:\[\d+\])?:\s",
    re.ASCII,
)
_SYSLOG_5424 = re.compile(
    r"<\d{1,3}>1 (?:-|" + _RFC3339 + r") \S{1,255} \S{1,48} \S{1,128} \S{1,32} (?:-|(?:\[[^\]\n]{0,2000}\]){1,20}) ?(?:\ufeff)?", re.ASCII
)
_STAMPED = re.compile(_RFC3339 + r"\s", re.ASCII)
_LABEL = re.compile(r"(?:\[(?:pod|container)?/?[\w./-]{1,253}\] |[\w.-]{1,128}\s{1,40}\| )", re.ASCII)
_LOGFMT_TIME = re.compile(r'\b(?:time|ts)="?(' + _RFC3339 + r')"?(?:\s|$)', re.ASCII)

_OWN_TIME = re.compile(r"[\[(]?" + _RFC3339.replace("-(\\d\\d)-", "[-/](\\d\\d)[-/]") + r"(?:[\s\]),]|$)", re.ASCII)

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

COMMON_TIME = r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?: ([+-]\d{4}))?"
"""As access logs write it: `21/Nov/2026:07:00:43 +0100` (Apache's %t, nginx's $time_local), with milliseconds and no zone in HAProxy's."""

_BARE_COMMON_TIME = re.compile(COMMON_TIME, re.ASCII)
_COMMON_TIME = re.compile(r"[^\[\]]{0,200}\[" + COMMON_TIME + r"\]", re.ASCII)

_TEXT_KEYS = ("log", "message", "msg", "MESSAGE")
_ERROR_KEYS = ("error", "err", "error.message")
_TIME_KEYS = ("time", "@timestamp", "timestamp", "ts", "__REALTIME_TIMESTAMP", "time_iso8601", "time_local", "start_time", "StartUTC")


def unwrap(line: str) -> Unwrapped:
    """Take off what is round a program's line: CRI, JSON, journal and syslog prefixes, labels.

    The time of the innermost wrapper that names its zone is kept. A syslog prefix without a year gives no
    time. Forms: Kubernetes CRI logging format; Docker json-file; RFC 3164 section 4.1, RFC 5424 section 6 and RFC 3339 syslog;
    `kubectl logs --timestamps --prefix`; `journalctl -o json`; Elastic common schema.
    """
    text, stamp, partial = line, None, ""
    fields: Mapping[str, Any] | None = None
    for _ in range(LAYERS):
        layer = _one_layer(text)
        if layer is None:
            break
        fields = fields if layer.fields is None else layer.fields
        if layer.stamp and (stamp is None or layer.stamp.zone_offset_s is not None):
            stamp = layer.stamp
        partial = partial or layer.partial
        if layer.text == text:
            break
        text = layer.text
    return Unwrapped(text, stamp or stamp_of(text), partial, fields)


def stamp_of(text: str) -> Stamp | None:
    """The time at the begin of a program's own line, or of its member `time` or `ts`; None where there is none that has a date."""
    found = _LOGFMT_TIME.search(text[:200])
    if found:
        return _stamp(found, first_group=2)
    found = _OWN_TIME.match(text[:200])
    if found:
        return _stamp(found)
    common = _COMMON_TIME.match(text[:300])
    return common_time(common.groups()) if common else None


def common_time(groups: Sequence[str | None]) -> Stamp | None:
    """The groups of COMMON_TIME as a time."""
    day, month, year, hour, minute, second, fraction, zone = groups
    if month not in MONTHS or not (day and year and hour and minute and second):
        return None
    naive = naive_ns(int(year), MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second))
    if naive is None:
        return None
    fraction = fraction or ""
    return Stamp(naive + int((fraction + "0" * 9)[:9]), 10 ** (9 - len(fraction)), _zone(zone))


def _one_layer(text: str) -> Unwrapped | None:
    if text.startswith("{"):
        return _from_json(text)
    found = _CRI.match(text)
    if found:
        return Unwrapped(text[found.end() :], _stamp(found), found.group(9) if found.group(10) == "P" else "")
    found = _LABEL.match(text)
    if found:
        return Unwrapped(text[found.end() :])
    found = _SYSLOG_5424.match(text) or _SYSLOG.match(text)
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
    for key in ("_source", "fields"):  # a hit of Elasticsearch: as it was stored, or as Kibana asks for it
        if isinstance(raw, dict) and isinstance(raw.get(key), dict) and ("_id" in raw or "_index" in raw or key == "_source"):
            raw = raw[key]
    if not isinstance(raw, dict):
        return None
    words = [word for word in (_text(raw.get(key)) for key in _TEXT_KEYS) if word][:1]
    words += [word for word in (_text(raw.get(key)) for key in _ERROR_KEYS) if word][:1]
    if isinstance(raw.get("error"), dict) and (word := _text(raw["error"].get("message"))):
        words.append(word)
    times = (_json_time(key, _first(raw[key])) for key in _TIME_KEYS if key in raw)
    stamp = next((time for time in times if time), None)
    return Unwrapped(": ".join(word.rstrip("\r\n") for word in words) or text, stamp, fields=raw)


def _first(value: Any) -> Any:
    """Elasticsearch gives each field as a list where it is asked for fields."""
    return value[0] if isinstance(value, list) and value else value


def _text(value: Any) -> str:
    """A text, or the journal's bytes that are no UTF-8 (systemd.journal-fields(7)); else nothing."""
    if isinstance(value, list) and value and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        return bytes(value).decode("utf-8", "replace")
    value = _first(value)
    return value if isinstance(value, str) else ""


def member(fields: Mapping[str, Any], name: str) -> Any:
    """The member of that name, written `a.b` or as `b` within `a`; of a list the first; None where there is none."""
    if name in fields:
        return _first(fields[name])
    outer, dot, inner = name.partition(".")
    within = fields.get(outer)
    return member(within, inner) if dot and isinstance(within, Mapping) else None


def named_ends(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """Both ends of a connection where the Elastic Common Schema's members name them with their ports."""
    for one, other in (("source", "destination"), ("client", "server")):
        ends = [
            _end_of(member(fields, f"{side}.ip") or member(fields, f"{side}.address"), member(fields, f"{side}.port"))
            for side in (one, other)
        ]
        if ends[0] and ends[1]:
            return ends[0], ends[1]
    return None


def _end_of(ip: Any, port: Any) -> str | None:
    if not isinstance(ip, str) or not isinstance(port, int | str) or isinstance(port, bool):
        return None
    return endpoint(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}")


def _json_time(key: str, value: Any) -> Stamp | None:
    if key == "__REALTIME_TIMESTAMP" and isinstance(value, str) and re.fullmatch(r"\d{1,18}", value, re.ASCII):
        return Stamp(int(value) * 1000, 1000, 0)  # microseconds, systemd.journal-fields(7)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e14:
        return Stamp(int(value * 1_000_000) if value > 1e11 else int(value * 1e9), 1_000_000, 0)
    if isinstance(value, str):
        found = _STAMP.match(value)
        common = None if found else _BARE_COMMON_TIME.match(value)
        return _stamp(found) if found else common_time(common.groups()) if common else None
    return None


def _stamp(found: re.Match[str], first_group: int = 1) -> Stamp | None:
    groups = [found.group(first_group + number) for number in range(8)]
    naive = naive_ns(*(int(part) for part in groups[:6]))
    if naive is None:
        return None
    fraction = groups[6] or ""
    return Stamp(naive + int((fraction + "0" * 9)[:9]), 10 ** (9 - len(fraction)), _zone(groups[7]))


def _zone(text: str | None) -> int | None:
    """`Z`, `+01:00` or `-0800` in seconds east; None where there is none."""
    if not text:
        return None
    if text == "Z":
        return 0
    digits = text[1:].replace(":", "")
    return (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if text[0] == "-" else 1)


def naive_ns(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    """A wall clock as nanoseconds since 1970, as if it were UTC; None where there is no such time."""
    if not (1970 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]):
        return None
    if hour > 23 or minute > 59 or second > 60:
        return None
    return calendar.timegm((year, month, day, hour, minute, second)) * SECOND_NS
