"""The host under test: a configuration goes into a fresh network namespace, probes into its kernel, and what the kernel did comes out."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tcpwhy.lab.host import CLONE_NEWNET, iptables_flavour, run_checked
from tests.differential.collecting import collect
from tests.differential.configuration import WIRES, Configuration, Probe
from tests.differential.counting import read_counters, rule_comments, rule_lines
from tests.differential.frames import ETHERTYPE_IPV4, TCP, UDP, Seen, build, decode
from tests.differential.observation import Left, Observation, peer_answer, recognise
from tests.differential.sending import IP_FREEBIND, IP_TRANSPARENT, connecting, packet_of, sent_raw

MAC = "02:00:00:00:00:{:02x}"
ETH_P_ALL = 3  # linux/if_ether.h
PACKET_OUTGOING = 4  # linux/if_packet.h
ARPHRD_ETHER, ARPHRD_LOOPBACK = 1, 772  # linux/if_arp.h; frames of other kinds begin with the IP header here
SETTLE_S = 0.02
"""Longest wait for what a probe does.

veth hands a frame to the other end's stack before send(2) returns, unless ksoftirqd has taken over."""
QUIET_S = 0.001
"""After something came, this long nothing more must come."""
TRANSPARENT_PORT = 15001
"""Who listens there may be handed packets by TPROXY."""
COUNTED_AGAIN = 2
"""Of each configuration."""
QUIET = {"icmp_ratelimit": 0, "icmp_ratemask": 0, "tcp_synack_retries": 0}
"""ICMP errors answer every packet (icmp(7)): a quota would hide what the kernel decided.

No SYN-ACK is sent again into a later probe's time."""


class HostUnderTest:
    """One configuration in a namespace of its own; its neighbours are the other ends of its cables, in the world's first namespace."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._undo = ExitStack()
        self._flavour = iptables_flavour()
        self._senders: dict[str, socket.socket] = {}
        self._counted_again = 0
        self._counted: tuple[dict[int, int], dict[str, int]] | None = None

    def __enter__(self) -> HostUnderTest:
        try:
            self._lay_cables()
            self._load()
            self._open_sockets()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def collect(self, folder: Path) -> None:
        """Writes the host's state; raises RuntimeError where a command fails."""
        has_sets, has_services = bool(self._configuration.ipset), bool(self._configuration.ipvs)
        collect(folder, has_nft=self._flavour == "nft", has_sets=has_sets, has_services=has_services)

    def observe(self, probe: Probe) -> Observation:
        """Sends one probe and tells what became of it.

        Which rules counted it is told on kernels with nft. Where the legacy variant is all there is (User Mode Linux), counters take
        a third of a second to read: there a probe of which nothing was seen is sent again between two readings, COUNTED_AGAIN times.
        """
        with ExitStack() as sending:
            observation = self._observe(probe, sending)
            answer = peer_answer(probe, observation)
            if answer is not None:  # while a socket of connect(2) still waits for it
                with ExitStack() as answering:
                    observation.answered = self._observe(answer, answering)
            return observation

    def _observe(self, probe: Probe, sending: ExitStack) -> Observation:
        is_quick = self._flavour == "nft"
        before = (self._counted or self._rule_counters()) if is_quick else None
        observation = self._send(probe, sending)
        is_silent = not (observation.left or observation.answers or observation.delivered or observation.error)
        if is_silent:
            observation.must_answer = has_route(probe.source) and self._configuration.sysctls.get("conf/all/send_redirects") == 0
            if not is_quick and not observation.counters and probe.way != "connect" and self._counted_again < COUNTED_AGAIN:
                self._counted_again += 1
                before = self._rule_counters()
                observation = dataclasses.replace(self._send(probe, sending), must_answer=observation.must_answer)
        if before is not None:
            lines, comments = after = self._rule_counters()
            observation.risen = [number for number, count in lines.items() if count > before[0].get(number, 0)]
            observation.risen_nft = [name for name, count in comments.items() if count > before[1].get(name, 0)]
            self._counted = after if probe.way != "connect" else None  # a socket that is closed sends RST
        return observation

    def _send(self, probe: Probe, sending: ExitStack) -> Observation:
        self._drain([], [])
        counters = read_counters()
        error = ""
        if probe.way == "wire":
            self._send_frame(probe)
        else:
            error = sending.enter_context((sent_raw if probe.way == "raw" else connecting)(probe))
        return self._gather(probe, error, counters)

    def _lay_cables(self) -> None:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._undo.callback(os.close, home)
        run_checked(["ip", "netns", "add", "host"])
        self._undo.callback(run_checked, ["ip", "netns", "del", "host"])
        cables = []
        for number, name in enumerate(WIRES):
            near, far = f"{name} address {MAC.format(number)} netns host", f"{self._far_end(number)} address {MAC.format(16 + number)}"
            cables += [f"link add {far} type veth peer name {near}", f"link set {self._far_end(number)} up"]
        run_batch(cables)
        for number, name in enumerate(WIRES):
            sender = self._undo.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
            sender.bind((self._far_end(number), 0))
            self._senders[name] = sender
        host = os.open("/run/netns/host", os.O_RDONLY)
        try:
            set_namespace(host)
        finally:
            os.close(host)
        self._undo.callback(set_namespace, home)

    def _far_end(self, number: int) -> str:
        """The namespace of the configuration before is still being taken down (net_namespace.c cleanup_net), with its cables."""
        return f"far{self._configuration.seed % 10**8}-{number}"

    def _load(self) -> None:
        for key, value in QUIET.items():
            write_sysctl(key, value)
        # without ARP a neighbour is known as soon as it is asked for (arp.c arp_constructor), so that ARP decides nothing
        run_batch(["link set lo up", *(f"link set {name} arp off up" for name in WIRES), *self._configuration.ip])
        for key, value in self._configuration.sysctls.items():
            write_sysctl(key, value)
        if self._configuration.ipset:
            run_with_input(["ipset", "restore"], self._configuration.ipset)
        if self._configuration.ipvs:
            run_with_input(["ipvsadm", "-R"], self._configuration.ipvs)
        if self._configuration.iptables:
            run_with_input([f"iptables-{self._flavour}-restore"], self._configuration.iptables)
        if self._configuration.nft:
            run_with_input(["nft", "-f", "-"], self._configuration.nft)

    def _open_sockets(self) -> None:
        for address, port in self._configuration.listeners:
            listener = self._undo.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
            if port == TRANSPARENT_PORT:
                listener.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
            listener.bind((address, port))
            listener.listen(1000)
        self._watch = self._undo.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)))
        self._taps = [self._undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, number)) for number in (TCP, UDP)]
        for one in (self._watch, *self._taps):
            one.setblocking(False)

    def _send_frame(self, probe: Probe) -> None:
        number = WIRES.index(probe.interface)
        macs = b"".join(bytes.fromhex(MAC.format(end).replace(":", "")) for end in (number, 16 + number))
        self._senders[probe.interface].send(macs + ETHERTYPE_IPV4 + build(packet_of(probe)))

    def _rule_counters(self) -> tuple[dict[int, int], dict[str, int]]:
        lines = rule_lines(self._flavour) if self._configuration.iptables else {}
        return lines, rule_comments() if self._configuration.nft else {}

    def _gather(self, probe: Probe, error: str, before: dict[str, int]) -> Observation:
        """Waits until all is still, SETTLE_S where nothing is seen, and tells the probe's traces."""
        end = time.monotonic() + SETTLE_S
        outgoing: list[Left] = []
        delivered: list[Seen] = []
        while True:
            came = self._drain(outgoing, delivered)
            risen = {name: count - before[name] for name, count in read_counters().items() if count > before[name]}
            observation = recognise(probe, outgoing, delivered)
            is_seen = bool(observation.left or observation.answers or error or risen.keys() - {"IpInDelivers"})
            if not came and (is_seen or time.monotonic() > end):
                observation.counters, observation.error = risen, error
                return observation
            select.select([self._watch, *self._taps], [], [], QUIET_S)

    def _drain(self, outgoing: list[Left], delivered: list[Seen]) -> bool:
        """Reads what has come; False where nothing did."""
        came = False
        for tap in self._taps:
            for data, _ in received(tap):
                came = True
                packet = decode(data)
                if packet is not None:
                    delivered.append(packet)
        for data, (interface, _, direction, kind, _) in received(self._watch):
            came = True
            packet = decode(data[14:] if kind in (ARPHRD_ETHER, ARPHRD_LOOPBACK) else data)
            if direction == PACKET_OUTGOING and packet is not None:
                outgoing.append(Left(interface, packet))
        return came


def received(tap: socket.socket) -> Iterator[tuple[bytes, Any]]:
    """All that waits in a non-blocking socket."""
    while True:
        try:
            yield tap.recvfrom(65535)
        except BlockingIOError:
            return


def set_namespace(descriptor: int) -> None:
    """Moves this thread into a network namespace; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def has_route(address: str) -> bool:
    """Whether this host can send to an address: connect(2) of UDP asks for the route and sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        try:
            asking.connect((address, 9))
        except OSError:
            return False
        return True


def write_sysctl(key: str, value: int) -> None:
    """Sets a key below net.ipv4, with slashes."""
    Path("/proc/sys/net/ipv4", key).write_text(f"{value}\n")


def run_with_input(command: Sequence[str], text: str) -> None:
    """Runs a command; raises RuntimeError with its words, and with what it was given."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{text}")


def run_batch(lines: Iterable[str]) -> None:
    """Runs lines of `ip`."""
    run_with_input(["ip", "-batch", "-"], "".join(f"{line}\n" for line in lines))
