"""A real server gets packets for a virtual address that no interface of its has.

Mechanism.  With direct return (DR) and tunnels (TUN) a balancer hands packets on with the virtual address as their destination. A real
    server that lacks the address on lo, a dummy or the tunnel does not take them for its own: it drops them where it does not forward,
    sends them back to the router (often to the balancer again) where it does, or answers with ICMP.

Signature.
    on the real server    client > VIP  S        # comes in, again and again; no answer, or the same packet goes out again
                          IpInAddrErrors rises where forwarding is off
    on the director       SYN_RECV in `ipvsadm -Lnc`, as with any real server that does not answer

Source.  Linux net/ipv4/route.c ip_route_input_slow(), ip_error() (IpInAddrErrors); net/netfilter/ipvs/ip_vs_xmit.c; ipvsadm(8).

Fix.  `ip addr add VIP/32 dev lo` (IPv6: VIP/128) on the real server, with net.ipv4.conf.all.arp_ignore=1 and arp_announce=2, so that
    it does not answer ARP for the address.

Not to be taken for.  reverse-path-filter: there IPReversePathFilter rises, and the address is there. syn-lost: there the SYN does not
    arrive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcpwhy.causes._asking import capture_at, counters_of
from tcpwhy.causes._by_state import examine_by_state, found_at, packet_exhibits, state_exhibits, told
from tcpwhy.causes._prediction import Prediction
from tcpwhy.causes._services import delivered, ends_by, is_not_for_here
from tcpwhy.causes._stops import Stop
from tcpwhy.causes._verdict import Exhibit, Verdict
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import Kind
from tcpwhy.evidence import EvidenceError
from tcpwhy.path import Fate, Packet, walk, with_changes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tcpwhy.tables.host import HostTables
    from tcpwhy.tables.ipvs import VirtualService

ID = "vip-missing"
SUSPECT = "client_syns > 0 AND server_syn_acks = 0"
REFERENCES = ("Linux net/ipv4/route.c ip_error()", "Linux net/netfilter/ipvs/ip_vs_xmit.c", "ipvsadm(8)")


def examine(connection: Connection) -> Verdict:
    """Walks the SYN through the real server that it came to."""
    ask = (
        counters_of(f"the director and each real server of {connection.server}", "addresses, ipvs tables, and IpInAddrErrors"),
        capture_at(connection, "server", "whether the SYN comes to a real server, and what it does with it"),
    )
    return examine_by_state(ID, connection, lambda stop: _found(connection, stop), _fits, ask)


def _fits(connection: Connection) -> str | None:
    if connection.failure is None or connection.failure.kind is not Kind.UNANSWERED:
        return None
    place = connection.places[-1]
    own = connection.topology.addresses.get(place, frozenset())
    address, host = connection.views[place].server.ip, connection.hosts.get(place)
    balances = host is not None and host.ipvs is not None and any(one.ip == address for one in host.ipvs.services or ())
    if address in own and not balances and not connection.views[place].hands_on:
        return None
    return "a real server without the address drops what is sent to it"


def _found(connection: Connection, stop: Stop) -> Verdict:
    inner = stop.arrival.packets[0].encapsulated or stop.arrival.packets[0]
    address = str(inner.destination)
    services = (stop.host.ipvs.services if stop.host.ipvs is not None else None) or ()
    service = next((one for one in services if one.ip == address), None)
    if service is not None:
        return _at_the_director(connection, stop, address, service)
    return found_at(
        ID,
        connection,
        stop,
        statement=f"{stop.place} gets the SYN for {address}, which no interface of its has",
        explanation=(
            f"The SYN for {address} was handed to {stop.place} as to a real server, but the address stands on none of its interfaces "
            f"({_addresses_of(stop.host)}). {told(stop)[:1].upper()}{told(stop)[1:]}."
        ),
        exhibits=(*packet_exhibits(connection, stop, "handed to a host that lacks its destination"), *_lacking(stop.host, address),
                  *state_exhibits(stop)),
        fix=_fixes(stop.host, address, [one.forward.packet for one in stop.walks]),
    )  # fmt: skip


def _at_the_director(connection: Connection, stop: Stop, address: str, service: VirtualService) -> Verdict:
    """The balancer itself lacks the address: IPVS never sees what is not routed as local."""
    shown = Exhibit("state", stop.place, service.source.file, service.text, line=service.source.line)
    device = stop.arrival.interfaces[0]
    return found_at(
        ID,
        connection,
        stop,
        statement=f"{stop.place} balances {address}, and has it on no interface: IPVS never sees the SYN",
        explanation=(
            f"The SYN for {address} comes to {stop.place}, whose IPVS has a service for it ({service.source}). IPVS looks only at packets "
            f"for the host's own addresses, and {address} is none of them ({_addresses_of(stop.host)}): {told(stop)}."
        ),
        exhibits=(*packet_exhibits(connection, stop, "comes to the balancer, which lacks its destination"), shown,
                  *_lacking(stop.host, address), *state_exhibits(stop)),
        fix=(
            f"on {stop.place}: `ip addr add {alone(address)} dev {device}`{_scheduled(stop, address, device)}",
            "find out why it is gone: keepalived in BACKUP state or stopped, a network restart, a missing line in its configuration",
        ),
    )  # fmt: skip


def alone(address: str) -> str:
    """The address as a prefix of its own, which brings no route to a subnet."""
    return f"{address}/{128 if ':' in address else 32}"


def _scheduled(stop: Stop, address: str, device: str) -> str:
    try:
        changed = with_changes(stop.host, [f"address {alone(address)} dev {device}"])
    except EvidenceError:
        return ""
    traces = [walk(changed, one.forward.packet).forward for one in stop.walks]
    sent = all(trace.fate is Fate.SENT for trace in traces)
    return " — walked again with it, IPVS sends the SYN to a real server" if sent else ""


def _addresses_of(host: HostTables) -> str:
    entries = [
        one for one in (host.addresses.entries if host.addresses is not None else []) if not one.ip.startswith(("127.", "::1", "fe80:"))
    ]
    shown = [f"{one.ip} on {one.interface}" for one in entries[:6]]
    return "it has " + (", ".join(shown) if shown else "none but loopback's")


def _lacking(host: HostTables, address: str) -> tuple[Exhibit, ...]:
    entries = host.addresses.entries if host.addresses is not None else []
    if not entries:
        return ()
    first = entries[0]
    return (Exhibit("state", host.name, first.source.file, f"{address} is not among its {len(entries)} addresses", line=first.source.line),)


def _fixes(host: HostTables, address: str, packets: Sequence[Packet]) -> tuple[str, ...]:
    """The address added and walked again; with a reverse-path check behind it, that is said too."""
    device = "lo"
    try:
        changed = with_changes(host, [f"address {alone(address)} dev {device}"])
    except EvidenceError:
        return (f"on {host.name}: `ip addr add {alone(address)} dev {device}`",)
    traces = [walk(changed, packet).forward for packet in packets]
    fates = {trace.fate for trace in traces}
    first = f"on {host.name}: `ip addr add {alone(address)} dev {device}`"
    if fates == {Fate.ACCEPTED}:
        first += " — walked again with it, a socket takes the SYN"
    elif fates == {Fate.REVERSE_PATH}:
        first += "; walked again with it, the reverse-path check drops the SYN next: lower rp_filter too"
    elif fates == {Fate.REFUSED}:
        first += "; walked again with it, nobody listens there yet"
    return (
        first,
        f"keep {host.name} from answering ARP for it: `sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2`",
        "to make both last: the address in the network's configuration (or keepalived's notify script), the settings in /etc/sysctl.d/",
    )


def predict(hosts: Mapping[str, HostTables]) -> list[Prediction]:
    """Real servers by direct return or tunnel that lack the virtual address."""
    found = []
    for one in delivered(hosts):
        if not is_not_for_here(one):
            continue
        counter = one.counter("IpInAddrErrors") if one.fate is Fate.NOT_FORWARDING else None
        happens = counter is not None and counter.happened
        found.append(
            Prediction(
                cause=ID,
                confidence="likely" if happens else "possible",
                statement=f"{one.host.name} gets the SYNs for {one.service}, and has {one.virtual_ip} on no interface",
                explanation=f"{one.because} {_addresses_of(one.host)[:1].upper()}{_addresses_of(one.host)[1:]}. There {ends_by(one)}.",
                where=one.host.name,
                exhibits=(*one.exhibits, *_lacking(one.host, one.virtual_ip), *((counter.exhibit,) if counter is not None else ())),
                next_evidence=(f"a capture on {one.host.name} while a client connects to {one.service}",),
                fix=_fixes(one.host, one.virtual_ip, one.packets),
            )
        )
    return found
