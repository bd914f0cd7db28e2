"""The tokens of an nft expression go in; the expression in libnftables-json(5)'s form comes out."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from tcpwhy.tables.nft_tokens import NotUnderstood, Reader, Token, is_number, read_duration, read_number
from tcpwhy.tables.nft_words import (
    BARE_META,
    EXTENSION_HEADERS,
    FIB_RESULTS,
    PRECEDENCE,
    PROTOCOLS,
    ROUTE_KEYS,
    SPELLED,
    TUNNELS,
    VERDICTS,
)

DEEPEST = 20
"""Brackets in brackets that are followed; nft writes three at most."""
_RAW = re.compile(r"@(\w+),(\d+),(\d+)", re.ASCII)
_SYMBOL_RANGE = re.compile(r"((?:cs|af|ef|lephb|be|df|va)\d*)-((?:cs|af|ef|lephb|be|df|va)\d*)", re.ASCII)
_TIME_RANGE = re.compile(r"(\d+[dhms][\ddhms]*)-(\d+[dhms][\ddhms]*)", re.ASCII)
_INDEXED = re.compile(r"(addr|sid)\[(\d{1,3})\]", re.ASCII)


class ExpressionReader(Reader):
    """Reads expressions: what a match looks at, what it is compared with, sets and maps."""

    depth = 0

    def begins_expression(self) -> bool:
        """Whether a known expression (not a plain value) begins here."""
        token = self.peek()
        if token.kind == "mark":
            return token.text == "(" and self.peek(1).kind == "word"
        if token.kind != "word":
            return False
        word = token.text
        if word.startswith("@"):
            return _RAW.fullmatch(word) is not None
        if word in BARE_META:
            return True
        return (word in PROTOCOLS or word in EXTENSION_HEADERS or word in _PRIMARIES) and self.peek(1).kind == "word"

    def expression(self, lowest: int = 1) -> Any:
        """Something that is looked at: fields, concatenated, masked, mapped."""
        self._go_deeper()
        left = self._concatenation()
        while (mark := SPELLED.get(self.peek().text, self.peek().text)) in PRECEDENCE and self.peek().kind == "word":
            if PRECEDENCE[mark] < lowest:
                break
            self.take()
            left = {mark: [left, self._operand(PRECEDENCE[mark] + 1)]}
        self.depth -= 1
        if lowest == 1 and self.is_word("map"):
            self.take()
            left = {"map": {"key": left, "data": self.set_or_reference()}}
        return left

    def _operand(self, lowest: int) -> Any:
        return self.expression(lowest) if self.begins_expression() else self.constants(lowest)

    def _go_deeper(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise NotUnderstood(f"more than {DEEPEST} brackets stand in each other")

    def _concatenation(self) -> Any:
        parts = [self._primary()]
        while self.is_word("."):
            self.take()
            parts.append(self._primary())
        return parts[0] if len(parts) == 1 else {"concat": parts}

    def _primary(self) -> Any:
        if self.is_mark("("):
            self.take()
            inside = self.expression()
            self.expect(")")
            return inside
        if not self.begins_expression():
            return self._flags(False)
        word = self.take().text
        if word.startswith("@"):
            return raw_payload(word)
        if word in BARE_META:
            return {"meta": {"key": word}}
        if word in _PRIMARIES:
            return getattr(self, _PRIMARIES[word])()
        return self._extension(word) if word in EXTENSION_HEADERS else self._payload(word)

    def _meta(self) -> Any:
        return {"meta": {"key": self.word()}}

    def _ct(self) -> Any:
        direction = self.take_if("original", "reply")
        family = self.take_if("ip", "ip6")
        key = self.word()
        body: dict[str, Any] = {"key": f"{family} {key}" if family else key}
        if direction:
            body["dir"] = direction
        return {"ct": body}

    def _payload(self, protocol: str) -> Any:
        if protocol in ("ip", "tcp") and self.take_if("option"):
            return self._option(protocol)
        if protocol == "sctp" and self.take_if("chunk"):
            return self._named("sctp chunk")
        field = self.word()
        if protocol in TUNNELS and field in PROTOCOLS:
            return {"payload": {"tunnel": protocol, "protocol": field, "field": self.word()}}
        if protocol == "arp" and field in ("saddr", "daddr"):
            field = f"{field} {self.expect('ip', 'ether')}"
        return {"payload": {"protocol": protocol, "field": field}}

    def _option(self, protocol: str) -> Any:
        if protocol == "ip":
            return self._named("ip option")
        word = self.peek().text
        if found := _RAW.fullmatch(word):
            self.take()
            return {"tcp option": {"base": int(found.group(1)), "offset": int(found.group(2)), "len": int(found.group(3))}}
        if is_number(word):
            return {"tcp option": {"base": self.number(), "offset": 0, "len": 8}}
        return self._named("tcp option")

    def _named(self, kind: str) -> Any:
        """A name, and a field unless its being there is what is asked."""
        body = {"name": self.word()}
        token = self.peek()
        if token.kind == "word" and token.text not in ("exists", "missing", "==", "!="):
            body["field"] = self.word()
        return {kind: body}

    def _extension(self, header: str) -> Any:
        if header == "rt" and (self.is_word(*ROUTE_KEYS) or (self.is_word("ip", "ip6") and self.is_word("nexthop", ahead=1))):
            family = self.take_if("ip", "ip6")
            return {"rt": {"key": self.word(), "family": family} if family else {"key": self.word()}}
        field = self.word()
        if found := _INDEXED.fullmatch(field):
            field = f"{found.group(1)}[{found.group(2)}]"
        return {"exthdr": {"name": header, "field": field}}

    def _exthdr(self) -> Any:
        return {"exthdr": {"name": self.word()}}

    def _fib(self) -> Any:
        flags = [self.word()]
        while self.is_word("."):
            self.take()
            flags.append(self.word())
        result = self.word()
        if result not in FIB_RESULTS:
            raise NotUnderstood(f"`fib … {result[:40]}` is no known result")
        return {"fib": {"result": result, "flags": flags}}

    def _socket(self) -> Any:
        key = self.word()
        body: dict[str, Any] = {"key": key}
        if key == "cgroupv2" and self.take_if("level"):
            body["level"] = self.number()
        return {"socket": body}

    def _osf(self) -> Any:
        lenient = self.word() if self.take_if("ttl") else None
        key = self.expect("name", "version")
        return {"osf": {"key": key, "ttl": lenient} if lenient else {"key": key}}

    def _ipsec(self) -> Any:
        direction = self.expect("in", "out")
        number = self.number() if self.take_if("spnum") else 0
        family = self.take_if("ip", "ip6")
        body: dict[str, Any] = {"key": self.word()}
        if family:
            body["family"] = family
        return {"ipsec": body | {"dir": direction, "spnum": number}}

    def _numgen(self) -> Any:
        mode = self.expect("inc", "random")
        self.expect("mod")
        modulus = self.number()
        return {"numgen": {"mode": mode, "mod": modulus, "offset": self.number() if self.take_if("offset") else 0}}

    def _jhash(self) -> Any:
        self._go_deeper()
        expression = self._concatenation()
        self.depth -= 1
        return {"jhash": self._hash_body() | {"expr": expression}}

    def _symhash(self) -> Any:
        return {"symhash": self._hash_body()}

    def _hash_body(self) -> dict[str, Any]:
        self.expect("mod")
        body = {"mod": self.number()}
        if self.take_if("seed"):
            body["seed"] = self.number()
        if self.take_if("offset"):
            body["offset"] = self.number()
        return body

    def right(self) -> Any:
        """What a match compares with: a value, a list of flags, a set, or values joined by operators."""
        return self.set_or_reference() if self.is_mark("{") or self.peek().text.startswith("@") else self.constants()

    def constants(self, lowest: int = 1) -> Any:
        """Values joined by operators; a word that elsewhere begins an expression (`tcp`, `ip`) is a value here."""
        self._go_deeper()
        value = self.value()
        while (mark := SPELLED.get(self.peek().text, self.peek().text)) in PRECEDENCE and PRECEDENCE[mark] >= lowest:
            self.take()
            value = {mark: [value, self.constants(PRECEDENCE[mark] + 1)]}
        self.depth -= 1
        return value

    def set_or_reference(self) -> Any:
        """`{ … }` or `@name`."""
        if self.is_mark("{"):
            return {"set": self.elements()}
        name = self.word()
        if not name.startswith("@") or len(name) < 2:
            raise NotUnderstood(f"`{name[:60]}` stands where a set was expected")
        return name

    def elements(self) -> list[Any]:
        """The elements between braces; of maps, pairs."""
        self._go_deeper()
        self.expect("{")
        found = []
        self._skip_lines()
        while not self.is_mark("}"):
            found.append(self._element())
            self._skip_lines()
            if not self.is_mark("}"):
                self.expect(",")
                self._skip_lines()
        self.take()
        self.depth -= 1
        return found

    def _skip_lines(self) -> None:
        while not self.is_at_end and self.peek().kind == "newline":
            self.take()

    def _element(self) -> Any:
        key = self.value(takes_sums=True)
        more = self.element_options()
        if more:
            key = {"elem": {"val": key} | more}
        if not self.take_if(":"):
            return key
        self._skip_lines()
        if self.is_word(*VERDICTS):
            return [key, self.verdict()]
        return [key, self.value()]

    def element_options(self) -> dict[str, Any]:
        """`timeout 1h expires 30m counter packets 0 bytes 0 comment "…"` behind an element."""
        more: dict[str, Any] = {}
        while word := self.take_if("timeout", "expires", "comment", "counter", "quota", "limit", "last", "ct"):
            if word in ("timeout", "expires"):
                more[word] = read_duration(self.word())
            elif word == "comment":
                more[word] = self.word()
            elif word == "counter":
                more[word] = self.counted()
            else:
                more |= self.element_statement(word)
        return more

    def element_statement(self, word: str) -> dict[str, Any]:
        """A statement bound to an element; only a StatementReader knows them."""
        raise NotUnderstood(f"`{word}` stands behind an element")

    def counted(self) -> dict[str, int] | None:
        """`packets 3 bytes 180`, or nothing."""
        if not self.take_if("packets"):
            return None
        packets = self.number()
        self.expect("bytes")
        return {"packets": packets, "bytes": self.number()}

    def verdict(self) -> dict[str, Any]:
        """`accept`, `jump name` and their like."""
        word = self.word()
        if word in ("jump", "goto"):
            return {word: {"target": self.word()}}
        if word not in VERDICTS:
            raise NotUnderstood(f"`{word[:60]}` is no verdict")
        return {word: None}

    def value(self, takes_sums: bool = False) -> Any:
        """A constant: one atom, a list of flags, or atoms joined by ` . `; in sets also sums of flags."""
        parts = [self._flags(takes_sums)]
        while self.is_word("."):
            self.take()
            parts.append(self._flags(takes_sums))
        return parts[0] if len(parts) == 1 else {"concat": parts}

    def _flags(self, takes_sums: bool) -> Any:
        first, token = self._sum(takes_sums)
        parts = [first]
        while self.is_mark(",") and self.peek().start == token.end and self._is_value_touching():
            self.take()
            more, token = self._sum(takes_sums)
            parts.append(more)
        return first if len(parts) == 1 else parts

    def _is_value_touching(self) -> bool:
        """Whether a value follows the comma without a space: then it belongs to the same list of flags."""
        return self.peek(1).start == self.peek().end and self.peek(1).kind in ("word", "string")

    def _sum(self, takes_sums: bool) -> tuple[Any, Token]:
        """An atom, or `syn | ack`, which is one element of a set."""
        if self.is_mark("("):
            self._go_deeper()
            self.take()
            inside, _ = self._sum(True)
            self.depth -= 1
            token = self.peek()
            self.expect(")")
            return inside, token
        token = self.take()
        found = self._atom(token)
        while takes_sums and self.is_word("|") and self.peek(1).kind == "word":
            self.take()
            token = self.take()
            found = {"|": [found, self._atom(token)]}
        return found, token

    def _atom(self, token: Token) -> Any:
        if token.kind == "string":
            if self.is_word("-") and self.peek().start == token.end and self.peek(1).kind == "string":
                self.take()
                return {"range": [token.text, self.take().text]}
            return token.text
        if token.kind != "word":
            raise NotUnderstood(f"`{token.text[:60].strip()}` stands where a value was expected")
        return constant(token.text)


_PRIMARIES = {
    "meta": "_meta",
    "ct": "_ct",
    "exthdr": "_exthdr",
    "fib": "_fib",
    "socket": "_socket",
    "osf": "_osf",
    "ipsec": "_ipsec",
    "numgen": "_numgen",
    "jhash": "_jhash",
    "symhash": "_symhash",
}


def raw_payload(word: str) -> dict[str, Any]:
    """`@th,16,16`; the ports have names there too (src/payload.c payload_is_known())."""
    found = _RAW.fullmatch(word)
    if not found or found.group(1).isdigit():
        raise NotUnderstood(f"`{word[:60]}` is no place in a packet")
    return {"payload": {"base": found.group(1), "offset": int(found.group(2)), "len": int(found.group(3))}}


def constant(word: str) -> Any:
    """A word as JSON has it: numbers, addresses, prefixes and ranges, `exists` and `missing`.

    Names stay words, and numbers of more than 64 bits hexadecimal ones (src/json.c integer_type_json()).
    """
    if is_number(word):
        number = read_number(word)
        return number if number < 1 << 64 else f"{number:#x}"
    if word in ("exists", "missing"):
        return word == "exists"
    if "/" in word:
        address, _, length = word.partition("/")
        if length.isascii() and length.isdigit() and len(length) <= 3 and (is_address(address) or is_number(address)):
            return {"prefix": {"addr": constant(address), "len": int(length)}}
        return word
    if "-" in word:
        for pattern in (_SYMBOL_RANGE, _TIME_RANGE):
            if found := pattern.fullmatch(word):
                return {"range": [constant(found.group(1)), constant(found.group(2))]}
        first, _, last = word.partition("-")
        if (is_number(first) and is_number(last)) or (is_address(first) and is_address(last)) or (_is_colons(first) and _is_colons(last)):
            return {"range": [constant(first), constant(last)]}
    return word


def is_address(word: str) -> bool:
    """Whether it is an IPv4 or IPv6 address."""
    if not word or len(word) > 64 or word[-1] not in "0123456789abcdefABCDEF:" or ("." not in word and ":" not in word):
        return False
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def _is_colons(word: str) -> bool:
    """A MAC address or a traffic control handle."""
    return re.fullmatch(r"[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){1,7}", word, re.ASCII) is not None
