"""The tokens of nft's statements that send a packet elsewhere or tell of it go in; their form in libnftables-json(5) comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tcpwhy.tables.nft_expression_text import ExpressionReader, constant, is_address
from tcpwhy.tables.nft_tokens import Token

NAT_FLAGS = ("random", "fully-random", "persistent", "netmap")


class EffectReader(ExpressionReader):
    """Reads NAT, tproxy, reject, queue, log, dup, fwd, flow and synproxy, each behind its first word."""

    family = ""
    """Whose rule it is: a bare `reject` means another ICMP type in each."""

    def _log(self, _: str) -> dict[str, Any]:
        body: dict[str, Any] = {}
        flags: list[str] = []
        while word := self.take_if("prefix", "group", "snaplen", "queue-threshold", "level", "flags"):
            if word in ("prefix", "level"):
                body[word] = self.word()
            elif word == "flags":
                flags += self._log_flags()
            else:
                body[word] = self.number()
        if flags:
            body["flags"] = flags if len(flags) > 1 else flags[0]
        return {"log": body or None}

    def _log_flags(self) -> list[str]:
        kind = self.word()
        if kind not in ("tcp", "ip"):
            return [kind]
        found = [f"{kind} {self.word()}"]
        while self.is_mark(","):
            self.take()
            found.append(f"{kind} {self.word()}")
        return found

    def _reject(self, _: str) -> dict[str, Any]:
        if not self.take_if("with"):
            kind = {"ip": "icmp", "ip6": "icmpv6"}.get(self.family, "icmpx")
            return {"reject": {"type": kind, "expr": "port-unreachable"}}
        kind = self.expect("tcp", "icmp", "icmpv6", "icmpx")
        if kind == "tcp":
            self.expect("reset")
            return {"reject": {"type": "tcp reset"}}
        self.take_if("type")
        return {"reject": {"type": kind, "expr": constant(self.word())}}

    def _nat(self, word: str) -> dict[str, Any]:
        body: dict[str, Any] = {}
        if family := self.take_if("ip", "ip6"):
            body["family"] = family
        is_prefix = self.take_if("prefix") is not None
        if self.take_if("to") or (word in ("snat", "dnat") and not self.is_at_end and not self.is_word("comment", *NAT_FLAGS)):
            # nft before 0.9.1 writes no `to` between.
            body |= self._destination()
        flags = self._flag_list(NAT_FLAGS)
        if is_prefix:
            flags.append("netmap")
        if flags:
            body["flags"] = flags if len(flags) > 1 else flags[0]
        if is_prefix:
            body["type_flags"] = "prefix"
        return {word: body or None}

    def _flag_list(self, known: Sequence[str]) -> list[str]:
        found = []
        while word := self.take_if(*known):
            found.append(word)
            if self.is_mark(","):
                self.take()
        return found

    def _destination(self) -> dict[str, Any]:
        """`10.0.0.1-10.0.0.9:80-90`, `[fe80::1]:80`, `:80`, a map, or a map and `:` and another."""
        body: dict[str, Any] = {}
        if self.begins_expression():
            body["addr"] = self.expression()
        elif not self._is_port():
            word = self.word()
            address, port = split_port(word)
            body["addr"] = constant(address)
            if port is not None:
                body["port"] = constant(port)
                return body
        if self._is_port():
            token = self.take()
            word = token.text
            if len(word) > 1 and (is_port := constant(word[1:])) is not None and not isinstance(is_port, str):
                body["port"] = is_port
            else:
                body["port"] = self._again(token, word[1:])
        return body

    def _is_port(self) -> bool:
        """Whether `:80` comes next; `::9` is an address."""
        token = self.peek()
        return token.kind == "word" and token.text.startswith(":") and not token.text.startswith("::")

    def _again(self, token: Token, rest: str) -> Any:
        """What stands right behind `:` is an expression whose first word was read with it."""
        if rest:
            self.position -= 1
            tokens = list(self._tokens)
            tokens[self.position] = token._replace(text=rest, start=token.start + 1)
            self._tokens = tokens
        return self.expression()

    def _tproxy(self, _: str) -> dict[str, Any]:
        body: dict[str, Any] = {}
        if family := self.take_if("ip", "ip6"):
            body["family"] = family
        self.expect("to")
        return {"tproxy": body | self._destination()}

    def _dup(self, _: str) -> dict[str, Any]:
        if not self.take_if("to"):
            return {"dup": None}
        body = {"addr": self.new_value()}
        if self.take_if("device"):
            body["dev"] = self.new_value()
        return {"dup": body}

    def _fwd(self, _: str) -> dict[str, Any]:
        family = self.take_if("ip", "ip6")
        self.expect("to")
        first = self.new_value()
        if not family:
            return {"fwd": {"dev": first}}
        self.expect("device")
        return {"fwd": {"dev": self.new_value(), "family": family, "addr": first}}

    def _flow(self, _: str) -> dict[str, Any]:
        self.expect("add", "offload")
        return {"flow": {"op": "add", "flowtable": self.word()}}

    def _queue(self, _: str) -> dict[str, Any]:
        body: dict[str, Any] = {}
        flags: list[str] = []
        while word := self.take_if("num", "to", "flags", "bypass", "fanout"):
            if word in ("num", "to"):
                body["num"] = self.new_value()
            elif word == "flags":
                flags += self._flag_list(("bypass", "fanout"))
            else:
                flags.append(word)
            if self.is_mark(","):
                self.take()
        if flags:
            body["flags"] = flags if len(flags) > 1 else flags[0]
        return {"queue": body or None}

    def _synproxy(self, _: str) -> dict[str, Any]:
        if self.take_if("name"):
            return {"synproxy": self.object_name()}
        return {"synproxy": self.synproxy_body() or None}

    def synproxy_body(self) -> dict[str, Any]:
        """`mss 1460 wscale 7 timestamp sack-perm`."""
        body: dict[str, Any] = {}
        flags = []
        while word := self.take_if("mss", "wscale", "timestamp", "sack-perm"):
            if word in ("mss", "wscale"):
                body[word] = self.number()
            else:
                flags.append(word)
        return body | {"flags": flags} if flags else body

    def object_name(self) -> Any:
        """A name, or a map that gives one."""
        return self.expression() if self.begins_expression() else self.word()

    def new_value(self) -> Any:
        """What something is set to: an expression or a constant."""
        return self.expression() if self.begins_expression() else self.constants()


def split_port(word: str) -> tuple[str, str | None]:
    """`10.0.0.1-10.0.0.9:80-90`, `[fe80::1]-[fe80::9]:80` or `fe80::1` as address (or range) and port."""
    if "[" in word:
        head, _, port = word.rpartition("]")
        return head.replace("[", "").replace("]", ""), port[1:] if port.startswith(":") else None
    address, _, port = word.partition(":")
    if ":" not in port and port and (is_address(address.partition("-")[0]) or "/" in address):
        return address, port
    return word, None
