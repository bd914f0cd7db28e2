"""What one differential case is: the settings of a host under test and the probes that are sent, as plain data that goes into a world."""

from __future__ import annotations

import dataclasses

WIRES = ("eth0", "eth1", "eth2")
"""The interfaces of the host under test; each is one end of a cable, whose other end sends frames into it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """One packet that is sent to or by the host under test."""

    way: str
    """`wire`: a frame that arrives by `interface`; `raw`: the host's own, by a raw socket; `connect`: the host's own, by connect(2)."""
    source: str
    destination: str
    source_port: int
    destination_port: int
    sequence: int
    """By which it is known again, whatever happens to its addresses."""
    protocol: str = "tcp"
    flags: str = "S"
    interface: str = ""
    uid: int = 0
    mark: int = 0
    ttl: int = 64
    dscp: int = 0
    acknowledged: int = 0
    tunnel: tuple[str, str] | None = None
    """Source and destination of the IPIP packet around it."""

    def __str__(self) -> str:
        way = f"in {self.interface}" if self.way == "wire" else f"{self.way} uid {self.uid}"
        ends = f"{self.source}:{self.source_port} > {self.destination}:{self.destination_port}"
        text = f"{way}: {self.protocol} {ends} {self.flags}".rstrip()
        text += f" mark {self.mark:#x}" if self.mark else ""
        text += f" ttl {self.ttl}" if self.ttl != 64 else ""
        text += f" dscp {self.dscp}" if self.dscp else ""
        return text + (f" in ipip {self.tunnel[0]} > {self.tunnel[1]}" if self.tunnel else "")


@dataclasses.dataclass(slots=True)
class Configuration:
    """Everything that decides about the probes."""

    seed: int
    ip: list[str] = dataclasses.field(default_factory=list)
    """Lines for `ip -batch`, after the cables are there and up."""
    sysctls: dict[str, int] = dataclasses.field(default_factory=dict)
    """By path below /proc/sys/net/ipv4."""
    iptables: str = ""
    """For iptables-restore; empty loads nothing."""
    nft: str = ""
    """For `nft -f`."""
    ipset: str = ""
    """For `ipset restore`."""
    ipvs: str = ""
    """For `ipvsadm -R`."""
    listeners: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    probes: list[Probe] = dataclasses.field(default_factory=list)
    warm: list[Probe] = dataclasses.field(default_factory=list)
    """Sent before the state is taken, so that conntrack knows their connections."""

    def __str__(self) -> str:
        parts = [f"seed {self.seed}", *(f"ip {line}" for line in self.ip)]
        parts += [f"net.ipv4.{key.replace('/', '.')} = {value}" for key, value in self.sysctls.items()]
        parts += [f"listens on {address}:{port}" for address, port in self.listeners]
        parts += [f"first: {probe}" for probe in self.warm]
        return "\n".join([*parts, self.ipset, self.ipvs, self.iptables, self.nft]).rstrip() + "\n"
