"""A node with the rules of Docker and kube-proxy: what they turn arrives at its pods, and all is well."""

from __future__ import annotations

import time

from ..firewall import build
from ..healthy import all_well
from ..load import Load, endpoint
from ..scenario import Scenario, Truth
from ..services import backend
from ..view import CaseView
from ..world import World

#: The shapes of iptables-save on such nodes: moby, libnetwork/iptables; kubernetes, pkg/proxy/iptables/proxier.go.
RULES = """*nat
:DOCKER - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SVC-{svc} - [0:0]
:KUBE-SEP-{sep_1} - [0:0]
:KUBE-SEP-{sep_2} - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT ! -d {loopback} -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A DOCKER -p tcp -m tcp --dport {published} -j DNAT --to-destination {pod_1}:{port}
-A KUBE-SERVICES -d {cluster} -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-{svc}
-A KUBE-SVC-{svc} -m comment --comment "default/web:http -j" -m statistic --mode random --probability 0.5 -j KUBE-SEP-{sep_1}
-A KUBE-SVC-{svc} -m comment --comment "default/web:http" -j KUBE-SEP-{sep_2}
-A KUBE-SEP-{sep_1} -s {pod_1_alone} -j KUBE-MARK-MASQ
-A KUBE-SEP-{sep_1} -p tcp -m tcp -j DNAT --to-destination {pod_1}:{port}
-A KUBE-SEP-{sep_2} -s {pod_2_alone} -j KUBE-MARK-MASQ
-A KUBE-SEP-{sep_2} -p tcp -m tcp -j DNAT --to-destination {pod_2}:{port}
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -j RETURN
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""


def story(world: World) -> None:
    """A client asks for a published port of the node and for a cluster address; two pods answer."""
    row = build(world, firewall_seen=True)
    node = row.firewall
    second = world.host("pod-2", vantage=False)
    pod_2 = world.link(node, second)[1]
    second.default_route(second.interfaces[0].peer)
    backend(second, port=row.port)
    length = world.full_length
    cluster = str(world.subnet().network_address + world.random.randrange(2, 250))
    published = world.random.randrange(8000, 9000)
    six = world.options.ip == "6"
    node.restore_iptables(
        RULES.format(
            **{name: "".join(world.random.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16)) for name in ("svc", "sep_1", "sep_2")},
            loopback="::1/128" if six else "127.0.0.0/8",
            cluster=f"{cluster}/{length}",
            published=published,
            port=row.port,
            pod_1=f"[{row.address}]" if six else row.address,
            pod_2=f"[{pod_2}]" if six else pod_2,
            pod_1_alone=f"{row.address}/{length}",
            pod_2_alone=f"{pod_2}/{length}",
        )
    )
    outside = node.interfaces[0].address
    world.notes["turned"] = [endpoint(cluster, 80), endpoint(outside, published)]
    world.record()
    Load(world, row.client, cluster, 80).mixed(30, 3)
    Load(world, row.client, outside, published).mixed(24, 3)
    time.sleep(4)


def check(view: CaseView) -> Truth:
    """The node turned both addresses, and all was well."""
    turned = view.notes["turned"]
    assert isinstance(turned, list)
    heard = {p.target for p in view.packets["server"] if p.kind == "S"}
    view.require(heard and not heard & set(turned), f"the server heard of {heard}, expected its own address alone")
    return all_well(view)


SCENARIOS = (
    Scenario(
        name="healthy-published-ports",
        title="Docker's and kube-proxy's DNAT on a node, and it works",
        story=story,
        check=check,
        needs=frozenset({"iptables", "nat"}),
        defaults={"state": "full"},
    ),
)
