"""`sysctl -a` goes in; the kernel's settings come out, those of interfaces by interface."""

from __future__ import annotations

import dataclasses

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.unread import UnreadPieces


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One key."""

    key: str
    """As printed: `net.ipv4.conf.eth0/5.rp_filter`."""
    value: str
    source: Source

    @property
    def number(self) -> int | None:
        """The value as a number; None where it is none."""
        text = self.value.strip()
        return int(text) if text.lstrip("-").isdecimal() and text.isascii() and len(text) < 20 else None


@dataclasses.dataclass(slots=True)
class Sysctls:
    """All keys that were collected."""

    settings: dict[str, Setting] = dataclasses.field(default_factory=dict)
    """By key in one spelling: see `canonical`."""
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)

    def get(self, key: str) -> Setting | None:
        """A key with dots between its parts, such as `net.ipv4.ip_forward`; None where it was not collected."""
        return self.settings.get(key)

    def of_interface(self, name: str, interface: str, family: int = 4) -> Setting | None:
        """`rp_filter` of `eth0.5`: net.ipv4.conf.eth0/5.rp_filter, in whichever spelling it was printed."""
        return self.settings.get(f"net.ipv{family}.conf.{interface.replace('.', '/')}.{name}")


def read_sysctls(state: State) -> Sysctls | None:
    """The settings; None where they were not collected."""
    return None
