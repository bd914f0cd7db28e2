"""The tokens of one nft rule go in; its statements in libnftables-json(5)'s form come out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from tcpwhy.tables.nft_effect_text import EffectReader
from tcpwhy.tables.nft_expression_text import constant
from tcpwhy.tables.nft_tokens import NotUnderstood, Token, read_duration, read_number
from tcpwhy.tables.nft_words import BITMASKS, CT_KEYS_WITHOUT_VALUE, OPERATORS, SPELLED

_RATE = re.compile(r"(\d{1,18})/(\w{1,10})", re.ASCII)
_UNITS = ("bytes", "kbytes", "mbytes", "gbytes")


class Inner(NamedTuple):
    """A chain without a name of its own that stands inside a rule: `tcp dport 80 jump { … }` (nft(8), since 0.9.6)."""

    name: str
    tokens: tuple[Token, ...]


class StatementReader(EffectReader):
    """Reads the statements of a rule, in order."""

    def __init__(self, tokens: Sequence[Token], family: str = "", chain: str = "") -> None:
        """`family`, `chain`: whose rule it is; a bare `reject` means another ICMP type in each, and chains inside are named after it."""
        super().__init__(tokens)
        self.family = family
        self.comment = ""
        self.inner: list[Inner] = []
        self.unread = ""
        self._chain = chain

    def statements(self) -> list[dict[str, Any]]:
        """All statements up to the end. Raises NotUnderstood."""
        found: list[dict[str, Any]] = []
        while not self.is_at_end:
            word = self.peek().text
            if self.is_word("comment"):
                self.take()
                self.comment = self.word()
                continue
            name = "_" + word.replace("-", "_")
            if self.peek().kind == "word" and name in _STATEMENTS:
                self.take()
                found.append(getattr(self, _STATEMENTS[name])(word))
            elif self.is_word("ct") and self.is_word("count", *CT_KEYS_WITHOUT_VALUE, ahead=1) and not self._is_ct_match():
                self.take()
                found.append(self._ct_object())
            elif (
                self.is_word("meta") and self.is_word("secmark", ahead=1) and self.is_word("set", ahead=2) and self.peek(3).kind == "string"
            ):
                self.position += 3
                found.append({"secmark": self.word()})
            else:
                found.append(self._match_or_mangle())
        return found

    def _is_ct_match(self) -> bool:
        """`ct helper "ftp"` compares, `ct helper set "ftp"` sets."""
        return not self.is_word("count", ahead=1) and not self.is_word("set", ahead=2)

    def element_statement(self, word: str) -> dict[str, Any]:
        """A statement bound to an element of a set, behind its first word."""
        if word == "ct":
            return self._ct_object()
        statement: dict[str, Any] = getattr(self, _STATEMENTS["_" + word])(word)
        return statement

    def _match_or_mangle(self) -> dict[str, Any]:
        if not self.begins_expression():
            raise NotUnderstood(f"`{self.peek().text[:60].strip()}` begins no known statement")
        left = self.expression()
        if self.take_if("vmap"):
            return {"vmap": {"key": left, "data": self.set_or_reference()}}
        if self.take_if("set"):
            return {"mangle": {"key": left, "value": in_seconds(left, self.new_value())}}
        operator = self.take_if(*OPERATORS)
        operator = SPELLED.get(operator, operator) if operator else None
        right = in_seconds(left, self.right())
        if self.take_if("/"):
            return {"match": {"op": operator or "==", "left": {"&": [left, self.value()]}, "right": right}}
        if operator is None:
            holds_flags = is_bitmask(left) and not (isinstance(right, dict) and "set" in right) and not is_reference(right)
            operator = "in" if holds_flags else "=="
        return {"match": {"op": operator, "left": left, "right": right}}

    def _verdict(self, word: str) -> dict[str, Any]:
        if word in ("jump", "goto"):
            if self.is_mark("{"):
                return {word: {"target": self._inner_chain()}}
            return {word: {"target": self.word()}}
        return {word: None}

    def _inner_chain(self) -> str:
        opened, depth = self.take(), 1
        inside: list[Token] = []
        while depth:
            token = self.take()
            depth += (token.kind == "mark" and token.text == "{") - (token.kind == "mark" and token.text == "}")
            if depth:
                inside.append(token)
        name = f"{self._chain} {{line {opened.line}}}"
        self.inner.append(Inner(name, tuple(inside)))
        return name

    def _counter(self, _: str) -> dict[str, Any]:
        if self.take_if("name"):
            return {"counter": self.object_name()}
        return {"counter": self.counted()}

    def _limit(self, _: str) -> dict[str, Any]:
        if self.take_if("name"):
            return {"limit": self.object_name()}
        return {"limit": self.limit_body()}

    def limit_body(self) -> dict[str, Any]:
        """`rate over 10/second burst 5 packets`; a burst of 5 packets goes without saying (src/statement.c limit_stmt_print())."""
        self.expect("rate")
        over = self.take_if("over") is not None
        word = self.word()
        body: dict[str, Any] = {}
        if found := _RATE.fullmatch(word):
            body = {"rate": int(found.group(1)), "burst": 5, "per": found.group(2)}
        else:
            unit, _, per = self.word().partition("/")
            body = {"rate": read_number(word), "burst": 0, "per": per, "rate_unit": unit, "burst_unit": "bytes"}
        if over:
            body["inv"] = True
        if self.take_if("burst"):
            body["burst"] = self.number()
            unit = self.word()
            if unit != "packets":
                body["burst_unit"] = unit
        return body

    def _quota(self, _: str) -> dict[str, Any]:
        if self.take_if("name"):
            return {"quota": self.object_name()}
        over = self.take_if("over", "until") == "over"
        body: dict[str, Any] = {"val": self.number(), "val_unit": self.expect(*_UNITS)}
        if over:
            body["inv"] = True
        if self.take_if("used"):
            body |= {"used": self.number(), "used_unit": self.expect(*_UNITS)}
        return {"quota": body}

    def _ct_object(self) -> dict[str, Any]:
        word = self.word()
        if word != "count":
            self.expect("set")
            return {f"ct {word}": self.object_name()}
        over = self.take_if("over") is not None
        body: dict[str, Any] = {"val": self.number()}
        return {"ct count": body | {"inv": True} if over else body}

    def _set(self, word: str) -> dict[str, Any]:
        """`update @name { ip saddr timeout 30s limit rate 10/second }`."""
        name = self.word()
        self.expect("{")
        key = self.expression()
        options = self._element_tail()
        statements = options.pop("stmt", None)
        body: dict[str, Any] = {"op": word, "elem": {"elem": {"val": key} | options} if options else key, "set": name}
        if self.take_if(":"):
            data = self.verdict() if self.is_word("accept", "drop", "jump", "goto", "return", "continue") else self.new_value()
            self.expect("}")
            del body["set"]
            return {"map": body | {"map": name, "data": data}}
        self.expect("}")
        if statements:
            body["stmt"] = statements
        return {"set": body}

    def _element_tail(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        statements = []
        while word := self.take_if("timeout", "expires", "comment", "counter", "quota", "limit", "last", "ct"):
            if word in ("timeout", "expires"):
                found[word] = read_duration(self.word())
            elif word == "comment":
                found[word] = self.word()
            else:
                statements.append(self.element_statement(word))
        return found | {"stmt": statements} if statements else found

    def _meter(self, _: str) -> dict[str, Any]:
        body: dict[str, Any] = {"name": self.word()} if not self.is_mark("{") else {}
        if self.take_if("size"):
            body["size"] = self.number()
        self.expect("{")
        key = self.expression()
        options = self._element_tail()
        statements = options.pop("stmt", [None])
        body["key"] = {"elem": {"val": key} | options} if options else key
        self.expect("}")
        return {"meter": body | {"stmt": statements[0]}}

    def _reset(self, _: str) -> dict[str, Any]:
        if self.is_word("tcp") and self.is_word("option", ahead=1) and self.is_at_end_after(3):
            self.position += 2
            number = constant(self.word())
            return {"reset": {"tcp option": {"base": number, "offset": 0, "len": 0} if isinstance(number, int) else {"name": number}}}
        raise NotUnderstood("`reset` is known of TCP options only")

    def is_at_end_after(self, count: int) -> bool:
        """Whether at least `count` tokens are left."""
        return self.position + count <= len(self._tokens)

    def _notrack(self, _: str) -> dict[str, Any]:
        return {"notrack": None}

    def _last(self, _: str) -> dict[str, Any]:
        if not self.take_if("used"):
            return {"last": None}
        word = self.word()
        return {"last": None if word == "never" else {"used": read_duration(word)}}

    def _xt(self, _: str) -> dict[str, Any]:
        kind = self.expect("match", "target", "watcher")
        name = self.word().strip('"')
        self.unread = f"{name} of iptables stands in it, of which nft shows the name alone"
        return {"xt": {"type": kind, "name": name}}


_STATEMENTS = {
    **dict.fromkeys(("_accept", "_drop", "_continue", "_return", "_break", "_jump", "_goto"), "_verdict"),
    **dict.fromkeys(("_snat", "_dnat", "_masquerade", "_redirect"), "_nat"),
    **dict.fromkeys(("_add", "_update", "_delete"), "_set"),
    **{
        f"_{word}": f"_{word}"
        for word in (
            "counter",
            "log",
            "limit",
            "quota",
            "reject",
            "tproxy",
            "dup",
            "fwd",
            "flow",
            "queue",
            "synproxy",
            "meter",
            "reset",
            "notrack",
            "last",
            "xt",
        )
    },
}


def is_reference(right: Any) -> bool:
    """Whether it names a set."""
    return isinstance(right, str) and right.startswith("@")


def is_bitmask(left: Any) -> bool:
    """Whether what is looked at holds flags."""
    if not isinstance(left, dict):
        return False
    payload, ct = left.get("payload"), left.get("ct")
    if isinstance(payload, dict):
        return ("payload", payload.get("protocol"), payload.get("field")) in BITMASKS
    return isinstance(ct, dict) and ("ct", ct.get("key")) in BITMASKS


def in_seconds(left: Any, right: Any) -> Any:
    """The values of `ct expiration`, which text gives as `1m7s` and JSON in seconds."""
    if left != {"ct": {"key": "expiration"}}:
        return right
    if isinstance(right, str) and not right.startswith("@"):
        return read_duration(right)
    if isinstance(right, list):
        return [in_seconds(left, one) for one in right]
    if isinstance(right, dict):
        return {key: in_seconds(left, inside) for key, inside in right.items()}
    return right
