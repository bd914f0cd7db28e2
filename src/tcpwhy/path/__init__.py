"""One packet's way through one host's state, in the kernel's order: tables of a host and a packet go in, a walk comes out."""

from tcpwhy.path.changes import unlisted_settings, with_changes
from tcpwhy.path.describing import parse_packet
from tcpwhy.path.packet import Packet, describe_packet
from tcpwhy.path.trace import Doubt, Fate, Stage, Step, Trace, Walk
from tcpwhy.path.walk import walk

__all__ = [
    "Doubt",
    "Fate",
    "Packet",
    "Stage",
    "Step",
    "Trace",
    "Walk",
    "describe_packet",
    "parse_packet",
    "unlisted_settings",
    "walk",
    "with_changes",
]
