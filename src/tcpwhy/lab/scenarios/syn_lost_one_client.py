"""An nft rule of the firewall shuts out one client whole: none of its SYNs arrives, while its neighbour is well."""

from __future__ import annotations

import time

from ..firewall import attempts, build, one_request, require_each
from ..load import Load
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World


def story(world: World) -> None:
    """Two clients behind one firewall; the second one's address stands in a set of blocked ones."""
    row = build(world, firewall_seen=True)
    second = world.host("client-02")
    world.link(second, row.firewall)
    second.default_route(second.interfaces[0].peer)
    second.sysctl("net.ipv4.tcp_syn_retries", 2)
    world.notes["second"] = second.address
    family = "ip6" if world.options.ip == "6" else "ip"
    kind = "ipv6_addr" if world.options.ip == "6" else "ipv4_addr"
    blocked = f"elements = {{ {second.address} }};" if world.fault else ""
    rules = row.firewall.scratch / "rules.nft"
    rules.write_text(
        f"""table inet filter {{
          set blocked {{ type {kind}; {blocked} }}
          chain forward {{
            type filter hook forward priority filter; policy accept;
            ct state established,related counter accept
            {family} saddr @blocked tcp flags syn counter drop
          }}
        }}
        """
    )
    row.firewall.run(["nft", "-f", str(rules)])
    world.record()
    Load(world, row.client, row.address, row.port).mixed(50, 5)
    shut_out = Load(world, second, row.address, row.port)
    for _ in range(6):
        shut_out.talk("prey", one_request, after=world.random.uniform(0, 1))
    time.sleep(7)
    if world.fault:
        shut_out.wait(5)


def check(view: CaseView) -> Truth:
    """The firewall saw the second client's SYNs come, and nobody saw them go."""
    tried = attempts(view, view.note("service"))
    second = view.note("second")
    prey = [one for one in tried if one.client.rpartition(":")[0].strip("[]") == second]
    view.require(len(prey) == 6, f"{len(prey)} connections of the second client, expected 6")
    if not view.fault:
        view.require_healthy_outcomes()
        return Truth(healthy_connections=len(view.connections()))
    view.require_healthy_outcomes(but={one.client for one in prey})
    require_each(view, prey, lambda one: one.count("S", "client-02") > 1, "a SYN repeated by the client")
    require_each(view, prey, lambda one: one.count("S", "firewall"), "seen at the firewall")
    require_each(view, prey, lambda one: not one.packets.get("server"), "unseen at the server")
    return Truth(
        [one.failed("syn-lost") for one in prey],
        healthy_connections=len(view.connections()) - len(prey),
        confidence="confirmed",
    )


SCENARIOS = (
    Scenario(
        name="syn-lost-one-client",
        title="an nft rule shuts one client out",
        story=story,
        check=check,
        cause="syn-lost",
        needs=frozenset({"nft"}),
        defaults={"state": "ss"},
    ),
)
