"""A host's `ip -j addr` goes in; the addresses that are its own come out."""

from __future__ import annotations

import ipaddress
import json

from tcpwhy.evidence.state import State

FILE = "ip-addr.json"


def read_addresses(state: State) -> frozenset[str] | None:
    """All addresses of all interfaces, loopback's 127.0.0.0/8 and ::1 left out; None where the file was not collected.

    What is no JSON of `ip -j addr` gives an empty set: nothing is then said of the host's addresses.
    """
    lines = state.read_lines(FILE)
    if lines is None:
        return None
    try:
        links = json.loads("\n".join(lines) or "[]")
    except ValueError:
        return frozenset()
    found: set[str] = set()
    for link in links if isinstance(links, list) else []:
        infos = link.get("addr_info") if isinstance(link, dict) else None
        for info in infos if isinstance(infos, list) else []:
            local = info.get("local") if isinstance(info, dict) else None
            try:
                address = ipaddress.ip_address(str(local))
            except ValueError:
                continue
            if not address.is_loopback:
                found.add(str(address))
    return frozenset(found)
