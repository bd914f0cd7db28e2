"""A probe that the host itself sends goes in, and it is on its way: by a raw socket or by connect(2), as the user it names."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from tests.differential.configuration import Probe
from tests.differential.frames import Seen, build

SO_MARK = 36  # asm-generic/socket.h; Python's socket module names it from 3.14 on
IP_FREEBIND = 15  # linux/in.h: also an address that the host has not
IP_TRANSPARENT = 19  # linux/in.h
_libc = ctypes.CDLL(None, use_errno=True)


def packet_of(probe: Probe) -> Seen:
    """The packet that a probe is, as it sets out."""
    packet = Seen(
        probe.protocol,
        probe.source,
        probe.destination,
        probe.source_port,
        probe.destination_port,
        probe.flags,
        probe.sequence,
        probe.acknowledged,
        ttl=probe.ttl,
        dscp=probe.dscp,
    )
    if probe.tunnel is None:
        return packet
    return Seen("ipip", *probe.tunnel, sequence=probe.sequence, ttl=64, inside=packet)


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Sockets made inside belong to this user, with root's capability to make them (setfsuid(2); xt_owner.c looks at f_cred->fsuid)."""
    _libc.setfsuid(uid)
    try:
        yield
    finally:
        _libc.setfsuid(0)


@contextmanager
def sent_raw(probe: Probe) -> Iterator[str]:
    """Sends by a raw socket; gives the name of the error, empty without one. What netfilter drops is EPERM (netfilter/core.c)."""
    with as_user(probe.uid), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        sender.setsockopt(socket.SOL_SOCKET, SO_MARK, probe.mark)
        sender.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
        sender.setsockopt(socket.SOL_IP, socket.IP_TOS, probe.dscp << 2)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        error = ""
        try:
            sender.bind((probe.source, 0))  # a raw socket's route is asked for with the address that it is bound to (raw.c raw_sendmsg)
            sender.sendto(build(packet_of(probe)), (probe.destination, 0))
        except OSError as failure:
            error = errno.errorcode[failure.errno or 0]
        yield error


@contextmanager
def connecting(probe: Probe) -> Iterator[str]:
    """Begins connect(2) and breaks it off afterwards; gives the name of the error, empty where the kernel waits for an answer."""
    with as_user(probe.uid), socket.socket() as sender:
        sender.setsockopt(socket.SOL_SOCKET, SO_MARK, probe.mark)
        sender.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
        sender.setsockopt(socket.SOL_IP, socket.IP_TOS, probe.dscp << 2)
        sender.setsockopt(socket.SOL_IP, socket.IP_TTL, probe.ttl)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no FIN is sent again in a later probe's time
        sender.setblocking(False)
        error = ""
        try:
            sender.bind((probe.source, probe.source_port))
            sender.connect((probe.destination, probe.destination_port))
        except BlockingIOError:
            pass  # EINPROGRESS: the SYN was sent, or fell silently
        except OSError as failure:
            error = errno.errorcode[failure.errno or 0]
        yield error
