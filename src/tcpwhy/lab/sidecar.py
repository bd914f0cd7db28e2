"""Redirects as service meshes leave them: a host and what is to be turned come in, its nat rules go out; and a proxy that works."""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from .healthy import serve
from .host import Host
from .world import World

SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h


@dataclass(frozen=True)
class Redirect:
    """Connections to `network` and `port` are turned to the local port `to`, but those of the user `uid`."""

    network: str
    port: int
    to: int
    uid: int
    family: str


def _restore(chains: list[str], rules: list[str]) -> str:
    return "\n".join(["*nat", *(f":{chain} - [0:0]" for chain in chains), *(f"-A {rule}" for rule in rules), "COMMIT", ""])


def own(world: World, redirect: Redirect) -> str:
    """A home-made sidecar's chains, in one of the shapes that such scripts have."""
    chain = world.random.choice(["SIDECAR_OUTBOUND", "MESH_OUTPUT", "PROXY_OUT", "APP_SIDECAR", "ENVOY_OUTBOUND"])
    last = f"-d {redirect.network} -p tcp -m tcp --dport {redirect.port} -j REDIRECT --to-ports {redirect.to}"
    exempt = f"{chain} -m owner --uid-owner {redirect.uid} -j RETURN"
    if world.random.random() < 0.5:
        return _restore([chain], [f"OUTPUT -p tcp -j {chain}", exempt, f"{chain} {last}"])
    inner = f"{chain}_REDIRECT"
    comment = "-m comment --comment sidecar-v0.3"
    return _restore(
        [chain, inner],
        [f"OUTPUT -p tcp {comment} -j {chain}", exempt, f"{chain} -o lo -j RETURN", f"{chain} -p tcp -j {inner}", f"{inner} {last}"],
    )


def istio(world: World, redirect: Redirect) -> str:
    """The chains of istio-iptables with `-i NETWORK -b ""` (istio, tools/istio-iptables/pkg/capture/run.go)."""
    inside, loopback = ("::6/128", "::1/128") if redirect.family == "6" else ("127.0.0.6/32", "127.0.0.1/32")
    uid = redirect.uid
    return _restore(
        ["ISTIO_OUTPUT", "ISTIO_REDIRECT", "ISTIO_IN_REDIRECT"],
        [
            "OUTPUT -p tcp -j ISTIO_OUTPUT",
            "ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006",
            f"ISTIO_OUTPUT -s {inside} -o lo -j RETURN",
            f"ISTIO_OUTPUT ! -d {loopback} -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner {uid} -j ISTIO_IN_REDIRECT",
            f"ISTIO_OUTPUT -o lo -m owner ! --uid-owner {uid} -j RETURN",
            f"ISTIO_OUTPUT -m owner --uid-owner {uid} -j RETURN",
            f"ISTIO_OUTPUT ! -d {loopback} -o lo -m owner --gid-owner {uid} -j ISTIO_IN_REDIRECT",
            f"ISTIO_OUTPUT -o lo -m owner ! --gid-owner {uid} -j RETURN",
            f"ISTIO_OUTPUT -m owner --gid-owner {uid} -j RETURN",
            f"ISTIO_OUTPUT -d {loopback} -j RETURN",
            f"ISTIO_OUTPUT -d {redirect.network} -j ISTIO_REDIRECT",
            "ISTIO_OUTPUT -j RETURN",
            f"ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports {redirect.to}",
        ],
    )


def linkerd(world: World, redirect: Redirect) -> str:
    """The chains of linkerd's proxy-init (linkerd2-proxy-init, proxy-init/iptables/iptables.go); other ports are skipped."""
    stamp = world.random.randrange(1_600_000_000, 1_790_000_000)

    def comment(text: str) -> str:
        return f"-m comment --comment proxy-init/{text}/{stamp}"

    others = f"1:{redirect.port - 1},{redirect.port + 1}:65535"
    return _restore(
        ["PROXY_INIT_REDIRECT", "PROXY_INIT_OUTPUT"],
        [
            f"PREROUTING {comment('install-proxy-init-prerouting')} -j PROXY_INIT_REDIRECT",
            f"OUTPUT {comment('install-proxy-init-output')} -j PROXY_INIT_OUTPUT",
            f"PROXY_INIT_REDIRECT -p tcp -m multiport --dports 4190,4191,4567,4568 {comment('ignore-port-4190,4191,4567,4568')} -j RETURN",
            f"PROXY_INIT_REDIRECT -p tcp {comment('redirect-all-incoming-to-proxy-port')} -j REDIRECT --to-ports 4143",
            f"PROXY_INIT_OUTPUT -m owner --uid-owner {redirect.uid} {comment('ignore-proxy-user-id')} -j RETURN",
            f"PROXY_INIT_OUTPUT -o lo {comment('ignore-loopback')} -j RETURN",
            f"PROXY_INIT_OUTPUT -p tcp -m multiport --dports {others} {comment('ignore-ports')} -j RETURN",
            f"PROXY_INIT_OUTPUT -p tcp {comment('redirect-all-outgoing-to-proxy-port')} -j REDIRECT --to-ports {redirect.to}",
        ],
    )


def nft(world: World, redirect: Redirect) -> str:
    """A home-made sidecar's table in nft's words."""
    name = world.random.choice(["sidecar", "mesh", "proxy_redirect"])
    address = "ip6" if redirect.family == "6" else "ip"
    return f"""table {address} {name} {{
      chain to_proxy {{ tcp dport {redirect.port} counter redirect to :{redirect.to}; }}
      chain outbound {{
        type nat hook output priority -100; policy accept;
        meta skuid {redirect.uid} counter return
        oifname "lo" return
        {address} daddr {redirect.network} meta l4proto tcp jump to_proxy
      }}
    }}
    """


def inbound(world: World, redirect: Redirect) -> str:
    """What turns connections that arrive (PREROUTING): on a node for others, or on the server's own host."""
    chain = world.random.choice(["ISTIO_INBOUND", "MESH_INBOUND", "SIDECAR_INBOUND"])
    inner = "ISTIO_IN_REDIRECT" if chain.startswith("ISTIO") else f"{chain}_REDIRECT"
    return _restore(
        [chain, inner],
        [
            f"PREROUTING -p tcp -j {chain}",
            f"{chain} -p tcp -m tcp --dport 22 -j RETURN",
            f"{chain} -d {redirect.network} -p tcp -m tcp --dport {redirect.port} -j {inner}",
            f"{inner} -p tcp -j REDIRECT --to-ports {redirect.to}",
        ],
    )


Shape = Callable[[World, Redirect], str]

#: The shape of the rules, the user of the proxy and its port; None where the project has no fixed one.
SHAPES: dict[str, tuple[Shape, int | None, int | None]] = {
    "own": (own, None, None),
    "istio": (istio, 1337, 15001),
    "linkerd": (linkerd, 2102, 4140),
    "nft": (nft, None, None),
    "inbound": (inbound, 1337, 15006),
}


def relay(host: Host, port: int, uid: int) -> None:
    """A proxy of the user `uid` on a local port: it carries each connection on to where it was going."""
    six = host.world.options.ip == "6"

    def carry(near: socket.socket) -> None:
        # netfilter's owner match looks at the user that the thread had when it made the socket (xt_owner.c owner_mt)
        ctypes.CDLL(None).setfsuid(uid)
        try:
            far = socket.socket(near.family, socket.SOCK_STREAM)
        finally:
            ctypes.CDLL(None).setfsuid(0)
        with far:
            far.connect(_asked(near, six))
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()

    def answer(near: socket.socket) -> None:
        host.inside(lambda: carry(near))

    serve(host, port, answer)


def _asked(near: socket.socket, six: bool) -> tuple[str, int]:
    if six:
        raw = near.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)  # struct sockaddr_in6
        return socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack("!H", raw[2:4])[0]
    raw = near.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, 16)  # struct sockaddr_in
    return socket.inet_ntop(socket.AF_INET, raw[4:8]), struct.unpack("!H", raw[2:4])[0]


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Carries bytes one way until their end, and the end too."""
    try:
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()  # one side was reset: so is the other
