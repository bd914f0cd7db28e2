"""One host of the lab, a network namespace: commands, programs and sockets go in, and run there."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from .world import World

CLONE_NEWNET = 0x40000000  # linux/sched.h
T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


class CommandFailed(RuntimeError):
    """A command of the lab ended with an error; the message holds what it said."""


@dataclass(frozen=True)
class Interface:
    """One end of a cable: the `port` that is captured, the `logical` interface that bears `address`."""

    port: str
    logical: str
    address: str
    peer: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network


def run_checked(command: Sequence[str]) -> str:
    """Runs a command and returns what it wrote; raises CommandFailed with its words."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise CommandFailed(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def enter(netns: str) -> None:
    """Moves the calling thread into a network namespace made by `ip netns add`."""
    descriptor = os.open(f"/run/netns/{netns}", os.O_RDONLY)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns into {netns}")
    finally:
        os.close(descriptor)


class Host:
    """A host, its interfaces in the order they were plugged in, and what runs on it."""

    def __init__(self, world: World, name: str, *, vantage: bool, captured: bool = True) -> None:
        self.world = world
        self.name = name
        self.vantage = vantage
        self.captured = vantage and captured
        self.netns = f"{world.tag}{name}"
        self.interfaces: list[Interface] = []
        self.taps: list[str] = []  # interfaces beside the cables that are captured too: lo, tunl0
        self.tables: dict[str, Callable[[], str]] = {}  # files of state/ that a program of the lab answers for, not the kernel
        self._ports = 0
        run_checked(["ip", "netns", "add", self.netns])
        world.undo.callback(run_checked, ["ip", "netns", "del", self.netns])
        self.ip("link set lo up")
        for family in ("all", "default"):
            self.sysctl(f"net.ipv4.conf.{family}.rp_filter", 0)
        self.sysctl("net.ipv6.conf.default.accept_dad", 0)

    @property
    def address(self) -> str:
        """The address of the first interface."""
        return self.interfaces[0].address

    @property
    def folder(self) -> Path:
        """The host's vantage point folder in the case (or in the scratch folder, if nothing is taken here)."""
        path = (self.world.case if self.vantage else self.world.scratch) / self.name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def scratch(self) -> Path:
        """A folder for what the host's programs need and the case does not; it goes with the world.

        It is short because a socket's path has 107 bytes at most (unix(7)).
        """
        path = Path("/run/lab") / self.netns
        path.mkdir(parents=True, exist_ok=True)
        return path

    def new_interface(self) -> str:
        """The name of the next interface."""
        self._ports += 1
        return f"eth{self._ports - 1}"

    def ip(self, words: str) -> str:
        """Runs `ip` in this host."""
        return run_checked(["ip", "-n", self.netns, *words.split()])

    def command(self, command: Sequence[str]) -> list[str]:
        """The command line that runs `command` in this host."""
        return ["nsenter", f"--net=/run/netns/{self.netns}", "--", *command]

    def run(self, command: Sequence[str]) -> str:
        """Runs a command here to its end and returns what it wrote."""
        return run_checked(self.command(command))

    def start(self, command: Sequence[str], *, output: Path | None = None, zone: str | None = None) -> subprocess.Popen[bytes]:
        """Starts a program here that is ended with the world; what it writes is appended to `output`."""
        environment = {**os.environ, "TZ": zone or self.world.options.zone}
        with (output or self.scratch / "output").open("ab") as sink:
            process = subprocess.Popen(self.command(command), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment)
        self.world.undo.callback(end_process, process)
        return process

    def inside(self, action: Callable[[], T]) -> T:
        """Runs a function in a thread of this host and returns what it returns."""
        result: list[T] = []
        failure: list[BaseException] = []

        def body() -> None:
            try:
                enter(self.netns)
                result.append(action())
            except BaseException as error:  # noqa: BLE001  handed to the caller's thread below
                failure.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return result[0]

    def sysctl(self, key: str, value: int | str) -> None:
        """Sets a sysctl of this host's network; a key that the kernel does not have raises FileNotFoundError."""
        path = Path("/proc/sys") / key.replace(".", "/")
        self.inside(lambda: path.write_text(f"{value}\n"))

    def read_sysctl(self, key: str) -> str | None:
        """The value of a sysctl of this host's network, None where the kernel has no such key."""
        path = Path("/proc/sys") / key.replace(".", "/")
        return self.inside(lambda: path.read_text().strip() if path.exists() else None)

    def iptables(self, words: str) -> None:
        """Runs iptables (ip6tables for IPv6) here: the nft form where the kernel has it, else the legacy form."""
        self.run([iptables_name(self.world.options.ip), "-w", *words.split()])

    def restore_iptables(self, rules: str) -> None:
        """Adds rules in the form of iptables-save (ip6tables-save for IPv6) to those that are there."""
        file = self.scratch / "rules.iptables"
        file.write_text(rules)
        self.run([f"{iptables_name(self.world.options.ip)}-restore", "--noflush", str(file)])

    def nft(self, rules: str) -> None:
        """Adds rules in nft's own words to those that are there."""
        file = self.scratch / "rules.nft"
        file.write_text(rules)
        self.run(["nft", "-f", str(file)])

    def default_route(self, via: str) -> None:
        """Sends everything that has no other route to `via`."""
        self.ip(f"{'-6 ' if ':' in via else ''}route replace default via {via}")

    def counter(self, name: str) -> int:
        """A counter of this host, by nstat's name."""
        for line in self.run(["nstat", "-asz"]).splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == name:
                return int(words[1])
        return 0


@cache
def iptables_flavour() -> str:
    """`nft` where iptables-nft works on this kernel, else `legacy`."""
    done = subprocess.run(["iptables-nft", "-w", "-S"], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    return "legacy" if done.returncode else "nft"


def iptables_name(family: str) -> str:
    """The iptables that works on this kernel, for `4` or `6`."""
    return f"ip{'6' if family == '6' else ''}tables-{iptables_flavour()}"


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Ends a program: asks first, kills after two seconds."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
