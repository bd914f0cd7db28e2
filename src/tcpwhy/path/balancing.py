"""A packet for a virtual service goes in; IPVS's choice of a real server and what it sends there comes out."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable

from tcpwhy.path.packet import Address, Packet
from tcpwhy.path.settings import Settings
from tcpwhy.path.trace import Doubt, Fate, Stage
from tcpwhy.path.way import Ending, Onward, Way
from tcpwhy.tables.host import HostTables
from tcpwhy.tables.ipvs import BalancedConnection, RealServer, VirtualService

SendOn = Callable[[Way, str], list[Onward]]
"""Sends a way on from the director: routes it, and takes it through OUTPUT and POSTROUTING. The word says how: NAT, DR, TUN."""


class Balancing:
    """IPVS of one director (net/netfilter/ipvs/ip_vs_core.c ip_vs_in_hook, at priority 99 of INPUT and -98 of OUTPUT)."""

    def __init__(self, host: HostTables, settings: Settings, is_local: Callable[[Address], bool | None], send_on: SendOn) -> None:
        self.host = host
        self.settings = settings
        self._is_local = is_local
        self._send_on = send_on

    @property
    def is_active(self) -> bool:
        """Whether the host has a virtual service at all."""
        return self.host.ipvs is not None and bool(self.host.ipvs.services)

    def schedule(self, way: Way) -> list[Onward]:
        """What IPVS does with a packet on its way to a local socket."""
        packet = way.packet
        if packet.protocol not in ("tcp", "udp", "sctp") or self.host.ipvs is None:
            return [way]
        known = self._known(packet)
        service = self._service(packet)
        if known is not None:
            server = self._server(service, known.real_ip, known.real_port)
            text = f"IPVS knows the connection: it goes to {known.real_ip}:{known.real_port}"
            if server is None:
                return [
                    Ending(way.step(Stage.IPVS, f"{text}, which is no real server any more", sources=(known.source,)), Fate.HANDED_OVER)
                ]
            return self._transmit(way.step(Stage.IPVS, text, sources=(known.source,)), server)
        if service is None:
            return [way]
        is_syn = packet.protocol != "tcp" or packet.flags is None or ("S" in packet.flags and "A" not in packet.flags)
        if not is_syn and not self.settings.get("net.ipv4.vs.sloppy_tcp").number:
            text = f"IPVS has no connection for it, and {packet.flags} begins none: the director's own stack gets it"
            if self.host.ipvs.connections is not None:
                return [way.step(Stage.IPVS, text, sources=(service.source,), rule=service.text)]
            doubt = Doubt(None, "ipvsadm-connections.txt", "the director's connections were not collected", "it has none for it")
            other = dataclasses.replace(doubt, assumed="it has one, and a real server gets it")
            return [
                way.step(Stage.IPVS, text, sources=(service.source,), rule=service.text, doubts=(doubt,)),
                *self._to_any(way, service, (other,)),
            ]
        return self._to_any(way, service, ())

    def _to_any(self, way: Way, service: VirtualService, doubts: tuple[Doubt, ...]) -> list[Onward]:
        usable = [server for server in service.real_servers if server.weight > 0]
        if not usable:
            text = "IPVS has no real server with a weight for it: ICMP port unreachable"
            return [Ending(way.step(Stage.IPVS, text, sources=(service.source,), rule=service.text, doubts=doubts), Fate.NO_REAL_SERVER)]
        results: list[Onward] = []
        for server in usable:
            chosen = doubts
            if len(usable) > 1:
                chosen = (*doubts, Doubt(service.source, service.text, f"the scheduler {service.scheduler or 'chooses'}",
                                         f"{server.ip}:{server.port}"))  # fmt: skip
            text = f"IPVS schedules it to {server.ip}:{server.port} ({server.method})"
            step = way.step(Stage.IPVS, text, sources=(service.source, server.source), rule=server.text, doubts=chosen)
            results += self._transmit(step, server)
        return results

    def _transmit(self, way: Way, server: RealServer) -> list[Onward]:
        """net/netfilter/ipvs/ip_vs_xmit.c: ip_vs_nat_xmit, ip_vs_dr_xmit, ip_vs_tunnel_xmit."""
        packet = way.packet
        try:
            real = ipaddress.ip_address(server.ip)
        except ValueError:
            return [Ending(way.step(Stage.IPVS, f"{server.ip} is no address"), Fate.UNKNOWN)]
        if server.method == "LOCAL" or self._is_local(real):
            text = "the real server is the director itself"
            if server.method == "NAT":
                packet = dataclasses.replace(packet, destination=real, destination_port=server.port or packet.destination_port)
            return [dataclasses.replace(way.step(Stage.IPVS, text, sources=(server.source,), packet=packet), is_balanced=True)]
        if not self.settings.get("net.ipv4.vs.conntrack").number:
            # ip_vs_notrack: rules that look at conntrack's state do not see the connection.
            packet = dataclasses.replace(packet, ct_state="UNTRACKED", ct_is_tracked=False)
        packet = dataclasses.replace(packet, out_interface="")
        if server.method == "NAT":
            after = dataclasses.replace(packet, destination=real, destination_port=server.port or packet.destination_port)
            return self._send_on(
                way.step(Stage.IPVS, "its destination becomes the real server", sources=(server.source,), packet=after), "NAT"
            )
        if server.method == "DR":
            return self._send_on(dataclasses.replace(way, packet=packet, gateway=real), "DR")
        if server.method == "TUN":
            outer = Packet(protocol="ipip" if packet.version == 4 else "ipv6", source=real, destination=real, encapsulated=packet,
                           ct_state="UNTRACKED", ct_is_tracked=False, mark=packet.mark)  # fmt: skip
            kind = server.tunnel_type or "ipip"
            if kind != "ipip":
                return [Ending(way.step(Stage.IPVS, f"it leaves towards {real} within {kind}", sources=(server.source,)), Fate.SENT)]
            return self._send_on(
                way.step(Stage.IPVS, f"it is wrapped in IPIP towards {real}", sources=(server.source,), packet=outer), "TUN"
            )
        text = f"it leaves towards {real} by {server.method}, with an address of the director's as its source"
        return [Ending(way.step(Stage.IPVS, text, sources=(server.source,)), Fate.SENT)]

    def _known(self, packet: Packet) -> BalancedConnection | None:
        if self.host.ipvs is None:
            return None
        wanted = (str(packet.source), packet.source_port, str(packet.destination), packet.destination_port)
        for entry in self.host.ipvs.connections or ():
            if entry.is_template or entry.protocol != packet.protocol:
                continue
            if (entry.client_ip, entry.client_port, entry.virtual_ip, entry.virtual_port) == wanted:
                return entry
        return None

    def _service(self, packet: Packet) -> VirtualService | None:
        """The service that takes it, if any."""
        if self.host.ipvs is None:
            return None
        found = self.host.ipvs.services_for(packet.protocol, str(packet.destination), packet.destination_port or 0, packet.mark)
        return found[0] if found else None

    def _server(self, service: VirtualService | None, ip: str, port: int) -> RealServer | None:
        if service is None:
            return None
        return next((server for server in service.real_servers if (server.ip, server.port) == (ip, port)), None)
