"""What can be asked of any scenario from outside: `K=V` words come in, one checked `Options` value goes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

#: The values that each closed option takes; the first one is the default.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "capture": ("iface", "any", "any-sll"),
    "ip": ("4", "6"),
    "format": ("pcap", "pcapng", "nano"),
    "clocks": ("together", "apart"),
    "state": ("none", "ss", "full", "both"),
}

#: The least and the largest value of each option that is a number.
LIMITS: Mapping[str, tuple[int, int]] = {"vlan": (0, 4094), "vxlan": (0, 0xFFFFFF), "snap": (0, 262144), "load": (1, 100)}


class UnknownOption(ValueError):
    """A variant that no scenario knows, or a value that it cannot take."""


@dataclass(frozen=True)
class Options:
    """How a case is taken and kept; the story itself stays the same.

    `capture`: `iface` is one capture an interface, `any` is `tcpdump -i any` (link type LINUX_SLL2: every packet that
    crosses two interfaces of the host stands there twice), `any-sll` the same as LINUX_SLL. `vlan` and `vxlan` are
    the tag and the VNI of every link, 0 for none. `snap` is the snap length in bytes, 0 for all. `places` names the
    vantage points that stay in the case, empty for all. `state` is what is taken of the hosts themselves at the end:
    `ss` the tables that every kernel has, `full` all files of a case's state/, `both` the same as state-before/ when
    the captures begin too. `zone` is the zone of the hosts' logs. `load` multiplies the everyday connections beside the
    story (`Load.mixed`), from 1 to 100.
    """

    capture: str = "iface"
    ip: str = "4"
    vlan: int = 0
    vxlan: int = 0
    snap: int = 0
    format: str = "pcap"
    clocks: str = "together"
    places: tuple[str, ...] = ()
    state: str = "none"
    zone: str = "UTC"
    load: int = 1

    def as_words(self) -> dict[str, str]:
        """The options that differ from their defaults, as the words that `with_words` reads."""
        words: dict[str, str] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                words[field.name] = ",".join(value) if isinstance(value, tuple) else str(value)
        return words

    def needs(self) -> frozenset[str]:
        """What the kernel must have for these options, in the words of `Scenario.needs`."""
        return frozenset(word for word in ("vlan", "vxlan") if getattr(self, word))


def with_words(options: Options, words: Mapping[str, str] | Iterable[tuple[str, str]]) -> Options:
    """`options` with `words` laid over them; raises UnknownOption for a name or a value that does not exist."""
    for name, value in dict(words).items():
        options = replace(options, **{name: _read(name, value)})  # type: ignore[arg-type]
    return options


def _read(name: str, value: str) -> str | int | tuple[str, ...]:
    if name in CHOICES:
        if value not in CHOICES[name]:
            raise UnknownOption(f"variant {name}: read `{value}`, expected one of {', '.join(CHOICES[name])}")
        return value
    if name in LIMITS:
        least, most = LIMITS[name]
        if not value.isdecimal() or not least <= int(value) <= most:
            raise UnknownOption(f"variant {name}: read `{value}`, expected a number from {least} to {most}")
        return int(value)
    if name == "places":
        return () if value == "all" else tuple(part for part in value.split(",") if part)
    if name == "zone":
        if not value or value.startswith("/") or ".." in value:
            raise UnknownOption(f"variant zone: read `{value}`, expected a zone such as Asia/Shanghai")
        return value
    raise UnknownOption(f"no variant `{name}`, expected one of {', '.join(f.name for f in fields(Options))}")
