"""What a user writes for a real client goes in, its address and port come out."""

from __future__ import annotations

import dataclasses
import ipaddress

EXPECTED = "an address with or without a port, such as 1.2.3.4, 1.2.3.4:4660, 2001:db8::1 or [2001:db8::1]:4660"


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A real client: its address, and its port where one was named."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int | None = None

    def __str__(self) -> str:
        if self.port is None:
            return str(self.address)
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


def parse_target(text: str) -> Target:
    """`1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`; colons without brackets are all of the address.

    An IPv4 address in IPv6's clothes (`::ffff:1.2.3.4`) is the IPv4 address: so a program with an IPv6 socket is shown an IPv4 client
    (facts of the TOA modules: iqiyi/dpvs kmod/toa/toa.c, Huawei TCP_option_address src/toa.c). Raises ValueError with a sentence.
    """
    host, port = _parted(text.strip())
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"read `{text}`, expected {EXPECTED}") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"read `{text}`, expected no zone behind `%`: it means something on one host only and is on no packet")
        address = address.ipv4_mapped or address
    if port is None:
        return Target(address)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ValueError(f"read the port `{port}`, expected 1 to 65535")
    return Target(address, int(port))


def _parted(text: str) -> tuple[str, str | None]:
    """The address without brackets, and what stands behind the port's colon."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if bracket and rest == "":
            return host, None
        if bracket and rest.startswith(":"):
            return host, rest[1:]
        return text, None
    host, colon, port = text.partition(":")
    return (text, None) if not colon or ":" in port else (host, port)
