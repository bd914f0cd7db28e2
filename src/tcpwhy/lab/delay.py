"""A line that takes its time: a forwarding host and an interface come in; what arrives there is held for a while before it goes on."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import threading
import time
from collections import deque

from .host import Host

TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000  # linux/if_tun.h
TABLE = 77  # a routing table of its own; the number means nothing
LARGEST = 65_536  # bytes of an IP packet


def delay(host: Host, interface: str, seconds: float) -> None:
    """Holds every packet that `host` forwards from `interface` for `seconds`; it crosses the host twice, and loses two hops.

    Raises OSError where the kernel has no tun devices.
    """
    name = f"slow-{interface[-8:]}"
    device = host.inside(lambda: open_tun(name))
    host.world.undo.callback(os.close, device)
    host.ip(f"link set {name} mtu {host.world.mtu} txqueuelen 20000 up")  # a burst waits for the thread, and is not dropped
    for family in ("-4", "-6"):
        host.ip(f"{family} route add default dev {name} table {TABLE}")
        host.ip(f"{family} rule add iif {interface} lookup {TABLE}")
    stop = threading.Event()
    thread = threading.Thread(target=_hold, args=(device, seconds, stop), daemon=True)
    thread.start()
    host.world.undo.callback(thread.join, 2)
    host.world.undo.callback(stop.set)


def open_tun(name: str) -> int:
    """A tun device of the calling thread's network, as the file that its packets come from and go to."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def _hold(device: int, seconds: float, stop: threading.Event) -> None:
    held: deque[tuple[float, bytes]] = deque()
    while not stop.is_set():
        wait = min(0.2, max(0.0, held[0][0] - time.monotonic())) if held else 0.2
        if select.select([device], [], [], wait)[0]:
            held.append((time.monotonic() + seconds, os.read(device, LARGEST)))
        while held and held[0][0] <= time.monotonic():
            os.write(device, held.popleft()[1])
