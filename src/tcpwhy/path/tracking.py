"""A packet goes in; what conntrack knows of its connection comes out, and how its entry translates it."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable

from tcpwhy.path.packet import CtTuple, Packet
from tcpwhy.path.settings import Settings
from tcpwhy.path.trace import Doubt, Stage
from tcpwhy.path.way import Binding, Way, inverted, tuple_of
from tcpwhy.tables.conntrack import Tracked, Tuple
from tcpwhy.tables.host import HostTables

FINISHED = frozenset({"TIME_WAIT", "CLOSE", "LAST_ACK"})
"""States in which a SYN of the same tuple begins a new entry (net/netfilter/nf_conntrack_proto_tcp.c nf_conntrack_tcp_packet)."""

ICMP_QUERIES = {"icmp": (8, 13, 15, 17), "icmpv6": (128, 139)}
"""ICMP types that begin an entry (nf_conntrack_proto_icmp.c valid_new, nf_conntrack_proto_icmpv6.c)."""


class Tracking:
    """The connections that one host tracks."""

    def __init__(self, host: HostTables, settings: Settings, made: Iterable[Binding] = (), attached: Binding | None = None) -> None:
        """`made`: connections that the walk itself began, for the walk of an answer.

        `attached`: the connection that what REJECT sends is given at once (net/netfilter/core.c nf_ct_attach).
        """
        self.attached = attached
        self.host = host
        self.settings = settings
        self.made = tuple(made)

    def begin(self, way: Way) -> list[Way]:
        """The packet meets conntrack (net/netfilter/nf_conntrack_core.c nf_conntrack_in): its state, and the entry that it belongs to."""
        packet = way.packet
        if self.attached is not None:
            return [self._related(way, self.attached)]
        if not packet.ct_is_tracked:
            untracked = dataclasses.replace(packet, ct_state="UNTRACKED", ct_original=None)
            return [way.step(Stage.CONNTRACK, "conntrack leaves it alone: a rule said notrack", packet=untracked)]
        own = tuple_of(packet)
        for made in self.made:
            if own in (made.reply, made.original):
                return [self._known(way, made, own == made.reply and own != made.original)]
        table = self.host.conntrack
        found = table.find(packet.protocol, _written(own)) if table is not None else None
        if found is not None and not (packet.flags == "S" and found[0].state in FINISHED):
            entry, is_reply = found
            original, reply = _read(entry.original), _read(entry.reply)
            if _is_out_of_order(packet, entry, is_reply=is_reply):
                invalid = dataclasses.replace(packet, ct_state="INVALID", ct_original=None)
                text = (
                    f"conntrack awaits the answer to a SYN ({entry.state}), and {packet.flags} from the same end is out of order: INVALID"
                )
                return [way.step(Stage.CONNTRACK, text, sources=(entry.source,), packet=invalid)]
            if original is not None and reply is not None:
                binding = Binding(original, reply, "UNREPLIED" not in entry.flags, entry.source, entry.mark)
                return [self._known(way, binding, is_reply)]
        if packet.ct_state is not None:
            # Said by whoever described the packet.
            return [dataclasses.replace(way, packet=dataclasses.replace(packet, ct_original=packet.ct_original or own))]
        return self._unknown(way, own)

    def _known(self, way: Way, binding: Binding, is_reply: bool) -> Way:
        established = is_reply or binding.has_reply
        packet = dataclasses.replace(
            way.packet,
            ct_state="ESTABLISHED" if established else "NEW",
            ct_original=binding.original,
            ct_is_dnat=binding.is_dnat,
            ct_is_snat=binding.is_snat,
            ct_mark=binding.mark,
            is_reply=is_reply,
        )
        sources = () if binding.source is None else (binding.source,)
        text = f"conntrack knows the connection: {packet.ct_state}" + (", this is its reply direction" if is_reply else "")
        return dataclasses.replace(way.step(Stage.CONNTRACK, text, sources=sources, packet=packet), confirmed=binding)

    def _related(self, way: Way, binding: Binding) -> Way:
        """An answer of the host's own about a packet (nf_conntrack_core.c nf_conntrack_attach: IP_CT_RELATED_REPLY)."""
        packet = dataclasses.replace(
            way.packet,
            ct_state="RELATED",
            ct_is_tracked=True,
            ct_original=binding.original,
            ct_is_dnat=binding.is_dnat,
            ct_is_snat=binding.is_snat,
            is_reply=True,
        )
        step = way.step(Stage.CONNTRACK, "it belongs to the connection that it answers: RELATED", packet=packet)
        return dataclasses.replace(step, confirmed=binding)

    def _unknown(self, way: Way, own: CtTuple) -> list[Way]:
        """No entry: NEW, or INVALID for what cannot begin a connection."""
        packet = way.packet
        state = "NEW"
        because = "conntrack has no entry for it: NEW"
        if packet.protocol == "tcp" and packet.flags is not None and not _is_syn(packet.flags):
            loose = self.settings.get("net.netfilter.nf_conntrack_tcp_loose")
            picks_up = "A" in packet.flags and not set("SFR") & set(packet.flags) and loose.number != 0
            state = "NEW" if picks_up else "INVALID"
            because = f"conntrack has no entry for it, and {packet.flags} " + (
                "is picked up in mid-connection (nf_conntrack_tcp_loose): NEW" if picks_up else "begins none: INVALID"
            )
            if not self._is_complete:
                return self._either(way, own, state, because)
        elif packet.protocol in ICMP_QUERIES and packet.icmp_type not in (None, *ICMP_QUERIES[packet.protocol]):
            state, because = "INVALID", "conntrack has no entry for it, and this ICMP type begins none: INVALID"
            if not self._is_complete:
                return self._either(way, own, state, because)
        changed = dataclasses.replace(packet, ct_state=state, ct_original=own if state == "NEW" else None)  # type: ignore[arg-type]
        return [way.step(Stage.CONNTRACK, because, packet=changed)]

    @property
    def _is_complete(self) -> bool:
        """Whether an entry that was not found is none."""
        return self.host.conntrack is not None and self.host.conntrack.is_complete

    def _either(self, way: Way, own: CtTuple, state: str, because: str) -> list[Way]:
        """Whether an entry existed was not collected: it may be of a known connection as well."""
        doubt = Doubt(None, "conntrack.txt", "the tracked connections were not collected", "the connection is tracked, without NAT")
        known = dataclasses.replace(way.packet, ct_state="ESTABLISHED", ct_original=own)
        fresh = dataclasses.replace(way.packet, ct_state=state, ct_original=own)  # type: ignore[arg-type]
        return [
            way.step(Stage.CONNTRACK, "taken to belong to a tracked connection: ESTABLISHED", packet=known, doubts=(doubt,)),
            way.step(Stage.CONNTRACK, because, packet=fresh, doubts=(dataclasses.replace(doubt, assumed="the connection is not tracked"),)),
        ]


def _is_out_of_order(packet: Packet, entry: Tracked, *, is_reply: bool) -> bool:
    """nf_conntrack_proto_tcp.c tcp_conntracks[]: of the opener, SYN_SENT admits its SYN again or a RST."""
    flags = set(packet.flags or "S")
    return packet.protocol == "tcp" and entry.state == "SYN_SENT" and not is_reply and not flags & set("SR")


def _is_syn(flags: str) -> bool:
    return "S" in flags and not set("AFR") & set(flags)


def _written(tuple_: CtTuple) -> Tuple:
    return Tuple(str(tuple_.source), str(tuple_.destination), tuple_.source_port, tuple_.destination_port)


def _read(tuple_: Tuple) -> CtTuple | None:
    try:
        source, destination = ipaddress.ip_address(tuple_.source_ip), ipaddress.ip_address(tuple_.destination_ip)
    except ValueError:
        return None
    return CtTuple(source, tuple_.source_port, destination, tuple_.destination_port)


def translate(way: Way, hook: str) -> Way:
    """What a settled translation makes of the packet at a hook (net/netfilter/nf_nat_core.c nf_nat_packet).

    Destinations change in PREROUTING and OUTPUT, sources in INPUT and POSTROUTING; answers are translated back at the same places.
    """
    binding = way.confirmed or way.binding
    packet = way.packet
    if binding is None or packet.ct_state in ("INVALID", "UNTRACKED"):
        return way
    if packet.destination_port is None:
        return _translate_addresses(way, hook, binding)
    target = inverted(binding.original) if packet.is_reply else inverted(binding.reply)
    sources = () if binding.source is None else (binding.source,)
    if hook in ("PREROUTING", "OUTPUT"):
        if (packet.destination, packet.destination_port) == (target.destination, target.destination_port):
            return way
        after = dataclasses.replace(packet, destination=target.destination, destination_port=target.destination_port)
    else:
        if (packet.source, packet.source_port) == (target.source, target.source_port):
            return way
        after = dataclasses.replace(packet, source=target.source, source_port=target.source_port)
    return way.step(Stage.NAT, "translated as conntrack remembers the connection", hook=hook, sources=sources, packet=after)


def _translate_addresses(way: Way, hook: str, binding: Binding) -> Way:
    """The same of a packet without ports: the outside of an ICMP error (nf_nat_core.c nf_nat_icmp_reply_translation)."""
    packet = way.packet
    target = inverted(binding.original) if packet.is_reply else inverted(binding.reply)
    changes_destination = hook in ("PREROUTING", "OUTPUT")
    if not (binding.is_snat if changes_destination == packet.is_reply else binding.is_dnat):
        return way
    if changes_destination:
        after = dataclasses.replace(packet, destination=target.destination)
    else:
        after = dataclasses.replace(packet, source=target.source)
    return way if after == packet else way.step(Stage.NAT, "translated as the connection that it speaks of", hook=hook, packet=after)
