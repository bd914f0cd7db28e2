"""What tshark's summary (or Wireshark's, exported as text) says of a packet goes in, a row comes out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tcpwhy.evidence.pasted import Section
from tcpwhy.tables.listings._numbers import Known, Numbering, RelativeNumbering
from tcpwhy.tables.listings._row import Claim, Error, Head, Row, Segment, Unreadable
from tcpwhy.tables.listings._stamps import TIME, read_stamp
from tcpwhy.tables.listings._text import Record
from tcpwhy.tables.listings._words import address, port, tshark_options

_BEGIN = re.compile(
    rf"^\s*(?P<number>\d{{1,12}})\s+(?:{TIME})\s+(?P<source>[\w.:%-]{{2,260}})\s+(?:→|->|\u2192)?\s*(?P<destination>[\w.:%-]{{2,260}})?\s+"
    r"(?P<protocol>[A-Za-z][\w./-]{0,30})\s+(?P<length>\d{1,7})\s+"
)
_ENDS = re.compile(
    r"^\s*(?:\d+ packets? (?:captured|dropped)|```|~~~|Capturing on |tshark: |Running as user|\[?[\w.-]+@[\w.-]+[: ].*[#$] ?)"
)
_MARKS = re.compile(r"(?:\[(?:TCP|This|Malformed|ACKed|Packet)[^\]]{0,80}\]\s*)+")
_TCP = re.compile(
    r"(?P<source>[\w.-]{1,40}) (?:→|->|>|\u2192) (?P<destination>[\w.-]{1,40}) \[(?P<flags>[^\]]{0,80})\]"
    r"(?: Seq=(?P<seq>\d{1,10}))?(?: Ack=(?P<ack>\d{1,10}))?"
    r"(?: Win=(?P<window>\d{1,10}))?(?: Urg=\d+)? Len=(?P<length>\d{1,7})(?P<options>.*)"
)
_FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECN": 64, "ECE": 64, "CWR": 128, "AE": 0, "NS": 0, "AECN": 0}
_PART = re.compile(r"\[TCP (?:segment of a reassembled PDU|PDU reassembled in \d+)\]")
_NEW = re.compile(r"\[TCP Port numbers reused\]")
_AGAIN = re.compile(r"\[TCP (?:Spurious )?(?:Fast )?Retransmission\]|\[TCP Out-Of-Order\]")
"""packet-tcp.c, dissect_tcp(): a SYN of another number begins a new conversation, one of the same number repeats the first."""
_HTTP = re.compile(r"(?:[A-Z]{3,10} \S{1,2000} HTTP/1\.[01]|HTTP/1\.[01] \d{3}[ -~]{0,80})")
_UNREACHABLE = {
    "network unreachable": 0, "host unreachable": 1, "protocol unreachable": 2, "port unreachable": 3, "fragmentation needed": 4,
    "source route failed": 5, "network unknown": 6, "host unknown": 7, "network administratively prohibited": 9,
    "host administratively prohibited": 10, "communication administratively filtered": 13, "host precedence violation": 14,
}  # fmt: skip
"""packet-icmp.c, unreach_code_str, in small letters."""
_UNREACHABLE_6 = {"no route to destination": 0, "administratively prohibited": 1, "beyond scope of source address": 2,
                  "address unreachable": 3, "port unreachable": 4, "source address failed ingress/egress policy": 5,
                  "reject route to destination": 6}  # fmt: skip
"""packet-icmpv6.c, icmpv6_unreach_code_val."""
_HARDWARE = r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}"
_ARP = re.compile(rf"(?P<ip>[\d.]{{7,15}}) is at (?P<mac>{_HARDWARE})")
_ARP_ASKS = re.compile(r"Who has [\d.]{7,15}\? Tell (?P<teller>[\d.]{7,15})|(?:ARP Announcement|Gratuitous ARP) for (?P<own>[\d.]{7,15})")
_STREAMS = re.compile(
    r"TLS|SSL|HTTP|TCP|SSH|MySQL|PGSQL|RESP|SMTP|IMAP|POP|FTP|LDAP|AMQP|MQTT|KAFKA|Kafka|DATA|GRPC|HTTP2|WebSocket|Redis|Memcache|BGP|PROXY"
)
"""Protocols over TCP whose rows name what is carried; others may as well be carried by UDP."""


class Dialect:
    """One listing of tshark."""

    name = "tshark"
    begins = _BEGIN
    ends = _ENDS

    def numbering(self, section: Section, known: Known) -> Numbering:
        """How it counts sequence numbers."""
        return RelativeNumbering(known=known)

    def read(self, record: Record) -> Row | None:
        """A record's packet; None for one that is neither TCP nor tells of it. Raises Unreadable."""
        try:
            return self._read(record, record.text)
        except Unreadable:
            if len(record.lines) == 1:
                raise
            return self._read(record, "".join(record.lines))

    def _read(self, record: Record, text: str) -> Row | None:
        begin = _BEGIN.match(text)
        if begin is None:
            raise Unreadable("no packet")
        row = Row(record.line, read_stamp(begin), frame_length=int(begin["length"]), number=int(begin["number"]))
        info = text[begin.end() : begin.end() + 4_000].strip()
        protocol = begin["protocol"]
        if protocol == "ARP":
            row.claim = _claim(info, begin["source"])
            return row if row.claim is not None else None
        if begin["destination"] is None:
            return None
        if protocol in ("ICMP", "ICMPv6"):
            row.error = _error(protocol, info)
            row.heads = [Head(address(begin["source"]), address(begin["destination"]))]
            return row if row.error is not None else None
        marked = _MARKS.match(info)
        tcp = _TCP.match(info, marked.end() if marked is not None else 0)
        if tcp is None and not _STREAMS.match(protocol):
            return None
        row.heads = [Head(address(begin["source"]), address(begin["destination"]))]
        if tcp is None:
            row.segment = Segment(0, 0, 0x18, None, None, None, 0, is_told=False, is_part=_PART.search(info) is not None)
            row.payload = _carried(info, protocol)
            return row
        row.segment = _segment(tcp)
        row.segment.is_part = _PART.search(info) is not None
        row.segment.is_new = True if _NEW.search(info) else False if _AGAIN.search(info) else None
        return row


def recognise(lines: Sequence[str]) -> Dialect | None:
    """The dialect of a section that begins with these lines; None where no row of tshark is among them."""
    for line in lines:
        begin = _BEGIN.match(line)
        if begin is not None and (begin["protocol"] in ("TCP", "ARP", "ICMP", "ICMPv6", "DNS", "UDP") or _STREAMS.match(begin["protocol"])):
            return Dialect()
    return None


def _claim(info: str, source: str) -> Claim | None:
    """What an ARP packet claims: its sender's address, with the hardware address in it or from which it came."""
    if told := _ARP.match(info):
        return Claim(2, _mac(told["mac"]), address(told["ip"]))
    asks = _ARP_ASKS.match(info)
    if asks is None or not re.fullmatch(_HARDWARE, source):
        return None
    return Claim(1, _mac(source), address(asks["teller"] or asks["own"]))


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _segment(tcp: re.Match[str]) -> Segment:
    flags = 0
    for word in re.split(r",\s*", tcp["flags"]) if tcp["flags"] not in ("<None>", "") else []:
        if word not in _FLAGS:
            raise Unreadable("unknown flags")
        flags |= _FLAGS[word]
    return Segment(
        port(tcp["source"]),
        port(tcp["destination"]),
        flags,
        int(tcp["seq"] or 0) & 0xFFFF_FFFF,
        int(tcp["ack"]) & 0xFFFF_FFFF if tcp["ack"] is not None and flags & 0x10 else None,
        min(int(tcp["window"] or 0), 1 << 30),
        int(tcp["length"]),
        tshark_options(tcp["options"]),
    )


def _carried(info: str, protocol: str) -> bytes:
    """The first bytes of what a row names: a request's or an answer's first line, or a TLS record's head (RFC 8446 section 5.1)."""
    http = _HTTP.match(info)
    if http is not None:
        return http[0].strip().encode("utf-8", "replace") + b"\r\n"
    if protocol.startswith(("TLS", "SSL")):
        if "Hello" in info:
            return b"\x16\x03\x01"
        if re.search(r"\bAlert\b", info) and "Application Data" not in info:
            return b"\x15\x03\x03"
        if info.startswith("Application Data"):
            return b"\x17\x03\x03"
    return b""


def _error(protocol: str, info: str) -> Error | None:
    six = protocol == "ICMPv6"
    found = re.match(r"Destination [Uu]nreachable \((.{1,80})\)", info)
    if found is not None:
        code = (_UNREACHABLE_6 if six else _UNREACHABLE).get(found[1].lower())
        return None if code is None else Error(1 if six else 3, code)
    if six and info.startswith("Packet Too Big"):
        return Error(2, 0)
    if info.startswith(("Time-to-live exceeded", "Time Exceeded")):
        return Error(3 if six else 11, 0)
    return None
