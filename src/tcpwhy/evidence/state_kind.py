"""The first bytes of a text go in; which table of a host's connections it is, by its content, comes out."""

from __future__ import annotations

import re

LINES = 12
"""Lines looked at: a heading may stand before the table's own lines."""

_SIGNS = (
    ("haproxy-sessions.txt", re.compile(rb"0x[0-9a-f]+: (?:\[\d\d/[A-Z][a-z]{2}/\d{4}:|proto=|id=)")),
    ("proc-net-ip_vs_conn.txt", re.compile(rb"Pro FromIP +FPrt ToIP +TPrt ")),
    ("ipvsadm-connections.txt", re.compile(rb"IPVS connection entries\b")),
    (
        "ipvsadm-connections.txt",
        re.compile(rb"(?:\[\d{1,3}\](?:tcp|udp) +\d+s|(?:TCP|UDP|tcp) +\d+(?::\d\d|s)) +[A-Z_]+ +\S+:\d+ +\S+:\d+ +\S+:\d+"),
    ),
    ("conntrack.txt", re.compile(rb"(?:ipv[46] +\d+ +)?[a-z0-9]+ +\d+ +(?:\d+ +)?(?:[A-Z_]+ +)?src=\S+ dst=\S+ ")),
    ("proc-net-ip_vs.txt", re.compile(rb"(?:TCP|UDP) +[0-9A-F]{8}:[0-9A-F]{4} +[a-z]+")),
    ("ipvsadm-rules.txt", re.compile(rb"(?:TCP|UDP|FWM) +\S+ +[a-z]+\b.*|-A -[tuf] \S+ -s \w+")),
)
"""The name in state/, and how a line of it begins. HAProxy doc/management.txt `show sess`; Linux net/netfilter/ipvs/ip_vs_conn.c
ip_vs_conn_seq_show() and ip_vs_ctl.c ip_vs_info_seq_show(); ipvsadm.c print_conn() and print_service_entry(), of DPVS too;
libnetfilter_conntrack snprintf_default.c."""

_HEADING = re.compile(rb"IP Virtual Server version |Prot LocalAddress:Port |  ?-> RemoteAddress:Port |pro expire state ")


def state_name_of(head: bytes) -> str | None:
    """The name that the table has in a state/ folder (STATE_FILES), or None where the text is none of them.

    Every line looked at must be of one table or a heading, the last one apart, which may be cut: a log that quotes a line of a table
    stays a log.
    """
    lines = [line for line in head.lstrip(b"\xef\xbb\xbf").split(b"\n")[:LINES] if line.strip()]
    if not lines:
        return None
    headed = _HEADING.match(lines[0]) is not None
    for name, sign in _SIGNS:
        if name == "ipvsadm-rules.txt" and not headed and not lines[0].startswith(b"-A"):
            continue
        body = [line for line in lines if not _HEADING.match(line)]
        if body and sign.match(body[0]) and (name == "haproxy-sessions.txt" or all(_same(name, sign, line) for line in body[1:-1])):
            return name
    return None


def _same(name: str, sign: re.Pattern[bytes], line: bytes) -> bool:
    if sign.match(line):
        return True
    if name in ("proc-net-ip_vs_conn.txt", "ipvsadm-connections.txt"):
        return line[:3].upper() in (b"TCP", b"UDP", b"IP ") or line[:1] == b"["
    return name in ("proc-net-ip_vs.txt", "ipvsadm-rules.txt") and line.startswith((b"  ->", b"-a ", b"-A "))
