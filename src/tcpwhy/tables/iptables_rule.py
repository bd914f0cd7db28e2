"""One rule as `iptables-save` writes it goes in; its matches, target and options come out, and why where a part is not understood."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

from tcpwhy.evidence.source import Source
from tcpwhy.tables.iptables_options import EXTENSIONS, GREEDY, OWN, Form, is_target, match_of_protocol
from tcpwhy.tables.iptables_ruleset import Option, Rule

_SPACE = " \t\n"
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_COUNTERS = re.compile(r"\[(\d{1,20}):(\d{1,20})\]\s*", re.ASCII)


@dataclasses.dataclass(slots=True)
class Words:
    """A line's words, without their quotes."""

    texts: list[str]
    quoted: frozenset[int]
    """Positions of words that had quotes: those are never an option or a `!`."""
    is_open: bool = False
    """A quote is not closed; the words end before it."""


def split_words(text: str) -> Words:
    """Words as iptables-restore takes them: white space parts, double quotes join, a backslash counts inside quotes only.

    (iptables/xshared.c add_param_to_argv.)
    """
    if '"' not in text:
        return Words(_plain(text), frozenset())
    texts: list[str] = []
    quoted: set[int] = set()
    is_joined = False  # what follows belongs to the last word
    at = 0
    while at < len(text):
        opening = text.find('"', at)
        plain = text[at:] if opening < 0 else text[at:opening]
        words = _plain(plain)
        if is_joined and words and plain[0] not in _SPACE:
            texts[-1] += words.pop(0)
        texts += words
        if opening < 0:
            break
        is_joined = plain[-1] not in _SPACE if plain else is_joined
        found = _QUOTED.match(text, opening)
        if found is None:
            return Words(texts, frozenset(quoted), is_open=True)
        value = _ESCAPED.sub(r"\1", found[1]) if "\\" in found[1] else found[1]
        if is_joined:
            texts[-1] += value
        else:
            texts.append(value)
        quoted.add(len(texts) - 1)
        is_joined, at = True, found.end()
    return Words(texts, frozenset(quoted))


def _plain(text: str) -> list[str]:
    """Words between white space of ASCII alone: str.split() would part at other characters too."""
    return [word for word in text.replace("\t", " ").replace("\n", " ").split(" ") if word]


def split_counters(line: str) -> tuple[int | None, int | None, str]:
    """`[12:720] -A …` as packets, bytes and the rest; None twice without counters."""
    found = _COUNTERS.match(line)
    if found is None:
        return None, None, line
    return int(found.group(1)), int(found.group(2)), line[found.end() :]


class RuleReader:
    """Reads the words of one rule."""

    def __init__(self, words: Words) -> None:
        self.words = words.texts
        self.quoted = words.quoted
        self.at = 0
        self.command = ""
        self.chain = ""
        self.matches: list[str] = []
        self.options: list[Option] = []
        self.target: str | None = None
        self.is_goto = False
        self.target_options: list[Option] = []
        self.packets: int | None = None
        self.bytes: int | None = None
        self.unread = "a quote is not closed" if words.is_open else ""
        self._negated = False
        self._latest: dict[str, int] = {}  # known matches, the last one last: a match may stand any number of times
        while self.at < len(self.words):
            self._step()
        if self._negated:
            self._doubt("`!` stands at the end")

    def _doubt(self, because: str) -> None:
        self.unread = self.unread or because

    def _is_option(self, at: int) -> bool:
        word = self.words[at]
        return at not in self.quoted and ((len(word) > 1 and word[0] == "-" and not word[1].isdigit()) or word == "!")

    def _take(self, count: int) -> tuple[str, ...] | None:
        values = tuple(self.words[self.at : self.at + count])
        self.at += count
        return values if len(values) == count else None

    def _step(self) -> None:
        at, word = self.at, self.words[self.at]
        self.at += 1
        if not self._is_option(at):
            self._doubt(f"`{word[:40]}` stands where an option was expected")
        elif word == "!":
            if self._negated:
                self._doubt("`!` stands twice")
            self._negated = True
        elif not self._syntax(word):
            self._option(word)
            self._negated = False

    def _syntax(self, word: str) -> bool:
        """What belongs to the rule's frame; False for an option."""
        if word in _COMMANDS:
            values = self._take(1)
            self.command, self.chain = _COMMANDS[word], values[0] if values else ""
        elif word in ("-m", "--match"):
            self._match(self._take(1))
        elif word in ("-j", "--jump", "-g", "--goto"):
            self.is_goto = word in ("-g", "--goto")
            values = self._take(1)
            self.target = values[0] if values else None
            if not values:
                self._doubt(f"`{word}` has no value")
        elif word in ("-c", "--set-counters"):
            values = self._take(2)
            if values and all(value.isascii() and value.isdigit() and len(value) <= 20 for value in values):
                self.packets, self.bytes = int(values[0]), int(values[1])
            else:
                self._doubt("its counters are no numbers")
        elif word in ("-t", "--table"):
            self._take(1)
        else:
            return False
        return True

    def _match(self, values: tuple[str, ...] | None) -> None:
        if not values:
            self._doubt("`-m` has no value")
            return
        name = "icmp6" if values[0] == "icmpv6" else values[0]
        self.matches.append(name)
        if name in EXTENSIONS:
            self._latest.pop(name, None)
            self._latest[name] = len(self.matches) - 1
        else:
            self._doubt(f"the match `{name[:40]}` is not known")

    def _option(self, word: str) -> None:
        spelling, has_equals, value = word.partition("=")
        if not spelling.startswith("--") or not has_equals:
            spelling, has_equals = word, ""
        found = self._find(spelling)
        if found is None:
            self._unknown(word)
            return
        module, match, form = found
        negated = self._negated
        if not has_equals and form.values and self.at < len(self.words) and self.words[self.at] == "!" and self.at not in self.quoted:
            negated = not negated  # `-s ! 10.0.0.0/8`, as iptables wrote it before 1.4.3
            self.at += 1
        if has_equals:
            values: tuple[str, ...] | None = (value,) if form.values == 1 else None
        else:
            values = self._greedy() if form.values == GREEDY else self._take(form.values)
        if values is None:
            self._doubt(f"`{word[:40]}` does not have the number of values that it takes")
            values = ()
        option = Option(module, form.name, values, negated, match)
        (self.target_options if module and module == self.target and match < 0 else self.options).append(option)

    def _greedy(self) -> tuple[str, ...]:
        begin = self.at
        while self.at < len(self.words) and not self._is_option(self.at):
            self.at += 1
        return tuple(self.words[begin : self.at])

    def _unknown(self, word: str) -> None:
        """An option that no module is known to have: its values end where the next option begins."""
        option_name = word.lstrip("-")
        values = self._greedy()
        if self.target is not None:
            self.target_options.append(Option(self.target, option_name, values, self._negated))
        else:
            match = len(self.matches) - 1
            self.options.append(Option(self.matches[match] if self.matches else "", option_name, values, self._negated, match))
        self._doubt(f"the option `{word[:40]}` is not known")

    def _find(self, spelling: str) -> tuple[str, int, Form] | None:
        """The owner of an option: the target, the matches from the last back, the rule itself, or what -p loads."""
        name = spelling[2:] if spelling.startswith("--") else ""
        if name:
            if self.target is not None and (form := _form(self.target, name)):
                return self.target, -1, form
            for module, match in reversed(self._latest.items()):
                if form := _form(module, name):
                    return module, match, form
        if spelling in OWN:
            return "", -1, OWN[spelling]
        protocol = next((one.values[0] for one in self.options[:100] if one.name == "protocol" and one.values and not one.module), "")
        implied = match_of_protocol(protocol)
        if name and implied is not None and implied not in self._latest and (form := _form(implied, name)):
            self._match((implied,))
            return implied, len(self.matches) - 1, form
        return None


def _form(module: str, name: str) -> Form | None:
    """The option of that name, or the only one that begins so: getopt_long(3) takes abbreviations."""
    forms = EXTENSIONS.get(module)
    if not forms:
        return None
    if name in forms:
        return forms[name]
    longer = {form for spelling, form in forms.items() if spelling.startswith(name)}
    return longer.pop() if len(longer) == 1 else None


_COMMANDS = {
    "-A": "append", "--append": "append", "-I": "insert", "--insert": "insert", "-D": "delete", "--delete": "delete",
    "-R": "replace", "--replace": "replace",
}  # fmt: skip


def read_rule(line: str, source: Source, table: str, chains: Collection[str]) -> Rule:
    """One line of a table, `[12:720] -A INPUT …` or without counters; `chains` are the user's and built-in chains that a rule can jump to.

    What is not understood leaves `unread` set, and the text whole.
    """
    packets, octets, text = split_counters(line)
    read = RuleReader(split_words(text))
    unread = read.unread
    if read.command != "append":
        unread = f"`{text[:20]}` is not what iptables-save writes of a rule"
    target = read.target
    if target is not None and target not in chains and not is_target(target):
        unread = f"`{target[:40]}` is neither a chain of the table nor a target that is known"
    return Rule(
        source=source,
        text=text.rstrip(),
        table=table,
        chain=read.chain,
        matches=tuple(read.matches),
        options=tuple(read.options),
        target=target,
        is_goto=read.is_goto,
        target_options=tuple(read.target_options),
        packets=packets if packets is not None else read.packets,
        bytes=octets if octets is not None else read.bytes,
        unread=unread,
    )
