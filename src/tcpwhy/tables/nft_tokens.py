"""The text of `nft list ruleset` goes in; its words, strings and marks come out, each with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

Kind = Literal["word", "string", "mark", "newline"]

_TOKEN = re.compile(
    r"""[^\S\n]*+(?:
      (?P<newline>\n)
    | (?P<comment>\#[^\n]*)
    | "(?P<string>[^"\n]*)"
    | (?P<raw>@(?:ll|nh|th|ih|\d{1,5}),\d{1,6},\d{1,6})
    | (?P<mark>[{}(),;])
    | (?P<word>(?:[^\s{}(),;"\#\[]|\[[^\s\]{}"]{0,80}\]?|\#(?!\s))+)
    | (?P<other>\S)
    | \Z
    )""",
    re.VERBOSE,
)
_HANDLE = re.compile(r"#\s*handle\s+(\d{1,15})")
_LAST_HANDLE = re.compile(r"#\s*handle\s+(\d{1,15})\s*\Z")
LONGEST_NOTE = 4000
"""Characters of a comment that are looked at."""


class Token(NamedTuple):
    """One word, string, mark (`{ } ( ) , ;`) or end of line."""

    kind: Kind
    text: str
    """Of a string, what stands between the quotes; nft has no escapes in them (src/scanner.l)."""
    line: int
    """From 1."""
    start: int
    end: int
    """Where it stands in the text: what touches is one list (`established,related`), what does not is the next element."""
    handle: int | None = None
    """Of an end of line: the number in `# handle 5` before it (`nft -a`)."""
    note: str = ""
    """Of an end of line: the comment before it, where it is more than a handle."""


class NotUnderstood(ValueError):
    """A piece of nft's text that follows no known form; the message says what and why."""


def split_tokens(text: str) -> Iterator[Token]:
    """All tokens, with one newline at the end; comments are left out but for the handle that they tell. Linear in the text."""
    line = 1
    handle: int | None = None
    note = ""
    for found in _TOKEN.finditer(text):
        kind = found.lastgroup
        if kind == "newline":
            yield Token("newline", "\n", line, found.start(kind), found.end(), handle, note)
            line += 1
            handle, note = None, ""
        elif kind == "comment":
            comment = found.group(kind)
            number = _HANDLE.match(comment)
            if number is None:
                note = comment[:LONGEST_NOTE]
                number = _LAST_HANDLE.search(comment, max(0, len(comment) - 40))
            handle = int(number.group(1)) if number else None
        elif kind == "string":
            yield Token("string", found.group(kind), line, found.start(kind) - 1, found.end())
        elif kind == "mark":
            yield Token("mark", found.group(kind), line, found.start(kind), found.end())
        elif kind is not None:
            yield Token("word", found.group(kind), line, found.start(kind), found.end())
    yield Token("newline", "\n", line, len(text), len(text), handle, note)


_END = Token("newline", "\n", 0, -1, -1)


class Reader:
    """Walks over the tokens of one statement or block."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self.position = 0

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        return self.position >= len(self._tokens)

    def peek(self, ahead: int = 0) -> Token:
        """The token that comes next, or after `ahead` others; an end of line behind the last."""
        at = self.position + ahead
        return self._tokens[at] if at < len(self._tokens) else _END

    def take(self) -> Token:
        """The next token. Raises NotUnderstood at the end."""
        if self.is_at_end:
            raise NotUnderstood("it ends too early")
        token = self._tokens[self.position]
        self.position += 1
        return token

    def is_word(self, *words: str, ahead: int = 0) -> bool:
        """Whether the token there is one of these words."""
        token = self.peek(ahead)
        return token.kind == "word" and token.text in words

    def is_mark(self, mark: str, ahead: int = 0) -> bool:
        """Whether the token there is that mark."""
        token = self.peek(ahead)
        return token.kind == "mark" and token.text == mark

    def take_if(self, *words: str) -> str | None:
        """The next word if it is one of these, which is then behind."""
        if self.is_word(*words):
            return self.take().text
        return None

    def expect(self, *words: str) -> str:
        """One of these words or marks. Raises NotUnderstood where another thing stands."""
        token = self.take()
        if token.kind == "string" or token.text not in words:
            raise NotUnderstood(f"`{token.text[:60]}` stands where `{words[0]}` was expected")
        return token.text

    def word(self) -> str:
        """A word or string. Raises NotUnderstood where a mark stands."""
        token = self.take()
        if token.kind not in ("word", "string"):
            raise NotUnderstood(f"`{token.text[:60].strip()}` stands where a name was expected")
        return token.text

    def number(self) -> int:
        """A whole number, decimal or hexadecimal. Raises NotUnderstood where there is none."""
        return read_number(self.word())


_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,32}|\d{1,20}", re.ASCII)


def is_number(word: str) -> bool:
    """Whether nft would read it as a whole number."""
    return _NUMBER.fullmatch(word) is not None


def read_number(word: str) -> int:
    """`80` or `0x00000010`. Raises NotUnderstood for anything else."""
    if not is_number(word):
        raise NotUnderstood(f"`{word[:60]}` is no number")
    return int(word, 16) if word.startswith("0x") else int(word)


_DURATION = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m(?!s))?(?:(\d{1,12})s)?(?:(\d{1,9})ms)?", re.ASCII)


def read_duration(word: str) -> int:
    """`1d2h3m4s5ms` in whole seconds, as nft's JSON has it (src/datatype.c time_print()). Raises NotUnderstood for anything else."""
    found = _DURATION.fullmatch(word)
    if not found or not word:
        raise NotUnderstood(f"`{word[:60]}` is no time")
    days, hours, minutes, seconds, _ = (int(part or 0) for part in found.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds
