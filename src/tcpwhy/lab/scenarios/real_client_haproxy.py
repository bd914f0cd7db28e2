"""Clients behind NAT and HAProxy, which names them in a PROXY header, in HTTP headers, or in its table of sessions alone."""

from __future__ import annotations

from dataclasses import dataclass

from ..cluster import BALANCER, Clients, Cluster, build
from ..haproxy import haproxy
from ..real_clients import truth_of
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World

FORWARD_FOR = """option forwardfor
http-reuse {reuse}
"""
#: What Envoy sets at the edge, with use_remote_address (http_conn_man/headers): its list is one line, the last address its own.
AS_ENVOY = """http-request set-header X-Forwarded-For %[req.fhdr(X-Forwarded-For)],%[src] if { req.fhdr(X-Forwarded-For) -m found }
http-request set-header X-Forwarded-For %[src] unless { req.fhdr(X-Forwarded-For) -m found }
http-request set-header X-Envoy-External-Address %[src]
http-request set-header X-Forwarded-Proto http
"""


@dataclass(frozen=True)
class Form:
    """What differs between the scenarios: HAProxy's mode, words of its servers, lines of its sections."""

    mode: str
    title: str
    words: str = ""
    defaults: str = ""
    frontend: str = ""
    mark: str = ""
    forged: bool = False
    ip: str = "4"


FORMS = {
    "v1": Form("tcp", "HAProxy with send-proxy: old sessions are in its table alone", "send-proxy", mark="proxy"),
    "v2": Form("tcp", "HAProxy with send-proxy-v2 and a checksum in it", "send-proxy-v2 proxy-v2-options crc32c", mark="proxy"),
    "v2-ipv6": Form("tcp", "HAProxy with send-proxy-v2, IPv6", "send-proxy-v2", mark="proxy", ip="6"),
    "http": Form(
        "http",
        "HAProxy with forwardfor, and clients that send such a header themselves",
        "",
        FORWARD_FOR.format(reuse="never"),
        forged=True,
    ),
    "http-shared": Form("http", "HAProxy that lets several clients use one connection to a server", "", FORWARD_FOR.format(reuse="always")),
    "http-envoy": Form(
        "http",
        "a proxy that sets the headers of Envoy, and clients that forge them",
        defaults="http-reuse never",
        frontend=AS_ENVOY,
        forged=True,
    ),
    "plain": Form("tcp", "HAProxy that adds nothing: its table of sessions alone can tell"),
}


def story(world: World) -> None:
    """Old connections stay in use while the captures run, and short ones are opened beside them."""
    form = FORMS[world.form]
    cluster = build(world, proxy_protocol=form.mark == "proxy")
    take_service(cluster)
    haproxy(
        cluster.balancer,
        (cluster.vip, cluster.port),
        cluster.reals,
        mode=form.mode,
        words=form.words,
        defaults=form.defaults,
        frontend=form.frontend,
    )
    world.notes["forwards"] = "haproxy"
    clients = Clients(cluster, forged=form.forged)
    clients.open_old()
    clients.record()
    clients.talk(24)


def take_service(cluster: Cluster) -> None:
    """Puts the service's address on the balancer's host."""
    cluster.balancer.ip(f"addr add {cluster.vip}/{cluster.world.full_length} dev lo{cluster.world.nodad}")


def check(view: CaseView) -> Truth:
    """What the programs noted is the truth; HAProxy's table holds sessions, and one connection serves several clients where it may."""
    form = FORMS[view.form]
    truth = truth_of(view, mark=form.mark, header_only=form.mode == "http")
    assert truth.clients is not None
    if form.mode == "tcp":
        view.require("backend=app" in (view.state(BALANCER, "haproxy-sessions.txt") or ""), "HAProxy's table is empty")
    if view.form == "http-shared":
        shared = [row for row in truth.clients if "header" in row.evidence and row.real_client is None]
        view.require(len(shared) >= 2, f"{len(shared)} connections were shared by clients of several addresses, expected some")
    return truth


SCENARIOS = tuple(
    Scenario(
        name=f"real-client-haproxy-{name}",
        title=form.title,
        story=story,
        check=check,
        needs=frozenset({"nat", "bridge"}),
        defaults={"state": "ss", **({"ip": form.ip} if form.ip != "4" else {})},
        form=name,
    )
    for name, form in FORMS.items()
)
