"""tcpwhy.toml goes in, typed settings come out, or an error that names the line."""

from __future__ import annotations

import ipaddress
import re
import tomllib
import zoneinfo
from pathlib import Path
from typing import Any, Literal

import msgspec

from tcpwhy.evidence.error import EvidenceError

Role = Literal["client", "proxy", "balancer", "router", "backend"]

LARGEST = 1 << 20
"""Bytes; a longer file is no settings file."""

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_OFFSET = re.compile(r"([+-]?)(\d{1,12}(?:\.\d{1,12})?)\s*(ns|us|µs|ms|s|m|h)")


class VantageSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[vantage.NAME]`."""

    role: Role | None = None
    addresses: tuple[str, ...] = ()
    clock_offset: str | None = None
    """This clock minus true time, with a unit."""
    log_timezone: str | None = None


class ServiceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[service."ip:port"]`."""

    name: str | None = None
    backends: tuple[str, ...] = ()
    """Names of vantage points."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What cannot be seen in the evidence."""

    vantage: dict[str, VantageSettings] = msgspec.field(default_factory=dict)
    service: dict[str, ServiceSettings] = msgspec.field(default_factory=dict)


FARTHEST_S = 100 * 366 * 86_400.0
"""No clock is farther off; nanoseconds of more would not fit 64 bits."""


def offset_in_seconds(text: str) -> float:
    """`+5.02s`, `-3ms`, `1h` in seconds. Raises ValueError with a sentence."""
    found = _OFFSET.fullmatch(text.strip())
    if not found:
        raise ValueError(f"read `{text}`, expected a number with a unit (ns, us, ms, s, m, h) such as +5.02s")
    sign, number, unit = found.groups()
    seconds = float(number) * _UNITS_S[unit] * (-1.0 if sign == "-" else 1.0)
    if abs(seconds) > FARTHEST_S:
        raise ValueError(f"read `{text}`, expected an offset of a hundred years at most")
    return seconds


def read_settings(path: Path, shown: str) -> Settings:
    """The settings in `path`, which errors call `shown`. Raises EvidenceError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise EvidenceError(shown, f"longer than {LARGEST} bytes, expected a few lines of settings")
        text = data.decode("utf-8")
        raw = tomllib.loads(text)
    except OSError as error:
        raise EvidenceError(shown, f"cannot be read ({error.strerror or error}), expected a readable file") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EvidenceError(f"{shown}:{line}", "is not UTF-8, expected TOML in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column \d+\)", str(error))
        what = re.sub(r"\s*\(at .*\)$", "", str(error))
        where = f"{shown}:{at.group(1)}" if at else f"{shown}:{text.count(chr(10)) + 1}"
        raise EvidenceError(where, f"is not TOML: {what[:1].lower()}{what[1:]}") from None
    except RecursionError:
        raise EvidenceError(shown, "is nested too deeply, expected two levels of tables") from None
    _refuse_unknown(raw, shown, text)
    try:
        settings = msgspec.convert(raw, Settings)
    except msgspec.ValidationError as error:
        what, _, at_key = str(error).partition(" - at ")
        key = at_key.strip("`").removeprefix("$.")
        where = f"{shown}:{_line_of(text, _last_key(key))}" if key else shown
        raise EvidenceError(where, f"{key or 'the file'}: {what[:1].lower()}{what[1:]}".replace("`", "`")) from None
    _check(settings, shown, text)
    return settings


_KNOWN: dict[str, type[msgspec.Struct]] = {"vantage": VantageSettings, "service": ServiceSettings}


def _refuse_unknown(raw: dict[str, Any], shown: str, text: str) -> None:
    for section, tables in raw.items():
        known = _KNOWN.get(section)
        if known is None:
            raise EvidenceError(
                f"{shown}:{_line_of(text, section)}",
                f"unknown key `{section}`, expected `vantage` or `service`",
            )
        for name, table in tables.items() if isinstance(tables, dict) else ():
            for key in table if isinstance(table, dict) else ():
                if key not in known.__struct_fields__:
                    expected = ", ".join(f"`{field}`" for field in known.__struct_fields__)
                    line = _line_of(text, key, below=name)
                    raise EvidenceError(f"{shown}:{line}", f"unknown key `{key}`, expected one of {expected}")


def _check(settings: Settings, shown: str, text: str) -> None:
    for name, vantage in settings.vantage.items():
        for address in vantage.addresses:
            try:
                ipaddress.ip_address(address)
            except ValueError:
                where = f"{shown}:{_line_of(text, 'addresses', below=name)}"
                raise EvidenceError(where, f"read `{address}`, expected an IP address without a port") from None
        if vantage.clock_offset is not None:
            try:
                offset_in_seconds(vantage.clock_offset)
            except ValueError as error:
                raise EvidenceError(f"{shown}:{_line_of(text, 'clock_offset', below=name)}", str(error)) from None
        if vantage.log_timezone is not None and not is_zone(vantage.log_timezone):
            raise EvidenceError(
                f"{shown}:{_line_of(text, 'log_timezone', below=name)}",
                f"read `{vantage.log_timezone}`, expected a time zone such as Asia/Shanghai or UTC",
            )
    for name in settings.service:
        address, _, port = name.rpartition(":")
        try:
            ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
            right = port.isascii() and port.isdigit() and int(port[:9]) < 65536
        except ValueError:
            right = False
        if not right:
            where = f"{shown}:{_line_of(text, name)}"
            raise EvidenceError(where, f"read `{name}`, expected an address and a port such as 10.20.32.11:80")


def is_zone(name: str) -> bool:
    """True where the name is one of the time zone database."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _last_key(path: str) -> str:
    return re.sub(r"\[.*?\]", "", path).rsplit(".", 1)[-1]


def _line_of(text: str, key: str, *, below: str = "") -> int:
    """The line where a key stands, after the line that names `below`.

    The first line where it is written another way.
    """
    after = False
    fallback = 0
    for number, line in enumerate(text.split("\n"), 1):
        after = after or not below or below in line
        if key in line and re.search(rf'(?:^|[\s.\["\'{{,]){re.escape(key)}(?:$|[\s.\]"\'=])', line):
            if after:
                return number
            fallback = fallback or number
    return fallback or 1
