"""A stateful firewall, or a NAT, forgets connections that were silent for some seconds; the next packet of one is lost or draws a RST."""

from __future__ import annotations

import socket
import time

from ..firewall import Attempt, Row, attempts, build, require_each
from ..healthy import answer_http, read_request, serve
from ..host import iptables_flavour
from ..load import Load, Talk
from ..scenario import Truth, forms
from ..view import CaseView
from ..world import World

PREY = 6
LISTENERS = 2  # of a feed that is silent for too long, on the port behind the service's
PATIENCE = 4.0  # s; longer than four retransmissions of a request, the last 3.0 s after it (0.2 + 0.4 + 0.8 + 1.6 s)


def story(world: World) -> None:
    """Clients that pause for less and for more than the firewall's timeout, beside others that never pause.

    Forms: `dropped` (what the firewall does not know is dropped), `reset` (it is answered with RST), `port` (a NAT gives
    the connection another port, and the server answers RST to a stranger). The healthy twin has a timeout of minutes, or
    clients that keep their connections alive.
    """
    row = build(world, firewall_seen=True)
    timeout = world.random.randrange(4, 7)
    alive = not world.fault and world.random.random() < 0.5
    world.notes["timeout"] = timeout
    _forget(row, timeout if world.fault or alive else 600)
    feed = row.port + 1 if row.port < 9000 else 8100
    if world.form == "dropped":
        serve(row.server, feed, lambda connection: _feed(connection, timeout + 1.5))
    world.record()
    begun = time.monotonic()
    Load(world, row.client, row.address, row.port).mixed(42, timeout + 7)
    prey = Load(world, row.client, row.address, row.port, patience=PATIENCE)
    for number in range(PREY):
        silence = timeout + world.random.uniform(0.8, 2.5)
        prey.talk("prey", _pauses([world.random.uniform(0.5, timeout - 1.2), silence], alive=alive), after=0.1 + number * 0.1)
    if world.form == "dropped":
        listeners = Load(world, row.client, row.address, feed, patience=timeout + 6)
        for number in range(LISTENERS):
            listeners.talk("prey", lambda talk: _listen(talk, alive=alive), after=0.2 + number * 0.1)
    well = Load(world, row.client, row.address, row.port)
    for number in range(5):
        well.talk("pauses", _pauses([timeout - world.random.uniform(1.2, 2.2)] * 2, alive=False), after=0.2 + number * 0.2)
    time.sleep(begun + 2 * timeout + 7.5 - time.monotonic())


def _forget(row: Row, timeout: int) -> None:
    """What the firewall does, and for how long it remembers."""
    firewall, form = row.firewall, row.world.form
    outside = firewall.interfaces[1].logical
    if form == "port":
        firewall.iptables(f"-t nat -A POSTROUTING -o {outside} -p tcp -j MASQUERADE --random-fully")
    elif form == "reset":
        firewall.iptables("-A FORWARD -p tcp -m conntrack --ctstate INVALID -j REJECT --reject-with tcp-reset")
    elif row.world.random.random() < 0.5 and iptables_flavour() == "nft":
        firewall.nft("table inet filter { chain forward { type filter hook forward priority filter; ct state invalid counter drop; }; }")
    else:
        firewall.iptables("-A FORWARD -m conntrack --ctstate INVALID -j DROP")
    firewall.sysctl("net.netfilter.nf_conntrack_tcp_loose", 1 if form == "port" else 0)
    firewall.sysctl("net.netfilter.nf_conntrack_tcp_timeout_established", timeout)


def _pauses(silences: list[float], *, alive: bool):  # type: ignore[no-untyped-def]
    """Requests with silences of so many seconds between them."""

    def conversation(talk: Talk) -> None:
        if alive:
            _keep_alive(talk)
        talk.ask("GET", "/")
        for silence in silences:
            time.sleep(silence)
            talk.ask("GET", "/files/1k")
        talk.close()

    return conversation


def _keep_alive(talk: Talk) -> None:
    """A probe after each second of silence."""
    talk.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    talk.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    talk.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)


def _feed(connection: socket.socket, silence: float) -> None:
    """One answer, a silence, and then the news."""
    if read_request(connection):
        answer_http(connection, b"subscribed\n")
        time.sleep(silence)
        connection.sendall(b"news\n")
        connection.recv(1)


def _listen(talk: Talk, *, alive: bool) -> None:
    """Asks for the feed and waits for the news; an end without them is an error."""
    if alive:
        _keep_alive(talk)
    talk.ask("GET", "/feed")
    if talk.socket.recv(64) != b"news\n":
        raise ConnectionAbortedError("the feed ended without news")
    talk.close()


def check(view: CaseView) -> Truth:
    """What came after the long silence did not reach the socket it was meant for; all others are well."""
    prey = {str(one["client"]) for one in view.outcomes if one["kind"] == "prey"}
    tried = [one for server in {str(one["server"]) for one in view.outcomes} for one in attempts(view, server) if one.client in prey]
    count = PREY + (LISTENERS if view.form == "dropped" else 0)
    view.require(len(tried) == count, f"{len(tried)} connections that pause for long, expected {count}")
    if not view.fault:
        view.require_healthy_outcomes()
        return Truth(healthy_connections=len(view.connections()))
    view.require_healthy_outcomes(but=prey)
    view.require(all(one["error"] for one in view.outcomes if one["kind"] == "prey"), "a connection survived the long silence")
    if view.form == "dropped":
        require_each(view, tried, lambda one: not any(one.count("R", place) for place in view.places), "without a RST")
        require_each(view, tried, lambda one: _lost(one, "client", "server"), "lost on the way")
    else:
        require_each(view, tried, lambda one: one.count("R", "client"), "reset at the client")
    strays: list[str] = []
    if view.form == "reset":
        require_each(view, tried, lambda one: not one.count("R", "server"), "without a RST at the server")
        require_each(view, tried, lambda one: _lost(one, "client", "server"), "lost on the way")
    if view.form == "port":
        opened = {p.source for p in view.packets["server"] if p.kind == "S"}
        stranger = {p.source: p.target for p in view.packets["server"] if p.kind == "A" and p.length and p.target == view.note("service")}
        strays = [f"{source}-{target}" for source, target in stranger.items() if source not in opened]
        view.require(len(strays) >= PREY, f"{len(strays)} connections came from a port that the server did not know, expected {PREY}")
    return Truth(
        [one.failed("idle-timeout") for one in tried],
        tolerated=strays,  # the same connections, as the server meets them after the silence
        healthy_connections=len(view.connections()) - len(tried),
        confidence="confirmed",
    )


def _lost(one: Attempt, client: str, server: str) -> bool:
    """Whether one end sent data that the other end's host never saw."""
    for sender, receiver, ends in ((client, server, one.client), (server, client, one.server)):
        sent = {p.sequence for p in one.packets.get(sender, []) if p.source == ends and p.length}
        came = {p.sequence for p in one.packets.get(receiver, []) if p.source == ends and p.length}
        if sent - came:
            return True
    return False


SCENARIOS = forms(
    (
        ("idle-timeout", "a firewall forgets silent connections and drops what comes after", "dropped"),
        ("idle-timeout-reset", "a firewall forgets silent connections and answers what comes after with RST", "reset"),
        ("idle-timeout-nat", "a NAT forgets silent connections and gives them another port, which the server answers with RST", "port"),
    ),
    story=story,
    check=check,
    cause="idle-timeout",
    needs={"iptables", "nft"},
    defaults={"state": "full"},
)
