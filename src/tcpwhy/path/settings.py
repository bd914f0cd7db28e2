"""A kernel setting of an interface goes in; the value that counts comes out, with the lines that it rests on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tcpwhy.evidence.source import Source
from tcpwhy.path.trace import Doubt
from tcpwhy.tables.host import HostTables
from tcpwhy.tables.sysctls import Setting


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """A setting's value in force."""

    number: int | None
    """None: not known."""
    text: str
    """`max(net.ipv4.conf.all.rp_filter = 0, net.ipv4.conf.tunl0.rp_filter = 1) = 1`."""
    sources: tuple[Source, ...]
    parts: tuple[Setting, ...] = ()
    at_least: int = 0
    """Of a value that is not known: what one of its parts makes it at least."""

    def possible(self, values: Sequence[int]) -> list[tuple[int, tuple[Doubt, ...]]]:
        """The value in force; or, where it is not known, each of these with the doubt that it rests on."""
        if self.number is not None:
            return [(self.number, ())]
        return [(value, (Doubt(None, self.text, "it was not collected", str(value)),)) for value in values if value >= self.at_least]


class Settings:
    """The settings of one host and family."""

    def __init__(self, host: HostTables, version: int) -> None:
        self.sysctls = host.sysctls
        self.version = version

    def get(self, key: str) -> Value:
        """One key."""
        setting = None if self.sysctls is None else self.sysctls.get(key)
        if setting is None:
            return Value(None, key, ())
        return Value(setting.number, f"{key} = {setting.value}", (setting.source,), (setting,))

    def of_interface(self, name: str, interface: str) -> Value:
        """The interface's own value alone (IN_DEV_CONF_GET)."""
        setting = None if self.sysctls is None else self.sysctls.of_interface(name, interface, self.version)
        if setting is None:
            return Value(None, f"net.ipv{self.version}.conf.{interface}.{name}", ())
        return Value(setting.number, f"{setting.key} = {setting.value}", (setting.source,), (setting,))

    def maximum(self, name: str, interface: str) -> Value:
        """The larger of `all` and the interface (IN_DEV_MAXCONF, include/linux/inetdevice.h)."""
        return self._of_two(name, interface, "max")

    def either(self, name: str, interface: str) -> Value:
        """On where `all` or the interface says so (IN_DEV_ORCONF)."""
        return self._of_two(name, interface, "either")

    def _of_two(self, name: str, interface: str, how: str) -> Value:
        both = (self.get(f"net.ipv{self.version}.conf.all.{name}"), self.of_interface(name, interface))
        numbers = [value.number for value in both]
        largest = max((number for number in numbers if number is not None), default=None)
        number = largest if None not in numbers or (how == "either" and largest) else None
        if number is not None and how == "either":
            number = int(number > 0)
        text = f"{how}({', '.join(value.text for value in both)})" + ("" if number is None else f" = {number}")
        sources = tuple(source for value in both for source in value.sources)
        return Value(number, text, sources, tuple(part for value in both for part in value.parts), largest or 0)
