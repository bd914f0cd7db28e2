"""A filter rule refuses or drops connections to one port: on a router, on the server's own host or on the client's own."""

from __future__ import annotations

import time

from ..firewall import attempts, build, require_each
from ..load import Load, endpoint
from ..scenario import FailedConnection, Scenario, Truth
from ..services import backend
from ..view import CaseView
from ..world import World

PREY = 6
HOOKS = {"firewall": "FORWARD", "server": "INPUT", "client": "OUTPUT"}
#: ip6tables' names for the answers of REJECT (iptables-extensions(8)).
SIX = {
    "icmp-admin-prohibited": "icmp6-adm-prohibited",
    "icmp-host-prohibited": "icmp6-adm-prohibited",
    "icmp-port-unreachable": "icmp6-port-unreachable",
}


def story(world: World) -> None:
    """Two services on one server; a ruleset lets only one of them through. Form: `PLACE ANSWER`."""
    place, answer = world.form.split()
    row = build(world, firewall_seen=place == "firewall", port=world.random.choice([80, 443, 8080]))
    second = world.random.choice([3306, 5432, 6379, 9092, world.random.randrange(10_000, 19_000)])
    backend(row.server, port=second)
    row.client.sysctl("net.ipv4.tcp_syn_retries", 2)
    if place == "client":
        row.client.taps.append("lo")
    host = {"firewall": row.firewall, "server": row.server, "client": row.client}[place]
    if answer.startswith("nft-"):
        host.nft(nft_rules(world, HOOKS[place], row.port, second, answer.removeprefix("nft-")))
    else:
        host.restore_iptables(rules(world, HOOKS[place], row.port, second, answer))
    world.notes["second"] = endpoint(row.address, second)
    silent = answer.removeprefix("nft-") in ("drop", "policy")
    world.record()
    Load(world, row.client, row.address, row.port).mixed(45, 6.2 if silent else 3.0)
    other = Load(world, row.client, row.address, second, patience=3.4)
    for _ in range(PREY):
        other.talk("prey", lambda talk: talk.ask("GET", "/"), after=world.random.uniform(0.1, 2.0))
    time.sleep(6.8 if silent else 4.2)


def rules(world: World, hook: str, open_port: int, shut_port: int, answer: str) -> str:
    """A ruleset as such hosts have it, in one of two shapes; the twin's lets both ports through."""
    if answer in ("drop", "policy"):
        target = "-j DROP"
    else:
        word = SIX.get(answer, answer) if world.options.ip == "6" else answer
        target = f"-j REJECT --reject-with {word}"
    lines = ["*filter", f":{hook} {'DROP' if answer == 'policy' else 'ACCEPT'} [0:0]"]
    if hook == "OUTPUT" or (answer != "policy" and world.random.random() < 0.5):
        chain = world.random.choice(["BLOCKED", "LOCAL_POLICY", "FW-DENY", "services"])
        shut = f"{shut_port},{world.random.randrange(20_000, 30_000)}" if world.fault else "20001,20002"
        lines += [f":{chain} - [0:0]", f"-A {hook} -p tcp -m comment --comment policy-{world.random.randrange(1000)} -j {chain}"]
        lines += [f"-A {chain} -m state --state RELATED,ESTABLISHED -j RETURN", f"-A {chain} -p tcp -m multiport --dports {shut} {target}"]
    else:
        ports = f"{open_port}" if world.fault else f"{open_port},{shut_port}"
        icmp = "ipv6-icmp" if world.options.ip == "6" else "icmp"
        lines += [f"-A {hook} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", f"-A {hook} -p {icmp} -j ACCEPT"]
        lines += [f"-A {hook} -i lo -j ACCEPT"] if hook == "INPUT" else []
        lines += [f"-A {hook} -p tcp -m conntrack --ctstate NEW -m multiport --dports {ports} -j ACCEPT"]
        all_of_tcp = "-p tcp " if answer == "tcp-reset" else ""
        lines += [f"-A {hook} {all_of_tcp}{target}"] if answer != "policy" else []
    return "\n".join([*lines, "COMMIT", ""])


def nft_rules(world: World, hook: str, open_port: int, shut_port: int, answer: str) -> str:
    """The same in nft's words."""
    ports = f"{{ {open_port} }}" if world.fault else f"{{ {open_port}, {shut_port} }}"
    verdict = {"tcp-reset": "reject with tcp reset", "admin-prohibited": "reject with icmpx type admin-prohibited", "drop": "drop"}[answer]
    guard = "meta l4proto tcp " if answer == "tcp-reset" else ""
    return f"""table inet {world.random.choice(["filter", "fw", "policy"])} {{
      set allowed {{ type inet_service; elements = {ports} }}
      chain {hook.lower()} {{
        type filter hook {hook.lower()} priority filter; policy accept;
        ct state established,related counter accept
        meta l4proto {{ icmp, ipv6-icmp }} accept
        tcp dport @allowed counter accept
        {guard}counter {verdict}
      }}
    }}
    """


def check(view: CaseView) -> Truth:
    """The clients were refused (or got nothing) and the rule counted them; nothing answered behind it."""
    place, answer = view.form.split()
    service = view.note("second")
    prey = {str(one["client"]): one for one in view.outcomes if one["kind"] == "prey"}
    view.require(len(prey) == PREY, f"{len(prey)} connections to the second service, expected {PREY}")
    if not view.fault:
        view.require_healthy_outcomes()
        return Truth(healthy_connections=len(view.connections()))
    view.require_healthy_outcomes(but=set(prey))
    silent = answer.removeprefix("nft-") in ("drop", "policy")
    words = "timed out" if silent else "No route to host" if "prohibited" in answer else "refused"
    view.require(all(words in str(one["error"]) for one in prey.values()), f"not {words}: {prey}")
    tried = [one for one in attempts(view, service) if one.client in prey]
    view.require(len(tried) == (0 if place == "client" else PREY), f"{len(tried)} connections stand in the captures")
    require_each(view, tried, lambda one: not one.count("SA"), "without a SYN-ACK")
    require_each(view, tried, lambda one: one.count("S", "server") == 0 or place == "server", "unseen behind the rule")
    if answer.endswith("tcp-reset"):
        resets = {p.target for p in view.packets["client"] if p.kind == "R" and p.source == service}
        view.require(resets >= set(prey), "a refused connection saw no RST")
    first = {one.client: one.first_ns for one in tried}
    cause = "syn-lost" if silent else "rejected-by-firewall"
    return Truth(
        [FailedConnection(client, service, cause, first.get(client, _started(prey[client]))) for client in sorted(prey)],
        healthy_connections=len(view.connections()) - len(tried),
        confidence="confirmed",
    )


def _started(outcome: dict[str, object]) -> int:
    value = outcome["started_ns"]
    assert isinstance(value, int)
    return value


def _scenario(name: str, title: str, cause: str, form: str) -> Scenario:
    needs = {"nft"} if " nft-" in form else {"iptables"} if cause == "syn-lost" else {"iptables", "reject"}
    return Scenario(name, title, story, check, cause, frozenset(needs), {"state": "full"}, form)


REJECTED = (
    ("rejected-server", "the server's own INPUT answers RST for a port", "server tcp-reset"),
    ("rejected-server-icmp", "the server's own INPUT answers host-prohibited for all but one port", "server icmp-host-prohibited"),
    ("rejected-router", "a router answers RST in the server's name", "firewall tcp-reset"),
    ("rejected-router-icmp", "a router answers admin-prohibited", "firewall icmp-admin-prohibited"),
    ("rejected-router-nft", "a router's nft rule answers RST for all but one port", "firewall nft-tcp-reset"),
    ("rejected-client", "the client's own OUTPUT refuses with RST", "client tcp-reset"),
    ("rejected-client-icmp", "the client's own OUTPUT refuses with port-unreachable", "client icmp-port-unreachable"),
)
DROPPED = (
    ("syn-lost-router-rule", "a rule of a captured router drops SYNs, its state is there", "firewall drop"),
    ("syn-lost-router-nft", "an nft rule of a captured router drops SYNs, its state is there", "firewall nft-drop"),
    ("syn-lost-server-rule", "a rule of the server's own INPUT drops SYNs", "server drop"),
    ("syn-lost-server-policy", "the policy of the server's own INPUT drops SYNs", "server policy"),
)
SCENARIOS = (
    *(_scenario(name, title, "rejected-by-firewall", form) for name, title, form in REJECTED),
    *(_scenario(name, title, "syn-lost", form) for name, title, form in DROPPED),
)
