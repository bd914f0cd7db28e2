"""The words of one line of `ipvsadm -S` go in; what its options say comes out.

Sources: ipvsadm(8); ipvsadm.c print_service_entry, and the same of iqiyi/dpvs and alibaba/LVS, tools/ipvsadm.
"""

from __future__ import annotations

import dataclasses
import re

_COMMANDS = {"-A": "A", "--add-service": "A", "-a": "a", "--add-server": "a", "-P": "P", "--add-laddr": "P"}
_SERVICES = {
    "-t": "tcp",
    "--tcp-service": "tcp",
    "-u": "udp",
    "--udp-service": "udp",
    "--sctp-service": "sctp",
    "-q": "icmp",
    "--icmp-service": "icmp",
}
_METHODS = {
    "-g": "DR",
    "--gatewaying": "DR",
    "-i": "TUN",
    "--ipip": "TUN",
    "-m": "NAT",
    "--masquerading": "NAT",
    "-b": "FULLNAT",
    "--fullnat": "FULLNAT",
    "-J": "SNAT",
    "--snat": "SNAT",
}
"""`-b` of a service is another option: its scheduler's flags."""

_VALUES = {
    "-s": "scheduler",
    "--scheduler": "scheduler",
    "-M": "mask",
    "--netmask": "mask",
    "-r": "server",
    "--real-server": "server",
    "-z": "local_address",
    "--laddr": "local_address",
    "--tun-type": "tunnel_type",
}
_TUNNEL_FLAGS = frozenset({"--tun-nocsum", "--tun-csum", "--tun-remcsum"})
_BY_THEMSELVES = frozenset({"-o", "--ops", "ops"})
"""Alibaba prints `ops` and `pe NAME` without their dashes."""


@dataclasses.dataclass(slots=True)
class Options:
    """What one line says."""

    command: str
    """A: a service; a: a real server of one; P: a local address of one (Alibaba)."""
    protocol: str = ""
    address: str = ""
    mark: int | None = None
    is_ipv6: bool = False
    has_match: bool = False
    scheduler: str = "wlc"
    """ipvsadm(8): the scheduler where none is named."""
    persistence_s: int | None = None
    mask: str = ""
    flags: set[str] = dataclasses.field(default_factory=set)
    server: str = ""
    method: str = "DR"
    """ipvsadm(8): the method where none is named."""
    weight: int = 1
    tunnel_type: str = ""
    tunnel_port: int | None = None
    local_address: str = ""
    unknown: list[str] = dataclasses.field(default_factory=list)


def read_options(words: list[str]) -> Options | None:
    """The options of a line; None where it is no command that makes a service, a real server or a local address."""
    command = _COMMANDS.get(words[0]) if words else None
    if command is None:
        return None
    options = Options(command)
    left = [part for word in words[1:] for part in (word.split("=", 1) if word.startswith("--") else [word])][::-1]
    while left:
        word = left.pop()
        if not _alone(word, options):
            if left and _with_value(word, left[-1], options):
                left.pop()
            elif word in ("-p", "--persistent"):
                options.flags.add("persistent")  # for how long, the program and its manual page tell differently: 360 and 300 s
            else:
                options.unknown.append(word)
    return options


def _alone(word: str, options: Options) -> bool:
    if word in _METHODS and options.command == "a":
        options.method = _METHODS[word]
    elif word in ("-6", "--ipv6"):
        options.is_ipv6 = True
    elif word in _BY_THEMSELVES:
        options.flags.add("ops")
    elif word in _TUNNEL_FLAGS:
        options.flags.add(word.removeprefix("--"))
    else:
        return False
    return True


def _with_value(word: str, value: str, options: Options) -> bool:
    """Takes an option that has a value; False where the option is not known or its value cannot be."""
    if word in _SERVICES:
        options.protocol, options.address = _SERVICES[word], value
    elif word in ("-H", "--match"):
        options.has_match = True
    elif word in _VALUES:
        setattr(options, _VALUES[word], value)
    elif word in ("-b", "--sched-flags"):
        options.flags.update(filter(None, value.split(",")))
    elif word in ("--pe", "pe"):
        options.flags.add(f"pe {value}")
    elif word == "-j" and value in ("enable", "disable"):
        options.flags.update({"synproxy"} if value == "enable" else ())
    else:
        return _with_number(word, value, options)
    return True


def _with_number(word: str, value: str, options: Options) -> bool:
    if not re.fullmatch(r"-?\d{1,10}", value, re.ASCII):
        return False
    number = int(value)
    if word in ("-f", "--fwmark-service"):
        options.mark = number
    elif word in ("-p", "--persistent"):
        options.flags.add("persistent")
        options.persistence_s = number
    elif word in ("-w", "--weight"):
        options.weight = number
    elif word == "--tun-port":
        options.tunnel_port = number
    elif word == "-V":  # Alibaba: the service's own time-out of established connections
        options.flags.add(f"established {number} s")
    elif word not in ("-x", "--u-threshold", "-y", "--l-threshold"):
        return False
    return True
