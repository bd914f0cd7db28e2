"""What tcpdump prints of a packet goes in, a row comes out: its present form and the one before 4.1, with any of -n -v -S -e -t -X."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from tcpwhy.evidence.pasted import Section
from tcpwhy.tables.listings._numbers import Known, Numbering, TcpdumpNumbering
from tcpwhy.tables.listings._row import Claim, Error, Head, Row, Segment, Stamp, TunnelKind, Unreadable
from tcpwhy.tables.listings._stamps import TIME, read_stamp
from tcpwhy.tables.listings._text import Record
from tcpwhy.tables.listings._words import FLAG_BITS, address, end, port, tcpdump_options

_MAC = r"(?:[0-9a-fA-F]{1,2}(?::[0-9a-fA-F]{1,2}){5}|Broadcast)"
_BODY = rf"(?:IP6?\s|ARP[,\s]|arp\s|{_MAC}\s|ifindex\s|(?:In|Out|B|M|P)\s+(?:ifindex|IP6?|{_MAC})\s)"
_FACE = r"(?:(?P<interface>[\w.@:?+-]{1,40})\s+(?P<way>In|Out|B|M|P)\s+)?"
TIMED = re.compile(rf"^\s*(?:\d{{1,12}}\s+)?(?:{TIME})\s+{_FACE}(?={_BODY})")
BARE = re.compile(rf"^\s*(?:\d{{1,12}}\s+)?{_FACE}(?={_BODY})")
ENDS = re.compile(
    r"^\s*(?:\d+ packets? (?:captured|received|dropped)|```|~~~|tcpdump: |\S*listening on |reading from file"
    r"|\[?[\w.-]+@[\w.-]+[: ].*[#$] ?)"
)

_LINK = re.compile(
    rf"(?:(?P<source>{_MAC})(?: \(oui [^)]*\))? > (?P<destination>{_MAC})(?: \(oui [^)]*\))?, "
    rf"|(?:(?P<way>In|Out|B|M|P)\s+)?(?:ifindex \d+ )?(?P<cooked>{_MAC}),? )"
    r"(?:802\.1Q, )?(?:ethertype (?P<type>[\w.]+(?:-[\w.]+)?)[^,]*, )?length (?P<length>\d+): "
    r"(?P<tags>(?:vlan \d+, p \d+,(?: DEI,)?(?: ethertype [^,]*,)? ?)*)"
)
_INFO = re.compile(r"\s*\((?P<info>(?:tos|class|flowlabel|hlim)\b(?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)\s*")
_ENDS_OF = re.compile(r"\s*(?P<source>[^\s>,]{1,260}) > (?P<destination>[^\s>,]{1,260}):(?:\s|$)")
_TCP = re.compile(
    r"(?:\[[^\]]*\] )?Flags \[(?P<flags>[^\]]{0,12})\](?:, cksum 0x[0-9a-f]+ \([^)]*\))?"
    r"(?:, seq (?P<seq>\d{1,10})(?::(?P<end>\d{1,10}))?)?"
    r"(?:, ack (?P<ack>\d{1,10}))?(?:, win (?P<window>\d{1,10}))?(?:, urg \d+)?(?:, options \[(?P<options>.{0,1500}?)\])?"
    r",? length (?P<length>\d{1,6})"
    r"(?P<more>:? .*|:)?$",
    re.S,
)
_OLD_TCP = re.compile(
    r"(?P<flags>[SFPRUEW.]{1,8})(?: \[[^\]]*\])?(?:, cksum 0x[0-9a-f]+ \([^)]*\),)?"
    r"(?: (?P<seq>\d{1,10}):(?P<end>\d{1,10})\((?P<length>\d{1,6})\))?"
    r"(?: ack (?P<ack>\d{1,10}))?(?: win (?P<window>\d{1,10}))?(?: urg \d+)?(?: <(?P<options>[^>]{0,400})>)?(?= |$)"
)
_TUNNELS: tuple[tuple[TunnelKind, re.Pattern[str]], ...] = (
    ("vxlan", re.compile(r"VXLAN, flags \[[^\]]*\] \(0x[0-9a-f]+\), vni (?P<network>\d+)[:,]?\s+")),
    ("vxlan", re.compile(r"OTV, flags \[[^\]]*\] \(0x[0-9a-f]+\), overlay \d+, instance (?P<network>\d+)\s+")),
    ("geneve", re.compile(r"Geneve, Flags \[[^\]]*\](?: \(0x[0-9a-f]+\))?, vni (?P<network>0x[0-9a-f]+|\d+)[^:]{0,200}:\s+")),
    ("gre", re.compile(r"(?:gre-proto-\S+|GREv0)[^:]{0,120}?length \d+:?\s+(?P<network>)")),
    ("ipip", re.compile(r"(?=IP6?\s|\((?:tos|class|flowlabel|hlim)\b)(?P<network>)")),
)
_UNREACHABLE = re.compile(
    r"ICMP (?:(?P<what>host|net) )?(?P<about>[^\s,]+)(?: (?P<protocol>tcp|udp) port (?P<port>\S+?)| protocol \S+)? unreachable"
    r"(?P<why> - [^,(]+)?(?: ?\(mtu (?P<mtu>\d{1,5})\))?"
)
_CODES = {"need to frag": 4, "source route failed": 5, "unknown": 7, "isolated": 8, "admin prohibited": 10, "tos prohibited": 12,
          "admin prohibited filter": 13, "host precedence violation": 14, "precedence cutoff": 15}  # fmt: skip
"""What print-icmp.c says behind `host X unreachable - `;
for a net the codes 6, 9 and 11 stand for 7, 10 and 12 (RFC 1812 section 5.2.7.1)."""

_UNREACHABLE_6 = re.compile(
    r"ICMP6, destination unreachable, (?:unreachable )?(?P<what>route|prohibited|beyond scope|address|port,?)"
    r" (?P<about>[0-9a-fA-F:.]+)(?: tcp port (?P<port>\S+?))?(?:,|$| )"
)
_CODES_6 = {"route": 0, "prohibited": 1, "beyond scope": 2, "address": 3, "port": 4}
_TOO_BIG_6 = re.compile(r"ICMP6, packet too big, mtu (?P<mtu>\d{1,6})")
_EXCEEDED = re.compile(r"ICMP6?,? time exceeded in-transit(?: for (?P<about>[0-9a-fA-F:.]+))?")
_ARP = re.compile(rf"(?:ARP|arp|Ethernet \(len 6\))?,?\s*(?:Ethernet \(len 6\), )?(?:IPv4 \(len 4\), )?"
                  r"(?P<what>Reply|reply|Request|Announcement) "
                  rf"(?P<ip>[\d.]+)(?: is-at (?P<mac>{_MAC})| ?(?:who-has)?)")  # fmt: skip
_ASKS = re.compile(r"Request who-has (?P<target>[\d.]+)(?: \([^)]*\))? tell (?P<ip>[\d.]+)")


class Dialect:
    """One listing of tcpdump."""

    name = "tcpdump"
    ends = ENDS

    def __init__(self, begins: re.Pattern[str]) -> None:
        """`begins`: TIMED, or BARE where -t left the times out."""
        self.begins = begins

    def numbering(self, section: Section, known: Known) -> Numbering:
        """How it counts sequence numbers."""
        return TcpdumpNumbering(is_whole_head=section.is_whole_head, command=section.command, known=known)

    def read(self, record: Record) -> Row | None:
        """A record's packet; None for one that is neither TCP nor tells of it. Raises Unreadable."""
        try:
            return self._read(record, record.text)
        except Unreadable:
            if len(record.lines) == 1:
                raise
            # A line that was wrapped in the middle of a word; but the parts of -v stand on lines of their own.
            return self._read(record, "".join(record.lines))

    def _read(self, record: Record, text: str) -> Row | None:
        begin = self.begins.match(text)
        if begin is None:
            raise Unreadable("no packet")
        stamp = read_stamp(begin) if self.begins is TIMED else Stamp("none")
        row = Row(record.line, stamp, interface=begin["interface"] or "", raw=bytes(record.dump))
        row.direction = _way(begin["way"])
        at = begin.end()
        link = _LINK.match(text, at)
        if link is not None:
            at = link.end()
            row.frame_length = int(link["length"][:9])
            if link["source"] and link["destination"]:
                row.macs = (_mac(link["source"]), _mac(link["destination"]))
            elif link["cooked"]:
                row.macs = (_mac(link["cooked"]), bytes(6))
            row.direction = row.direction or _way(link["way"])
            tags = re.findall(r"vlan (\d{1,4})", link["tags"])
            row.vlan = int(tags[0]) & 0xFFF if tags else 0
        elif row.direction == "" and (plain := re.compile(r"(In|Out|B|M|P)\s+(?=IP)").match(text, at)):
            row.direction, at = _way(plain[1]), plain.end()
        if text.startswith(("ARP", "arp"), at) or (link is not None and link["type"] == "ARP"):
            row.claim = _claim(text[at : at + 400], row)
            return row if row.claim is not None else None
        if not _headers(text, at, row, 0):
            return None
        return row


def recognise(lines: Sequence[str]) -> Dialect | None:
    """The dialect of a section that begins with these lines; None where no packet of tcpdump is among them."""
    for begins in (TIMED, BARE):
        if any(begins.match(line) for line in lines):
            return Dialect(begins)
    return None


def _way(word: str | None) -> Literal["", "in", "out"]:
    """Tcpdump's word for a cooked packet's type (print-sll.c); one for others is not on its way in or out of this host."""
    return "out" if word == "Out" else "in" if word in ("In", "B", "M") else ""


def _mac(text: str) -> bytes:
    return b"\xff" * 6 if text == "Broadcast" else bytes(int(part, 16) for part in text.split(":"))


def _headers(text: str, at: int, row: Row, depth: int) -> bool:
    """Reads the headers from `at` on into the row; False where they carry no TCP and tell of none."""
    if depth > 4:
        raise Unreadable("tunnels within tunnels")
    inner_link = _LINK.match(text, at)
    if depth and inner_link is not None:
        at = inner_link.end()
    if named := re.compile(r"\s*IP6? ?").match(text, at):
        at = named.end()
    info = _INFO.match(text, at)
    if info is not None:
        at = info.end()
    ends = _ENDS_OF.match(text, at)
    if ends is None:
        raise Unreadable("no addresses")
    head = _head(info["info"] if info is not None else None)
    at = ends.end()
    tcp = _tcp(text, at)
    if tcp is not None:
        head.source, source_port = end(ends["source"])
        head.destination, destination_port = end(ends["destination"])
        row.heads.append(head)
        row.segment = _segment(tcp, source_port, destination_port)
        row.payload = _carried(tcp["more"]) if "more" in tcp.re.groupindex and row.segment.length else b""
        return True
    if text.startswith("ICMP", at):
        head.source, head.destination = address(ends["source"]), address(ends["destination"])
        row.heads.append(head)
        row.error = _error(text[at:], row, depth)
        return row.error is not None
    for kind, pattern in _TUNNELS:
        if tunnel := pattern.match(text, at):
            head.carries = kind
            head.network = int(tunnel["network"], 0) & 0xFFFFFF if tunnel["network"] else 0
            if kind in ("vxlan", "geneve"):
                (head.source, one), (head.destination, other) = end(ends["source"]), end(ends["destination"])
                head.ports = (one, other)
            else:
                head.source, head.destination = address(ends["source"]), address(ends["destination"])
            row.heads.append(head)
            if not re.compile(rf"\s*(?:IP6?\s|\(|{_MAC}|[\w.:-]+ > )").match(text, tunnel.end()):
                return False
            return _headers(text, tunnel.end(), row, depth + 1)
    if "Flags [" in text[at : at + 40] and "|tcp" not in text[at : at + 60]:
        raise Unreadable("a TCP header that ends early")
    return False


def _head(info: str | None) -> Head:
    head = Head("", "")
    if info is None:
        return head
    found = dict(re.findall(r"\b(ttl|id|offset|hlim) (\d{1,5})", info))
    head.ttl = min(int(found.get("ttl") or found.get("hlim") or 0), 255) or None
    if "id" in found:
        head.ip_id = int(found["id"]) & 0xFFFF
    head.offset = int(found.get("offset", 0))
    flags = re.search(r"flags \[([^\]]*)\]", info)
    head.dont_fragment = flags is not None and "DF" in flags[1]
    head.more_fragments = flags is not None and "+" in flags[1]
    return head


def _tcp(text: str, at: int) -> re.Match[str] | None:
    if text.startswith(("Flags [", "["), at):
        return _TCP.match(text, at)
    old = _OLD_TCP.match(text, at)
    return old if old is not None and (old["seq"] is not None or old["ack"] is not None) else None


def _segment(tcp: re.Match[str], source_port: int, destination_port: int) -> Segment:
    flags = 0
    for letter in tcp["flags"] if tcp["flags"] not in ("none", "") else "":
        if letter not in FLAG_BITS:
            raise Unreadable("unknown flags")
        flags |= FLAG_BITS[letter]
    if tcp.re is _OLD_TCP:
        flags = flags & ~0x10 | (0x10 if tcp["ack"] is not None else 0)
    length = int(tcp["length"] or 0)
    if tcp["ack"] is None and flags & 0x10 and tcp.re is _TCP:
        raise Unreadable("an ACK without number")
    seq = None if tcp["seq"] is None else int(tcp["seq"]) & 0xFFFF_FFFF
    if seq is not None and tcp["end"] is not None and tcp.re is _TCP and (int(tcp["end"]) - seq) & 0xFFFF_FFFF != length:
        raise Unreadable("numbers that do not fit the length")
    return Segment(
        source_port,
        destination_port,
        flags,
        seq,
        None if tcp["ack"] is None else int(tcp["ack"]) & 0xFFFF_FFFF,
        None if tcp["window"] is None else min(int(tcp["window"]), 0xFFFF),
        length,
        tcpdump_options(tcp["options"]) if tcp["options"] else b"",
    )


def _carried(more: str | None) -> bytes:
    """The first line of a message that tcpdump names behind the length (print-http.c): `: HTTP: GET / HTTP/1.1`."""
    found = re.match(
        r": HTTP(?:: |, length: \d+\s+)((?:[A-Z]{3,10} \S+ )?HTTP/1\.[01][^\t]{0,200}|[A-Z]{3,10} \S{1,400} HTTP/1\.[01])", more or ""
    )
    if found is None:
        return b""
    line = found[1].split("  ")[0].strip()
    request = re.match(r"[A-Z]{3,10} \S+ HTTP/1\.[01]", line)
    return ((request[0] if request else line) + "\r\n").encode("utf-8", "replace")


def _error(text: str, row: Row, depth: int) -> Error | None:
    found: Error | None = None
    behind = 0
    if one := _UNREACHABLE.match(text):
        why = (one["why"] or "").removeprefix(" - ").strip()
        if one["protocol"] == "udp":
            return None
        code = 3 if one["port"] else _CODES.get(why, 0 if one["what"] == "net" else 1 if one["what"] == "host" else 2)
        if one["what"] == "net" and code in (7, 10, 12):
            code -= 1
        found = Error(3, code, int(one["mtu"] or 0) & 0xFFFF, address(one["about"]), port(one["port"]) if one["port"] else None)
        behind = one.end()
    elif one := _UNREACHABLE_6.match(text):
        found = Error(1, _CODES_6[one["what"].rstrip(",")], 0, address(one["about"]), port(one["port"]) if one["port"] else None)
        behind = one.end()
    elif one := _TOO_BIG_6.match(text):
        found, behind = Error(2, 0, int(one["mtu"])), one.end()
    elif one := _EXCEEDED.match(text):
        found = Error(3 if text.startswith("ICMP6") else 11, 0, 0, address(one["about"]) if one["about"] else None)
        behind = one.end()
    if found is None:
        return None
    quoted = re.compile(r"\sIP6? \(|\sIP6? \S+ > |\s\(tos ").search(text, behind)
    if quoted is not None and depth == 0:
        inner = Row(row.line, row.stamp)
        try:
            if _headers(text, quoted.start() + 1, inner, depth + 1) and inner.segment is not None:
                found.quoted = inner
        except Unreadable:
            pass  # what is quoted can be cut short; the error itself is told
    return found


def _claim(text: str, row: Row) -> Claim | None:
    if asks := _ASKS.search(text):
        return Claim(1, row.macs[0], address(asks["ip"]), address(asks["target"])) if row.macs is not None else None
    told = _ARP.match(text)
    return Claim(2, _mac(told["mac"]), address(told["ip"])) if told is not None and told["mac"] else None
