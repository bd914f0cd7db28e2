"""A client comes back from a port of which the server still holds an older connection, and a firewall keeps them from clearing it up."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from ..firewall import SYN_PATIENCE, Attempt, Row, attempts, build, linear_syns_off
from ..host import enter
from ..load import Load
from ..repair import exchange, open_socket, vanish
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World

LOW, MIDDLE, HIGH = 1_000_000_000, 2_000_000_000, 3_000_000_000
"""Initial sequence numbers."""


def story(world: World) -> None:
    """Ten ports are used twice, and each second SYN meets what is left. Five cannot clear it up; five can, and nobody notices."""
    row = build(world)
    if world.random.random() < 0.5:
        linear_syns_off(row.client)
    rests = world.form == "time-wait"
    if rests:
        row.client.sysctl("net.ipv4.tcp_timestamps", 0)  # with them a later SYN is always taken
        row.server.sysctl("net.ipv4.tcp_rfc1337", int(world.fault))
    ports = row.prey_ports(10)
    prey = world.random.sample(ports, 5)
    world.notes |= {"ports": ports, "prey": prey}
    world.record()
    begun = time.monotonic()
    Load(world, row.client, row.address, row.port).mixed(50, 7.0)
    with ThreadPoolExecutor(len(ports), initializer=enter, initargs=(row.client.netns,)) as pool:
        first = pool.map(lambda port: first_use(row, port, rests=rests), ports)
        world.notes["first"] = list(first)
        if world.fault and not rests:
            forbid(row, prey, world.form)
        time.sleep(0.8)
        # In TIME-WAIT and without timestamps the numbers decide: lower ones are refused (tcp_timewait_state_process()).
        low = set(prey if world.fault else ports) if rests else set()
        again = pool.map(lambda port: second_use(row, port, LOW if port in low else HIGH if rests else None), ports)
        world.notes["again"] = dict(zip(map(str, ports), again, strict=True))
    time.sleep(max(1.5, begun + 7.5 - time.monotonic()))


def first_use(row: Row, port: int, *, rests: bool) -> str:
    """A connection that the server closes, so that it rests in TIME-WAIT there; or one that its client forgets in a crash."""
    sock = open_socket(row.client, row.address, port, isn=MIDDLE if rests else None)
    said = exchange(sock, (row.address, row.port), SYN_PATIENCE, closes=rests)
    if rests:
        sock.close()
    else:
        vanish(sock)
    return said


def second_use(row: Row, port: int, isn: int | None) -> str:
    """The same port again, with the number that the client would have after its restart."""
    sock = open_socket(row.client, row.address, port, isn=isn if isn is not None else row.world.random.randrange(2**32))
    said = exchange(sock, (row.address, row.port), SYN_PATIENCE, closes=True)
    sock.close()
    return said


def forbid(row: Row, ports: list[int], form: str) -> None:
    """The firewall eats the ACK of the old numbers, or the RST that answers it."""
    listed = ",".join(map(str, ports))
    if form == "reset-eaten":
        row.firewall.iptables(f"-A FORWARD -p tcp --dport {row.port} --tcp-flags RST RST -m multiport --sports {listed} -j DROP")
    else:
        row.firewall.iptables(f"-A FORWARD -p tcp --sport {row.port} --tcp-flags SYN,RST,ACK ACK -m multiport --dports {listed} -j DROP")


def check(view: CaseView) -> Truth:
    """Each second SYN of the prey was answered with the old numbers, as the server saw it, and never with SYN-ACK."""
    tried = attempts(view, view.note("service"))
    ports, prey, again = view.notes["ports"], view.notes["prey"], view.notes["again"]
    assert isinstance(ports, list)
    assert isinstance(prey, list)
    assert isinstance(again, dict)
    view.require_healthy_outcomes()
    uses: dict[int, list[Attempt]] = {}
    for one in tried:
        port = int(one.client.rsplit(":", 1)[1])
        if port in ports:
            uses.setdefault(port, []).append(one)
    view.require(all(len(pair) == 2 for pair in uses.values()) and len(uses) == len(ports), "a port was not used twice")
    hit = prey if view.fault else []
    for port, (old, new) in uses.items():
        view.require((again[str(port)] == "timeout") == (port in hit), f"port {port}: {again[str(port)]}")
        if port in hit:
            answers = [one for one in new.packets["server"] if one.source == new.server]
            view.require(not new.count("SA"), f"port {port}: the second SYN was answered")
            view.require(any(p.source == old.server and p.kind == "A" and p.time_ns > new.first_ns and not p.length
                             for p in (*old.packets["server"], *answers)), f"port {port}: no ACK of the old numbers")  # fmt: skip
    failed = [uses[port][1] for port in hit]
    return Truth(
        [one.failed("stale-connection") for one in failed],
        healthy_connections=len(tried) - len(failed),
        confidence="confirmed" if failed else None,
    )


SCENARIOS = tuple(
    Scenario(
        name=f"stale-connection-{form}",
        title=f"a port is used again while the server holds an older connection of it: {what}",
        story=story,
        check=check,
        cause="stale-connection",
        form=form,
    )
    for form, what in (
        ("reset-eaten", "the client's RST never arrives"),
        ("ack-eaten", "the server's ACK of the old numbers never arrives"),
        ("time-wait", "tcp_rfc1337 keeps the TIME-WAIT in spite of the RST"),
    )
)
