"""A packet for the host itself goes in; the socket that takes it comes out, or what the kernel answers where none does."""

from __future__ import annotations

import dataclasses

from tcpwhy.path.packet import Packet
from tcpwhy.path.settings import Settings
from tcpwhy.path.trace import Doubt, Fate, Stage
from tcpwhy.path.way import Ending, Way
from tcpwhy.tables.host import HostTables
from tcpwhy.tables.sockets import Socket

SYNCHRONIZED = frozenset(
    {"ESTABLISHED", "SYN-RECV", "SYN-SENT", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "LAST-ACK", "CLOSING", "TIME-WAIT"}
)


def deliver(way: Way, host: HostTables, settings: Settings) -> list[Ending]:
    """What the transport layer does with the packet (net/ipv4/tcp_ipv4.c tcp_v4_rcv, net/ipv4/udp.c, net/ipv4/icmp.c)."""
    packet = way.packet
    if packet.protocol == "tcp" and way.is_broadcast:
        return [Ending(way.step(Stage.SOCKET, "TCP to a broadcast address: dropped without an answer"), Fate.REFUSED)]
    if packet.protocol == "tcp":
        return _deliver_tcp(way, host)
    if packet.protocol in ("icmp", "icmpv6"):
        return [_deliver_icmp(way, settings)]
    name = packet.protocol
    doubt = Doubt(None, "ss-tcp.txt", f"sockets of {name} are not part of a snapshot", "a socket takes it")
    taken = way.step(Stage.SOCKET, f"taken to meet a socket of {name}", doubts=(doubt,))
    refused = way.step(
        Stage.SOCKET, f"taken to meet no socket of {name}", doubts=(dataclasses.replace(doubt, assumed="no socket takes it"),)
    )
    return [Ending(taken, Fate.ACCEPTED), Ending(refused, Fate.REFUSED)]


def find_socket(packet: Packet, host: HostTables) -> Socket | None:
    """The socket that the kernel looks up for a packet: the connection's own, else the most specific listener; None without one."""
    table = host.sockets
    if table is None or packet.source_port is None or packet.destination_port is None:
        return None
    local, remote = _shown(packet, "destination"), _shown(packet, "source")
    for socket in table.between(local, remote):
        if socket.local == local and socket.state in SYNCHRONIZED and _is_bound(socket, packet):
            return socket
    for socket in table.listeners_for(str(packet.destination), packet.destination_port):
        if _is_bound(socket, packet):
            return socket
    return None


def _is_bound(socket: Socket, packet: Packet) -> bool:
    return not socket.interface or not packet.in_interface or socket.interface == packet.in_interface


def _shown(packet: Packet, end: str) -> str:
    address = packet.destination if end == "destination" else packet.source
    port = packet.destination_port if end == "destination" else packet.source_port
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def describe_socket(socket: Socket) -> str:
    """`nginx (pid 812) listens on *:80`."""
    who = f"{socket.processes[0].name} (pid {socket.processes[0].pid})" if socket.processes else "a socket"
    return f"{who} listens on {socket.local}" if socket.is_listener else f"{who} has {socket.local} to {socket.remote}, {socket.state}"


def _deliver_tcp(way: Way, host: HostTables) -> list[Ending]:
    packet = way.packet
    target = packet
    if way.forced_socket is not None:
        address, port = way.forced_socket
        target = dataclasses.replace(packet, destination=address, destination_port=port)
    if host.sockets is None:
        doubt = Doubt(None, "ss-tcp.txt", "the sockets were not collected", "a socket takes it")
        taken = way.step(Stage.SOCKET, f"taken to meet a socket for {_shown(target, 'destination')}", doubts=(doubt,))
        none = way.step(
            Stage.SOCKET, f"taken to meet no socket for {_shown(target, 'destination')}",
            doubts=(dataclasses.replace(doubt, assumed="no socket takes it"),),
        )  # fmt: skip
        return [Ending(taken, Fate.ACCEPTED, _syn_ack(packet)), Ending(none, Fate.REFUSED, _reset(packet))]
    socket = find_socket(target, host)
    is_syn = packet.flags is not None and "S" in packet.flags and not set("ARF") & set(packet.flags)
    if socket is None:
        text = f"no socket listens on {_shown(target, 'destination')}"
        is_reset = packet.flags is not None and "R" in packet.flags
        if way.forced_socket is not None:
            # net/netfilter/nft_tproxy.c, xt_TPROXY.c: without such a socket the packet is dropped.
            return [Ending(way.step(Stage.SOCKET, f"{text}, as TPROXY wants it"), Fate.DROPPED_BY_RULE)]
        return [Ending(way.step(Stage.SOCKET, text + ("" if is_reset else ": RST")), Fate.REFUSED, None if is_reset else _reset(packet))]
    text = describe_socket(socket)
    if not socket.is_listener:
        return [Ending(way.step(Stage.SOCKET, text, sources=(socket.source,)), Fate.ACCEPTED)]
    if not is_syn:
        is_reset = packet.flags is not None and "R" in packet.flags
        found = way.step(Stage.SOCKET, f"{text}, but knows no such connection" + ("" if is_reset else ": RST"), sources=(socket.source,))
        return [Ending(found, Fate.REFUSED, None if is_reset else _reset(packet))]
    if socket.is_overflowing:
        full = f"{text}, whose accept queue is full: {socket.recv_q} wait, {socket.send_q} is the backlog"
        return [Ending(way.step(Stage.SOCKET, full, sources=(socket.source,)), Fate.QUEUE_FULL)]
    return [Ending(way.step(Stage.SOCKET, text, sources=(socket.source,)), Fate.ACCEPTED, _syn_ack(packet))]


def _deliver_icmp(way: Way, settings: Settings) -> Ending:
    packet = way.packet
    request = 8 if packet.protocol == "icmp" else 128
    if packet.icmp_type not in (None, request):
        return Ending(way.step(Stage.SOCKET, "the kernel takes it"), Fate.ACCEPTED)
    ignored = settings.get(f"net.ipv{packet.version}.icmp_echo_ignore_all" if packet.version == 4 else "net.ipv6.icmp.echo_ignore_all")
    if ignored.number:
        return Ending(
            way.step(Stage.SOCKET, "the kernel answers no ping", sources=ignored.sources, rule=ignored.text), Fate.DROPPED_BY_RULE
        )
    reply = dataclasses.replace(_turned(packet), icmp_type=0 if packet.protocol == "icmp" else 129)
    return Ending(way.step(Stage.SOCKET, "the kernel answers the ping"), Fate.ACCEPTED, reply)


def _turned(packet: Packet) -> Packet:
    """A packet of the host itself in the other direction, as its sender makes it."""
    return Packet(
        protocol=packet.protocol,
        source=packet.destination,
        destination=packet.source,
        source_port=packet.destination_port,
        destination_port=packet.source_port,
    )


def _syn_ack(packet: Packet) -> Packet | None:
    if packet.flags is not None and packet.flags != "S":
        return None
    return dataclasses.replace(_turned(packet), flags="SA")


def _reset(packet: Packet) -> Packet:
    """RST of a closed port: with ACK where the packet had none (RFC 9293 section 3.10.7.1)."""
    return dataclasses.replace(_turned(packet), dscp=packet.dscp, flags="R" if packet.flags is not None and "A" in packet.flags else "RA")


ICMP_CODES = {
    "net-unreachable": 0, "host-unreachable": 1, "proto-unreachable": 2, "port-unreachable": 3, "net-prohibited": 9,
    "host-prohibited": 10, "admin-prohibited": 13,
}  # fmt: skip
"""Codes of ICMP destination unreachable by REJECT's words (extensions/libipt_REJECT.c)."""

ICMPV6_CODES = {
    "no-route": 0, "adm-prohibited": 1, "admin-prohibited": 1, "addr-unreachable": 3, "port-unreachable": 4, "policy-fail": 5,
    "reject-route": 6,
}  # fmt: skip
"""The same of ICMPv6 (extensions/libip6t_REJECT.c)."""


def reject_answer(packet: Packet, reject_with: str) -> Packet | None:
    """What REJECT sends (net/ipv4/netfilter/nf_reject_ipv4.c): RST, or an ICMP error to the packet's source."""
    if "tcp" in reject_with and "reset" in reject_with:
        # nf_reject_ip_tcphdr_get: a RST is not answered.
        return None if packet.flags is not None and "R" in packet.flags else dataclasses.replace(_reset(packet), dscp=0)
    codes = ICMP_CODES if packet.version == 4 else ICMPV6_CODES
    return dataclasses.replace(
        _turned(packet),
        dscp=(packet.dscp << 2 & 0x1E | 0xC0) >> 2,  # net/ipv4/icmp.c __icmp_send: RT_TOS with IPTOS_PREC_INTERNETCONTROL
        protocol="icmp" if packet.version == 4 else "icmpv6",
        source_port=None,
        destination_port=None,
        icmp_type=3 if packet.version == 4 else 1,
        icmp_code=next((code for word, code in codes.items() if reject_with.endswith(word)), None),
    )
