"""`ipvsadm -S -n`, `ipvsadm -L -n`, `ipvsadm -L -n -c` (stock, Alibaba, DPVS) or /proc/net/ip_vs and ip_vs_conn go in; services come out.

With them their real servers, and the connections of the director.
"""

from __future__ import annotations

from tcpwhy.evidence.state import State
from tcpwhy.tables.director import BalancedConnection, Ipvs, RealServer, VirtualService
from tcpwhy.tables.ipvs_connections import is_misprinted, parse_connections, parse_proc_connections
from tcpwhy.tables.ipvs_services import parse_services

__all__ = ["BalancedConnection", "Ipvs", "RealServer", "VirtualService", "read_ipvs"]


def read_ipvs(state: State) -> Ipvs | None:
    """The director's tables; None where none was collected.

    What ipvsadm wrote is taken before what /proc shows, but for connections that Alibaba's ipvsadm misprints:
    those are taken from /proc where it is there.
    """
    table = Ipvs()
    for name, is_hexadecimal in (("ipvsadm-rules.txt", False), ("proc-net-ip_vs.txt", True)):
        lines = state.read_lines(name)
        if lines is not None:
            table.services = parse_services(lines, state.source(name), table.unread, is_hexadecimal=is_hexadecimal)
            break
    printed = state.read_lines("ipvsadm-connections.txt")
    proc = state.read_lines("proc-net-ip_vs_conn.txt")
    if printed is not None and not (proc is not None and is_misprinted(printed)):
        table.connections = parse_connections(printed, state.source("ipvsadm-connections.txt"), table.unread)
    elif proc is not None:
        table.connections = parse_proc_connections(proc, state.source("proc-net-ip_vs_conn.txt"), table.unread)
    return None if table.services is None and table.connections is None else table
