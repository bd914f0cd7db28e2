"""A lab's world while it runs: a seed and options come in; hosts, links and captures come out, and are undone."""

from __future__ import annotations

import ipaddress
import json
import random
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .capture import Capture
from .host import Host, Interface, run_checked
from .options import Options
from .state import write_state

if TYPE_CHECKING:
    from .load import Load

#: Link MTUs that are met in practice: Ethernet three times, a tunnelled network, jumbo frames.
MTUS = (1500, 1500, 1500, 1450, 9000)


class World:
    """The hosts of one run. Everything that is made is pushed on `undo` in the moment it is made."""

    def __init__(
        self,
        *,
        options: Options,
        seed: int,
        fault: bool,
        form: str,
        case: Path,
        scratch: Path,
        undo: ExitStack,
        tag: str,
    ) -> None:
        self.options = options
        self.random = random.Random(seed)
        self.fault = fault
        self.form = form
        self.case = case
        self.scratch = scratch
        self.undo = undo
        self.tag = tag
        self.hosts: dict[str, Host] = {}
        self.loads: list[Load] = []
        self.notes: dict[str, object] = {}
        self.over = threading.Event()
        self.mtu = self.random.choice(MTUS)
        self.offload = self.random.random() < 0.6
        self._captures: list[Capture] = []
        self._subnets: set[str] = set()

    def host(self, name: str, *, vantage: bool = True, captured: bool = True, forwards: bool = False) -> Host:
        """A new host; `vantage` says whether evidence is taken there, `captured` whether packets are, `forwards` whether it routes."""
        host = Host(self, name, vantage=vantage, captured=captured)
        self.hosts[name] = host
        if forwards:
            host.sysctl("net.ipv4.ip_forward", 1)
            host.sysctl("net.ipv6.conf.all.forwarding", 1)
        return host

    def subnet(self, family: str = "") -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """A fresh network of an address family (`4` or `6`), of the one that was asked for where none is named."""
        while True:
            if (family or self.options.ip) == "6":
                unique = f"fd{self.random.randrange(256):02x}:{self.random.randrange(1, 65535):x}"  # RFC 4193
                prefix = self.random.choice([unique, "2001:db8"])
                text = f"{prefix}:{self.random.randrange(1, 65535):x}:{self.random.randrange(65535):x}::/64"
            else:
                text = self.random.choice(
                    [
                        f"10.{self.random.randrange(256)}.{self.random.randrange(256)}.0/24",
                        f"172.{self.random.randrange(16, 32)}.{self.random.randrange(256)}.0/24",
                        f"192.168.{self.random.randrange(256)}.0/24",
                        f"100.{self.random.randrange(64, 128)}.{self.random.randrange(256)}.0/24",
                    ]
                )
            if text not in self._subnets:
                self._subnets.add(text)
                return ipaddress.ip_network(text)

    def link(self, left: Host, right: Host) -> tuple[str, str]:
        """A cable between two hosts with one fresh network on it; returns both addresses.

        With the vlan option the addresses lie on a tagged interface, with vxlan on a tunnel over the cable.
        """
        ends = (left.new_interface(), right.new_interface())
        command = f"link add {ends[0]} netns {left.netns} type veth peer name {ends[1]} netns {right.netns}"
        run_checked(["ip", *command.split()])
        network = self.subnet()
        picks = self.random.sample(range(2, 250), 2)
        addresses = [str(network.network_address + pick) for pick in picks]
        underlay = [f"198.18.{len(self._subnets) % 250}.{pick}" for pick in picks]
        for number, (host, end) in enumerate(zip((left, right), ends, strict=True)):
            logical = self._set_up(host, end)
            if self.options.vxlan:
                host.ip(f"addr add {underlay[number]}/24 dev {logical}")
                vni = self.options.vxlan + len(self._subnets)  # one host's tunnels need different ones
                tunnel = f"vx{end.removeprefix('eth')}"
                host.ip(
                    f"link add {tunnel} type vxlan id {vni} local {underlay[number]}"
                    f" remote {underlay[1 - number]} dstport 4789 dev {logical}"
                )
                host.ip(f"link set {tunnel} up")
                logical = tunnel
            host.ip(f"addr add {addresses[number]}/{network.prefixlen} dev {logical}{self.nodad}")
            host.interfaces.append(Interface(end, logical, addresses[number], addresses[1 - number], network))
        return addresses[0], addresses[1]

    def lan(self, *hosts: Host, family: str = "") -> list[str]:
        """One fresh network for all these hosts, a switch between them; returns their addresses in this order.

        Each one's peer is the first host, whose own is the second. A tunnel needs a cable's two ends: with the vxlan
        option this raises ValueError. `family` is that of `subnet`.
        """
        if self.options.vxlan:
            raise ValueError("variant vxlan: a tunnel joins two hosts, and this scenario has a switch")
        number = len(self._subnets)
        switch = self.host(f"switch-{number}", vantage=False)
        switch.ip("link add br0 type bridge")
        switch.ip(f"link set br0 mtu {self.mtu} up")
        network = self.subnet(family)
        nodad = " nodad" if network.version == 6 else ""
        addresses = [str(network.network_address + pick) for pick in self.random.sample(range(2, 250), len(hosts))]
        for place, (host, address) in enumerate(zip(hosts, addresses, strict=True)):
            end = host.new_interface()
            run_checked(["ip", *f"link add port{place} netns {switch.netns} type veth peer name {end} netns {host.netns}".split()])
            switch.ip(f"link set port{place} mtu {self.mtu} master br0 up")
            logical = self._set_up(host, end)
            host.ip(f"addr add {address}/{network.prefixlen} dev {logical}{nodad}")
            host.interfaces.append(Interface(end, logical, address, addresses[0] if place else addresses[1], network))
        return addresses

    def _set_up(self, host: Host, end: str) -> str:
        """Brings one end of a cable up as the options say; returns the interface that is to bear addresses."""
        host.ip(f"link set {end} mtu {self.mtu} up")
        if not self.offload:
            host.run(["ethtool", "-K", end, "tso", "off", "gso", "off", "gro", "off"])
        if not self.options.vlan:
            return end
        logical = f"{end}.{self.options.vlan}"
        host.ip(f"link add link {end} name {logical} type vlan id {self.options.vlan}")
        host.ip(f"link set {logical} up")
        return logical

    @property
    def nodad(self) -> str:
        """The words that make an IPv6 address usable at once (no duplicate address detection)."""
        return " nodad" if self.options.ip == "6" else ""

    @property
    def full_length(self) -> int:
        """The prefix length of a single address."""
        return 128 if self.options.ip == "6" else 32

    def record(self) -> None:
        """Starts the captures on every vantage point, and returns when all of them listen."""
        if self.options.state == "both":
            self._take_state("state-before")
        fresh = [capture for host in self.hosts.values() if host.captured for capture in Capture.of_host(host, self.options)]
        for capture in fresh:
            self.undo.callback(capture.stop)
        self._captures += fresh
        for capture in fresh:
            capture.wait_until_listening()

    def stop_recording(self) -> None:
        """Ends the captures; packets that a capture lost are noted."""
        time.sleep(0.3)  # what is on its way reaches the captures
        for capture in self._captures:
            capture.stop()
        lost = {str(capture.path.relative_to(self.case)): capture.lost for capture in self._captures if capture.lost}
        if lost:
            self.notes["capture_lost"] = lost

    def finish(self) -> None:
        """Takes the state where it was asked for, ends captures and load, and writes down what the load met."""
        if self.options.state != "none":
            self._take_state("state")
        self.stop_recording()
        self.over.set()
        for load in self.loads:
            load.wait(15)
        outcomes = [outcome.as_dict() for load in self.loads for outcome in load.outcomes]
        (self.scratch / "outcomes.json").write_text(json.dumps(outcomes, indent=1))
        (self.scratch / "notes.json").write_text(json.dumps(self.notes, indent=1))

    def _take_state(self, folder: str) -> None:
        for host in self.hosts.values():
            if host.vantage:
                write_state(host, self.case / host.name / folder, full=self.options.state != "ss")

    def wait_for(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Waits until `condition` holds; raises TimeoutError naming `what` if it never does."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"{what} did not come within {seconds} s")
            time.sleep(0.02)


def kernel_release() -> str:
    """The release of the kernel this runs on."""
    return subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout.strip()
