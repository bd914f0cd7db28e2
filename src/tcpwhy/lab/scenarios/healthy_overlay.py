"""Two nodes with pods: bridge, veth and VXLAN captured on `any`, so that every packet stands there three times."""

from __future__ import annotations

import time

from ..healthy import all_well
from ..host import Host, Interface
from ..load import Load
from ..scenario import Scenario, Truth
from ..services import backend
from ..view import CaseView
from ..world import World


def story(world: World) -> None:
    """pod-1 on node-1 asks pod-2 on node-2; the nodes' bridges are one network over VXLAN."""
    node_1, node_2 = world.host("node-1"), world.host("node-2")
    pod_1, pod_2 = world.host("pod-1", vantage=False), world.host("pod-2", vantage=False)
    world.link(node_1, node_2)
    network = world.subnet()
    picks = world.random.sample(range(2, 250), 2)
    vni = world.random.randrange(1, 1 << 24)
    for node, pod, pick in ((node_1, pod_1, picks[0]), (node_2, pod_2, picks[1])):
        plug(world, node, pod, vni, f"{network.network_address + pick}", network.prefixlen)
        pod.interfaces.append(
            Interface(
                "eth0",
                "eth0",
                f"{network.network_address + pick}",
                f"{network.network_address + picks[0]}",
                network,
            )
        )
    backend(pod_2)
    world.record()
    load = Load(world, pod_1, pod_2.address, 80)
    load.mixed(40, 3)
    load.slow_upload(after=0.2)
    time.sleep(4)


def plug(world: World, node: Host, pod: Host, vni: int, address: str, length: int) -> None:
    """A bridge with the pod's cable and the tunnel on it."""
    cable = node.interfaces[0]
    node.ip("link add cni0 type bridge")
    node.ip(f"link add vx0 type vxlan id {vni} local {cable.address} remote {cable.peer} dstport 4789 dev {cable.logical}")
    node.ip(f"link add name pod0 type veth peer name eth0 netns {pod.netns}")
    for name in ("vx0", "pod0"):
        node.ip(f"link set {name} master cni0 up")
    mtu = world.mtu - 70  # inner Ethernet 14, outer IPv6 40, UDP 8, VXLAN 8
    node.ip(f"link set pod0 mtu {mtu}")
    node.ip("link set cni0 up")
    pod.ip(f"link set eth0 mtu {mtu} up")
    pod.ip(f"addr add {address}/{length} dev eth0{world.nodad}")


def check(view: CaseView) -> Truth:
    """The captures hold more sightings than packets."""
    # without payload: offload may cut the others differently on the way
    seen = [p for p in view.packets["node-1"] if not p.length]
    different = {(p.source, p.sequence, p.acknowledgement, p.length, p.flags, p.timestamp) for p in seen}
    view.require(
        len(seen) >= 2.5 * len(different),
        f"{len(seen)} sightings of {len(different)} packets: no threefold copies",
    )
    return all_well(view)


SCENARIOS = (
    Scenario(
        name="healthy-overlay-any",
        title="bridge, veth and VXLAN on `any`: threefold copies",
        story=story,
        check=check,
        needs=frozenset({"vxlan", "bridge"}),
        defaults={"capture": "any"},
    ),
)
