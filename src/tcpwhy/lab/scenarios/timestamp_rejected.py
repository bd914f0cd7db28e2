"""Two clients behind one NAT address use its ports in turn, and the second one's clock lies behind: the server's TIME-WAIT refuses it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from ..firewall import SYN_PATIENCE, Row, attempts, build, linear_syns_off
from ..host import Host, enter
from ..load import Load
from ..repair import exchange, open_socket
from ..scenario import Scenario, Truth
from ..view import CaseView, Packet
from ..world import World


def story(world: World) -> None:
    """Each of two clients uses half of the ports first, then the other half: some of these second SYNs carry an older timestamp."""
    row = build(world, firewall_seen=world.form == "rfc1337")
    other = world.host("neighbour")
    world.link(other, row.firewall)
    other.default_route(other.interfaces[0].peer)
    for client in (row.client, other):
        if world.random.random() < 0.5:
            linear_syns_off(client)
    # The translator keeps the source port where it is free, and forgets a closed connection after a second, the server after a minute.
    outward = row.firewall.interfaces[1]
    row.firewall.iptables(f"-t nat -A POSTROUTING -o {outward.logical} -p tcp -j MASQUERADE")
    row.firewall.sysctl("net.netfilter.nf_conntrack_tcp_timeout_time_wait", 1)
    row.server.sysctl("net.ipv4.tcp_rfc1337", int(world.fault and world.form == "rfc1337"))
    ports = row.prey_ports(12)
    world.notes |= {"ports": ports, "translator": outward.address}
    if world.fault and world.form == "reset-eaten":
        listed = ",".join(map(str, ports))
        row.firewall.iptables(f"-A FORWARD -p tcp --dport {row.port} --tcp-flags RST RST -m multiport --sports {listed} -j DROP")
    world.record()
    begun = time.monotonic()
    Load(world, row.client, row.address, row.port).mixed(50, 7.0)
    halves = ports[::2], ports[1::2]
    use(row, row.client, halves[0])
    use(row, other, halves[1])
    time.sleep(2.2)
    with ThreadPoolExecutor(2) as pool:
        again = [pool.submit(use, row, other, halves[0]), pool.submit(use, row, row.client, halves[1])]
        world.notes["again"] = dict(zip(map(str, (*halves[0], *halves[1])), (*again[0].result(), *again[1].result()), strict=True))
    time.sleep(max(1.5, begun + 7.5 - time.monotonic()))


def use(row: Row, client: Host, ports: list[int]) -> list[str]:
    """One connection from each port, ended by the server; what came of each."""

    def one(port: int) -> str:
        sock = open_socket(client, row.address, port)
        said = exchange(sock, (row.address, row.port), SYN_PATIENCE, closes=True)
        sock.close()
        return said

    with ThreadPoolExecutor(len(ports), initializer=enter, initargs=(client.netns,)) as pool:
        return list(pool.map(one, ports))


def check(view: CaseView) -> Truth:
    """Each SYN with an older timestamp was refused, each with a newer one was taken, as the server saw it."""
    ports, again = view.notes["ports"], view.notes["again"]
    assert isinstance(ports, list)
    assert isinstance(again, dict)
    view.require_healthy_outcomes()
    at_server: dict[int, list[Packet]] = {port: [] for port in ports}
    for packet in view.packets["server"]:
        port = int(packet.source.rsplit(":", 1)[1])
        if port in at_server and packet.target == view.note("service"):
            at_server[port].append(packet)
    hit = []
    for port, packets in at_server.items():
        isns = list(dict.fromkeys(packet.sequence for packet in packets if packet.kind == "S"))
        view.require(len(isns) == 2, f"port {port} was used {len(isns)} times, expected twice")
        late = next(packet for packet in packets if packet.kind == "S" and packet.sequence == isns[1])
        old = [packet.timestamp for packet in packets if packet.time_ns < late.time_ns and packet.timestamp is not None]
        assert late.timestamp is not None
        behind = (late.timestamp - old[-1]) % 2**32 >= 2**31
        lasting = behind and view.fault
        view.require((again[str(port)] == "timeout") == lasting, f"port {port}: {again[str(port)]}, its timestamp behind: {behind}")
        if lasting:
            hit.append(late.sequence)
    view.require(bool(hit) == view.fault, f"{len(hit)} connections were refused")
    own = [one for one in attempts(view, view.note("service")) if any(one.packets.get(place) for place in ("client", "neighbour"))]
    failed = [one for one in own if one.isn in hit]
    view.require(len(failed) == len(hit), "a refused SYN was not seen at its client")
    return Truth(
        [one.failed("timestamp-rejected") for one in failed],
        healthy_connections=len(own) - len(failed),
        confidence="confirmed" if failed else None,
    )


SCENARIOS = tuple(
    Scenario(
        name=f"timestamp-rejected-{form}",
        title=f"two clients share a NAT's ports in turn, and the server holds the older timestamp for good: {what}",
        story=story,
        check=check,
        cause="timestamp-rejected",
        form=form,
        needs=frozenset({"iptables", "nat"}),
    )
    for form, what in (
        ("rfc1337", "tcp_rfc1337 keeps the TIME-WAIT in spite of the RST"),
        ("reset-eaten", "a firewall eats the client's RST"),
    )
)
