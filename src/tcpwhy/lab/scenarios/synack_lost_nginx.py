"""An nginx answers 504: SYN-ACKs to some of its source ports are lost, and ports are used again."""

from __future__ import annotations

import time

from ..firewall import answered, attempts, build
from ..load import Load
from ..scenario import Scenario, Truth
from ..services import nginx
from ..view import CaseView
from ..world import World

EDGE = """
  server {{
    listen {wide}:80;
    location / {{ proxy_pass http://{service}; proxy_connect_timeout {patience}s; proxy_next_upstream off; }}
  }}
"""


def story(world: World) -> None:
    """The edge has few source ports; a quarter of them never gets a SYN-ACK."""
    row = build(world)
    edge = row.client
    user = world.host("user", vantage=False)
    at_edge = world.link(user, edge)[1]
    first = world.random.randrange(20_000, 60_000) & ~1
    edge.sysctl("net.ipv4.ip_local_port_range", f"{first} {first + 23}")
    wide = "[::]" if world.options.ip == "6" else "0.0.0.0"
    text = EDGE.format(wide=wide, service=row.service, patience=world.random.choice([1, 2]))
    nginx(edge, text, error_log=edge.folder / "error.log")
    (world.case / "tcpwhy.toml").write_text(f'[vantage.client]\nrole = "proxy"\nlog_timezone = "{world.options.zone}"\n')
    # connect() without bind() takes the even ones first (inet_hashtables.c __inet_hash_connect)
    bad = world.random.sample(range(first, first + 24, 2), 3) + world.random.sample(range(first + 1, first + 24, 2), 3)
    if world.fault:
        row.firewall.iptables(
            f"-A FORWARD -p tcp --sport {row.port} --tcp-flags SYN,ACK,RST SYN,ACK -m multiport --dports {','.join(map(str, bad))} -j DROP"
        )
    world.record()
    load = Load(world, user, at_edge, 80)
    for _ in range(50):
        load.get(1, after=world.random.uniform(0, 7))
    time.sleep(10)


def check(view: CaseView) -> Truth:
    """The edge logged timeouts while connecting, and at least one port was used again while it was half open."""
    tried = attempts(view, view.note("service"))
    lost = [one for one in tried if not one.count("SA", "client")]
    view.require_healthy_outcomes()
    log = view.log("client/error.log")
    timeouts = log.count("upstream timed out (110: Connection timed out) while connecting to upstream")
    if not view.fault:
        view.require(not lost and not timeouts, "a SYN-ACK was lost without a fault")
        return Truth(healthy_connections=len(view.connections()))
    view.require(len(lost) >= 3, f"{len(lost)} connects timed out, expected at least 3")
    view.require(timeouts == len(lost), f"{timeouts} timeouts in the log, {len(lost)} in the captures")
    view.require(not any(answered(one) for one in lost), "an attempt without SYN-ACK was answered")
    ports = [one.client for one in lost]
    reused = len(ports) - len(set(ports))
    rest = len(tried) - len(lost) + len({k for k in view.connections() if k[1] != view.note("service")})
    return Truth(
        [one.failed("synack-lost") for one in lost],
        healthy_connections=rest,
        confidence="confirmed",
        notes=[f"{reused} of them came from a port that was half open at the server"],
    )


SCENARIOS = (
    Scenario(
        name="synack-lost-nginx-504",
        title="an nginx answers 504 because SYN-ACKs to some of its source ports are lost",
        story=story,
        check=check,
        cause="synack-lost",
    ),
)
