"""A stateful firewall sees one direction of a client's traffic only, and drops as INVALID what it cannot place."""

from __future__ import annotations

import time

from ..firewall import Attempt, Row, attempts, build, require_each
from ..load import Load
from ..scenario import Truth, forms
from ..view import CaseView
from ..world import World

PREY = 6
PATIENCE = 4.0  # s; longer than four retransmissions of a request, the last 3.0 s after it (0.2 + 0.4 + 0.8 + 1.6 s)


def story(world: World) -> None:
    """Two clients behind one firewall, and a cable past it, which the second one's packets take in one direction.

    Forms: `requests` (the firewall sees what the client sends, never an answer), `answers` (SYN-ACKs only), `moved`
    (both directions lead past it, until the requests come to it in mid-connection).
    """
    row = build(world, firewall_seen=True)
    second = world.host("client-02")
    world.link(second, row.firewall)
    past_client, past_server = world.link(second, row.server)
    family = "-6 " if world.options.ip == "6" else ""
    length = world.full_length
    through = f"{family}route replace {row.address}/{length} via {second.interfaces[0].peer} src {second.address}"
    past = f"{family}route replace {row.address}/{length} via {past_server} src {second.address}"
    second.ip(past if world.form != "requests" and world.fault else through)
    if world.form != "answers" and world.fault:
        row.server.ip(f"{family}route replace {second.address}/{length} via {past_client}")
    rules(row)
    if world.form == "moved":
        row.firewall.sysctl("net.netfilter.nf_conntrack_tcp_loose", 0)  # else conntrack takes up what it meets in the middle
    world.notes["second"] = second.address
    world.record()
    begun = time.monotonic()
    Load(world, row.client, row.address, row.port).mixed(45, 6.8)
    prey = Load(world, second, row.address, row.port, patience=PATIENCE)
    for number in range(PREY):
        if world.form == "moved":
            prey.slow_upload(after=0.1 + number * 0.08, pieces=20, piece=world.random.randrange(300, 1400), interval=0.1)
        else:
            prey.talk("prey", lambda talk: talk.ask("GET", "/"), after=world.random.uniform(0.1, 1.0))
    time.sleep(1.5)
    if world.form == "moved" and world.fault:
        second.ip(through)
    time.sleep(begun + 7.2 - time.monotonic())


def rules(row: Row) -> None:
    """The ruleset of a stateful firewall, in one of three shapes."""
    shape = row.world.random.choice(["invalid", "new", "nft"])
    if shape == "nft":
        row.firewall.nft(
            f"""table inet filter {{
              chain forward {{
                type filter hook forward priority filter; policy drop;
                ct state vmap {{ established : accept, related : accept, invalid : drop }}
                meta l4proto {{ icmp, ipv6-icmp }} accept
                tcp dport {row.port} ct state new counter accept
                counter comment "everything else"
              }}
            }}
            """
        )
        return
    lines = ["*filter", ":FORWARD DROP [0:0]"]
    if shape == "invalid":
        lines += ["-A FORWARD -m conntrack --ctstate INVALID -j DROP"]
    icmp = "ipv6-icmp" if row.world.options.ip == "6" else "icmp"
    lines += ["-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", f"-A FORWARD -p {icmp} -j ACCEPT"]
    lines += [f"-A FORWARD -p tcp -m tcp --dport {row.port} --syn -m conntrack --ctstate NEW -j ACCEPT", "COMMIT", ""]
    row.firewall.restore_iptables("\n".join(lines))


def check(view: CaseView) -> Truth:
    """What the firewall could not place came to it and went no further; the other client is well."""
    second = view.note("second")
    tried = [one for one in attempts(view, view.note("service")) if one.client.rpartition(":")[0].strip("[]") == second]
    view.require(len(tried) == PREY, f"{len(tried)} connections of the second client, expected {PREY}")
    if not view.fault:
        view.require_healthy_outcomes()
        return Truth(healthy_connections=len(view.connections()))
    view.require_healthy_outcomes(but={one.client for one in tried})
    view.require(all(one["error"] for one in view.outcomes if one["host"] == "client-02"), "a connection of the second client went well")
    if view.form == "answers":
        require_each(view, tried, lambda one: one.count("SA", "firewall"), "answered by way of the firewall")
        require_each(view, tried, lambda one: not one.count("SA", "client-02"), "without a SYN-ACK at the client")
        require_each(view, tried, lambda one: not one.count("S", "firewall"), "unseen by the firewall as a SYN")
    else:
        require_each(view, tried, lambda one: not any(p.source == one.server for p in one.packets["firewall"]), "one-sided at the firewall")
        require_each(view, tried, lambda one: one.count("SA", "client-02"), "answered at the client")
        require_each(view, tried, lambda one: _sent(one, "client-02") > _sent(one, "server"), "missing data at the server")
        require_each(view, tried, lambda one: _sent(one, "firewall"), "with data at the firewall")
    return Truth(
        [one.failed("asymmetric-drop") for one in tried],
        healthy_connections=len(view.connections()) - len(tried),
        confidence="confirmed",
    )


def _sent(one: Attempt, place: str) -> int:
    """How far the client's data was seen at a place, as the highest sequence number behind the SYN's."""
    ends = [(p.sequence + p.length - one.isn) % 2**32 for p in one.packets.get(place, []) if p.source == one.client and p.length]
    return max(ends, default=0)


SCENARIOS = forms(
    (
        ("asymmetric-drop", "a stateful firewall sees requests only: it drops the ACKs of handshakes it never saw answered", "requests"),
        ("asymmetric-drop-answers", "a stateful firewall sees answers only: it drops the SYN-ACKs", "answers"),
        ("asymmetric-drop-moved", "requests move to a stateful firewall in mid-connection: it drops the data", "moved"),
    ),
    story=story,
    check=check,
    cause="asymmetric-drop",
    needs={"iptables", "nft"},
    defaults={"state": "full"},
)
