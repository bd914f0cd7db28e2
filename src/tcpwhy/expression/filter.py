"""pcap-filter's everyday words go in, a condition over a flow's ends comes out: it holds where tcpdump would print one of its packets."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable

from tcpwhy.expression.condition import Condition, ExpressionError, Token, TokenStream, tokens_of
from tcpwhy.expression.network import host_at, net_at, ports_at, read_address, read_net, read_port, read_ports

_TOKENS = re.compile(r"(?P<sign>&&|\|\||!(?!=)|[()])|(?P<word>(?:[^\s()!&|]|&(?!&)|\|(?!\|)|!=)+)")

PROTOCOLS = ("tcp", "ip", "ip6")
DIRECTIONS = ("src", "dst")
TYPES = ("host", "net", "port", "portrange")
_JOINING = ("and", "or", "not", "&&", "||", "!", "(", ")")
_WORDS = ", ".join((*TYPES, *DIRECTIONS, *PROTOCOLS, "and", "or", "not", "brackets"))

Ends = tuple[str, str]
"""Which end is the source and which the destination: `client` and `server`, or the other way round."""

Predicate = Callable[[Ends], Condition]
"""A condition on packets of one direction."""

NAMES = (
    "arp", "broadcast", "ether", "gateway", "geneve", "greater", "icmp", "icmp6", "ifname", "igmp", "inbound", "len", "less", "mpls",
    "multicast", "outbound", "pppoes", "proto", "protochain", "rarp", "sctp", "udp", "vlan", "vxlan", "wlan",
)  # fmt: skip
"""Words of pcap-filter(7) that have no meaning for a table of TCP connections."""


@dataclasses.dataclass(frozen=True)
class _Head:
    """Qualifiers before an address or port; an address without them takes those of the one before it, as pcap-filter(7) says."""

    protocol: str
    direction: str
    """`src`, `dst`, `both` (source and destination) or empty (either)."""
    type: str
    """Empty where no word says it: then it is a host."""


def parse_filter(text: str) -> Condition:
    """A filter as SQL over `client_ip`, `client_port`, `server_ip`, `server_port` (texts and numbers) and `ipv6` (BOOLEAN).

    `and` and `or` bind alike and from the left, `not` binds closest, and `port 80 or 443` means `port 80 or port 443`: all as in
    pcap-filter(7). A connection has packets both ways: `src host X` holds where X is either of its ends, and `src X and dst Y` where
    X and Y are its two ends.

    Raises ExpressionError, and nothing else, for whatever else the text holds.
    """
    return _Filter(TokenStream(tokens_of(text, _TOKENS))).parse()


class _Filter:
    def __init__(self, stream: TokenStream) -> None:
        self._stream = stream
        self._head: _Head | None = None
        self._directed = False

    def parse(self) -> Condition:
        predicate = self._expression()
        left = self._stream.peek()
        if left.kind != "end":
            raise ExpressionError(f"read {left}, expected `and`, `or` or the end", left.position)
        forth = predicate(("client", "server"))
        if not self._directed:
            return forth
        return Condition.joined("OR", [forth, predicate(("server", "client"))])

    def _expression(self) -> Predicate:
        found = self._term()
        while sign := self._stream.take_if("and", "&&", "or", "||"):
            word = "AND" if sign.text.lower() in ("and", "&&") else "OR"
            found = _joined(word, found, self._term())
        return found

    def _term(self) -> Predicate:
        self._stream.enter()
        if self._stream.take_if("not", "!"):
            inner = self._term()
            found: Predicate = lambda ends: inner(ends).negated()  # noqa: E731 - a closure, not a function of its own
        elif self._stream.take_if("("):
            found = self._expression()
            self._stream.expect(")", "to close the bracket")
            self._head = None
        else:
            found = self._primary()
        self._stream.leave()
        return found

    def _primary(self) -> Predicate:
        begin = self._stream.peek()
        protocol = self._stream.take_if(*PROTOCOLS)
        direction = self._direction()
        kind = self._stream.take_if(*TYPES)
        if protocol and direction is None and kind is None:
            self._head = None
            return _of_protocol(protocol.text.lower())
        if protocol or direction is not None or kind:
            self._head = _Head(protocol.text.lower() if protocol else "", direction or "", kind.text.lower() if kind else "")
            return self._ids(self._head)
        if self._head is None:
            raise self._not_understood(begin)
        return self._id(self._head)

    def _direction(self) -> str | None:
        first = self._stream.take_if(*DIRECTIONS)
        if first is None:
            return None
        joining, second = self._stream.peek().text.lower(), self._stream.peek(1).text.lower()
        if joining in ("or", "and", "||", "&&") and second in DIRECTIONS and second != first.text.lower():
            after = self._stream.peek(2)
            # `src host A and dst host B` never comes here: a type or an address stands behind its `src`.
            if after.kind == "end":
                raise ExpressionError("read the end, expected an address or a port", after.position)
            self._stream.take()
            self._stream.take()
            if joining in ("or", "||"):
                return ""
            return "both"
        self._directed = True
        return first.text.lower()

    def _ids(self, head: _Head) -> Predicate:
        """One address or port, or several in brackets."""
        if not self._stream.take_if("("):
            return self._id(head)
        self._stream.enter()
        found = self._listed_id(head)
        while sign := self._stream.take_if("and", "&&", "or", "||"):
            word = "AND" if sign.text.lower() in ("and", "&&") else "OR"
            found = _joined(word, found, self._listed_id(head))
        self._stream.expect(")", "to close the bracket")
        self._stream.leave()
        return found

    def _listed_id(self, head: _Head) -> Predicate:
        if not self._stream.take_if("not", "!"):
            return self._ids(head)
        self._stream.enter()
        inner = self._listed_id(head)
        self._stream.leave()
        return lambda ends: inner(ends).negated()

    def _id(self, head: _Head) -> Predicate:
        token = self._stream.peek()
        if token.kind != "word" or token.text.lower() in (*_JOINING, *PROTOCOLS, *DIRECTIONS, *TYPES, *NAMES):
            raise ExpressionError(f"read {token}, expected {_EXPECTED[head.type]}", token.position)
        self._stream.take()
        match head.type:
            case "port":
                port = read_port(token)
                at_end = lambda end: ports_at(end, port, port)  # noqa: E731
            case "portrange":
                low, high = read_ports(token)
                at_end = lambda end: ports_at(end, low, high)  # noqa: E731
            case "net":
                net = read_net(token, self._mask())
                _check_version(head, net, token)
                at_end = lambda end: net_at(end, net)  # noqa: E731
            case _:
                if "/" in token.text:
                    raise ExpressionError(f"read {token}, expected an address, or `net` before it", token.position)
                address = read_address(token)
                _check_version(head, address, token)
                at_end = lambda end: host_at(end, address)  # noqa: E731
        return _directed(head, at_end)

    def _mask(self) -> Token | None:
        return self._stream.take() if self._stream.take_if("mask") else None

    def _not_understood(self, token: Token) -> ExpressionError:
        name = re.split(r"[\[=<>]", token.text.lower())[0]
        if token.kind == "word" and (name in NAMES or "[" in token.text):
            return ExpressionError(f"`{name}` is not supported here, expected {_WORDS}", token.position)
        if token.kind == "word" and re.fullmatch(r"[0-9a-fA-F:.]+(/\d+)?", token.text, re.ASCII):
            word = "net" if "/" in token.text else "host` or `port"
            return ExpressionError(f"read {token}, expected `{word}` before it", token.position)
        return ExpressionError(f"read {token}, expected one of {_WORDS}", token.position)


_EXPECTED = {
    "": "an IP address",
    "host": "an IP address",
    "net": "a network such as 10.0.0.0/8",
    "port": "a port from 0 to 65535",
    "portrange": "a range of ports such as 8000-8080",
}


def _joined(word: str, left: Predicate, right: Predicate) -> Predicate:
    return lambda ends: Condition.joined(word, [left(ends), right(ends)])


def _of_protocol(protocol: str) -> Predicate:
    sql = {"tcp": "(true)", "ip": "(NOT ipv6)", "ip6": "(ipv6)"}[protocol]
    return lambda ends: Condition(sql, [])


def _directed(head: _Head, at_end: Callable[[str], Condition]) -> Predicate:
    def predicate(ends: Ends) -> Condition:
        source, destination = at_end(ends[0]), at_end(ends[1])
        match head.direction:
            case "src":
                condition = source
            case "dst":
                condition = destination
            case "both":
                condition = Condition.joined("AND", [source, destination])
            case _:
                condition = Condition.joined("OR", [source, destination])
        if head.protocol in ("ip", "ip6"):
            condition = Condition.joined("AND", [_of_protocol(head.protocol)(ends), condition])
        return condition

    return predicate


def _check_version(
    head: _Head,
    what: ipaddress.IPv4Address | ipaddress.IPv6Address | ipaddress.IPv4Network | ipaddress.IPv6Network,
    token: Token,
) -> None:
    if (head.protocol == "ip" and what.version == 6) or (head.protocol == "ip6" and what.version == 4):
        raise ExpressionError(f"read {token}, which is no address of `{head.protocol}`", token.position)
