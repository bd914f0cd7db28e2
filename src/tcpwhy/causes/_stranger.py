"""A redirect to a port on which somebody listens goes in; whether the listener can never carry the connection on comes out."""

from __future__ import annotations

from tcpwhy.causes._redirect import Redirect, is_a_proxy
from tcpwhy.causes._rules import NamedRule, all_rules

EXEMPTING = ("owner", "mark", "connmark", "cgroup", "set", "conntrack", "socket", "bpf")
"""Matches of iptables by which a proxy's own connections are told from those of other programs."""

EXEMPTING_NFT = ("skuid", "skgid", "meta mark", "ct mark", "cgroup", "socket", "@")
"""The same in nft's words."""


def is_a_stranger(redirect: Redirect) -> bool:
    """True where the host's own calls are turned to a listener whose own calls to that address would come back to itself.

    Such a listener is no proxy: whoever asks the address gets the answers of a program that it was never meant for. Meant so are an
    address of the link (a cloud's metadata service, answered by an agent of the host), an address of the host itself, and a service that
    is published on the same port for others (PREROUTING turns to the same listener).
    """
    if redirect.form != "OUTPUT" or not redirect.listeners or redirect.is_a_mesh_s or is_a_proxy(redirect):
        return False
    if redirect.packet.destination.is_link_local or redirect.packet.destination.is_loopback:
        return False
    addresses = redirect.host.addresses
    if addresses is None or str(redirect.packet.destination) in {one.ip for one in addresses.entries}:
        return False
    rules = all_rules(redirect.host)
    return not any(_exempts(rule, redirect) or _publishes(rule, redirect) for rule in rules)


def _exempts(rule: NamedRule, redirect: Redirect) -> bool:
    """A rule of the redirect's table that tells programs apart; which of them it meets need not be known."""
    if rule.iptables is not None:
        return rule.table == redirect.rule.table and any(name in EXEMPTING for name in rule.iptables.matches)
    return any(word in rule.text for word in EXEMPTING_NFT)


def _publishes(rule: NamedRule, redirect: Redirect) -> bool:
    """A rule, not of OUTPUT alone, that turns to the same port what comes from others."""
    if rule.source == redirect.rule.source and rule.text == redirect.rule.text:
        return False
    if rule.iptables is not None:
        ports = [value.rpartition(":")[2] for option in rule.iptables.target_options for value in option.values]
        return str(redirect.port) in ports
    return f":{redirect.port}" in rule.text and ("redirect" in rule.text or "dnat" in rule.text)
