"""A link loses packets of any size: a few per cent all the time, all of them for some seconds, or most of one direction's."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from ..firewall import Attempt, Row, attempts, build
from ..load import Load
from ..scenario import Scenario, Truth
from ..view import CaseView, Packet
from ..world import World

RATE, PACKETS = 0.01, 500  # from which the contract makes a link's loss a finding
LONG = 3_000_000_000  # ns; what the contract calls held up


def story(world: World) -> None:
    """Forms: `few` (netem, both directions), `gap` (nothing passes for some seconds), `most` (most packets of one direction)."""
    row = build(world, firewall_seen=world.random.random() < 0.5)
    world.record()
    load = Load(world, row.client, row.address, row.port)
    if world.form == "few":
        _a_few(world, row, load)
    elif world.form == "gap":
        _a_gap(world, row, load)
    else:
        _most(world, row, load)


def _a_few(world: World, row: Row, load: Load) -> None:
    loss = world.random.choice([3, 5, 8])
    load.mixed(8, 0.8)
    time.sleep(1.2)  # each capture holds packets before the first that is lost: it surely ran
    if world.fault:
        for interface in row.firewall.interfaces:
            row.firewall.run(f"tc qdisc add dev {interface.port} root netem loss {loss}%".split())
    load.mixed(60, 4)
    for _ in range(4):
        load.slow_upload(pieces=30, interval=0.1)
    time.sleep(5)
    if world.fault:
        for interface in row.firewall.interfaces:
            row.firewall.run(f"tc qdisc del dev {interface.port} root".split())
    time.sleep(4)


def _a_gap(world: World, row: Row, load: Load) -> None:
    """Traffic that is in full flow meets a gap of 3.6 s: repetitions 0.2, 0.6, 1.4 and 3.0 s later fall into it, 6.2 s later not."""
    load.mixed(40, 1)
    for _ in range(5):
        load.slow_upload(pieces=30, interval=0.1)
        load.slow_download()
    time.sleep(2)
    rules = [f"FORWARD -p tcp {side} {row.port} -j DROP" for side in ("--sport", "--dport")]
    rules = world.random.choice([rules, rules[:1], rules[1:]])
    for rule in rules if world.fault else []:
        row.firewall.iptables(f"-A {rule}")
    time.sleep(3.6)
    for rule in rules if world.fault else []:
        row.firewall.iptables(f"-D {rule}")
    load.mixed(40, 2)
    time.sleep(6)


def _most(world: World, row: Row, load: Load) -> None:
    """Seven of ten packets in one direction are lost, SYNs apart; programs wait for four seconds."""
    side = world.random.choice(["--sport", "--dport"])
    load.mixed(40, 1)
    time.sleep(2)
    rule = f"FORWARD -p tcp {side} {row.port} --tcp-flags SYN NONE -m statistic --mode random --probability 0.7 -j DROP"
    if world.fault:
        row.firewall.iptables(f"-A {rule}")
    for _ in range(8):
        load.talk("upload", lambda talk: talk.ask("POST", "/upload", world.random.randbytes(30_000)), after=0.1, timeout=4.0)
        load.talk("download", lambda talk: talk.ask("GET", "/files/20k"), after=0.2, timeout=4.0)
    time.sleep(8)
    if world.fault:
        row.firewall.iptables(f"-D {rule}")
    time.sleep(1)


@dataclass
class Loss:
    """What was lost of one connection, by direction, and how long its data was held up at most, ns."""

    lost: Counter[str]
    held_ns: int


def check(view: CaseView) -> Truth:
    """Of which connections packets are missing behind the link; of each when the link lost enough, else of those that it held up."""
    tried = attempts(view, view.note("service"))
    losses = [_loss(one) for one in tried]
    total = Counter[str]()
    for one in tried:
        total["client"] += len(_once(one, "client", one.client))
        total["server"] += len(_once(one, "server", one.server))
    lost = {side: sum(loss.lost[side] for loss in losses) for side in ("client", "server")}
    if not view.fault:
        view.require_healthy_outcomes()
        view.require(not sum(lost.values()), "packets were lost without a fault")
        return Truth(healthy_connections=len(tried))
    rates = {side: lost[side] / max(1, total[side]) for side in lost}
    overall = sum(lost.values()) / sum(total.values())
    view.require(min(total.values()) >= PACKETS, f"{total} packets are too few")
    near = [rate for rate in (*rates.values(), overall) if RATE * 0.6 <= rate < RATE * 1.5]
    view.require(not near, f"{lost} of {total} packets lie too near to the limit")
    many = overall >= RATE or max(rates.values()) >= RATE
    failed = [one for one, loss in zip(tried, losses, strict=True) if loss.held_ns >= LONG or (many and loss.lost.total())]
    given_up = {str(outcome["client"]) for outcome in view.outcomes if outcome["error"] is not None}
    soon = {id(one) for one, loss in zip(tried, losses, strict=True) if loss.held_ns < 0.8 * LONG and one.client not in given_up}
    edge = [
        one for one, loss in zip(tried, losses, strict=True) if one not in failed and (loss.held_ns >= 0.8 * LONG or (many and _twins(one)))
    ]
    view.require(len(failed) >= 4, f"{len(failed)} connections were hit")
    if view.form == "few":
        view.require_healthy_outcomes()
    return Truth(
        [one.failed("packet-loss", made_good=id(one) in soon) for one in failed],
        tolerated=[f"{one.client}-{one.server}" for one in edge],
        healthy_connections=len(tried) - len(failed),
        confidence="confirmed",
        notes=[
            f"lost of the client's packets {lost['client']} of {total['client']}, of the server's {lost['server']} of {total['server']}"
        ],
    )


def _once(one: Attempt, place: str, source: str) -> list[Packet]:
    """What an end sent, as a place saw it, without the copies that a capture makes."""
    kept = {(p.sequence, p.acknowledgement, p.length, p.flags, p.timestamp, p.identification): p for p in one.packets.get(place, [])
            if p.source == source}  # fmt: skip
    return sorted(kept.values(), key=lambda packet: packet.time_ns)


def _twins(one: Attempt) -> bool:
    """Whether a packet and its repetition, without IP ID and within one tick of the timestamp, cannot be told apart."""
    for packets in one.packets.values():
        names = Counter((p.source, p.sequence, p.length, p.flags, p.timestamp) for p in packets if p.length and not p.identification)
        if any(count > 1 for count in names.values()):
            return True
    return False


def _loss(one: Attempt) -> Loss:
    lost: Counter[str] = Counter()
    held = 0
    for place, source, beyond in (("client", one.client, "server"), ("server", one.server, "client")):
        sent, arrived = _once(one, place, source), _once(one, beyond, source)
        last_ns = max(packet.time_ns for packet in one.packets[place]) if one.packets.get(place) else 0
        answers = [p for p in one.packets.get(place, []) if p.source != source]
        lost[place] = sum(not _arrived(packet, arrived) for packet in sent)
        for packet in sent:
            if packet.length:
                end = packet.sequence + packet.length
                acked = (p.time_ns for p in answers if p.time_ns >= packet.time_ns and (p.acknowledgement - end) % 2**32 < 2**31)
                held = max(held, min(acked, default=last_ns) - packet.time_ns)
    return Loss(lost, held)


def _arrived(packet: Packet, arrived: list[Packet]) -> bool:
    """Whether a packet, or a part of it where offload cut it, is among those that arrived."""
    for other in arrived:
        if other.timestamp != packet.timestamp:
            continue
        apart = (other.sequence - packet.sequence + 2**31) % 2**32 - 2**31
        if apart == 0 and other.length == packet.length:
            same = (other.acknowledgement, other.flags, other.identification)
            if same == (packet.acknowledgement, packet.flags, packet.identification):
                return True
        elif packet.length and -other.length < apart < packet.length:
            return True
    return False


SCENARIOS = tuple(
    Scenario(
        name=name,
        title=title,
        story=story,
        check=check,
        cause="packet-loss",
        needs=needs,
        form=form,
    )
    for name, title, form, needs in (
        ("packet-loss", "a link loses some packets in a hundred, both ways; all is made good", "few", frozenset({"netem"})),
        ("packet-loss-gap", "nothing passes a link for some seconds, in the midst of transfers", "gap", frozenset({"iptables"})),
        ("packet-loss-most", "a link loses most packets of one direction, and programs give up", "most", frozenset({"iptables"})),
    )
)
