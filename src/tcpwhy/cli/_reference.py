"""Commands, catalogue and fates go in; docs/commands.md, docs/causes.md and docs/path.md go out with their own words in them.

`python -m tcpwhy.cli._reference` writes them anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from tcpwhy.cli import main

WIDTH = 100
_BLOCK = re.compile(r"(<!-- help ([a-z -]*)-->\n).*?(<!-- /help -->\n)", re.DOTALL)
_CAUSES = re.compile(r"(<!-- causes -->\n).*?(<!-- /causes -->\n)", re.DOTALL)
_FATES = re.compile(r"(<!-- fates -->\n).*?(<!-- /fates -->\n)", re.DOTALL)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and subcommand with its words: `diagnose`, `lab run`."""
    context = click.Context(main, info_name="tcpwhy")
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        if command is None:
            continue
        yield name, command
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                found = command.get_command(context, inner)
                if found is not None:
                    yield f"{name} {inner}", found


def help_of(words: str) -> str:
    """What `tcpwhy WORDS --help` prints, at WIDTH columns; of tcpwhy itself for no words."""
    command: click.Command = main if not words else dict(commands())[words]
    context = click.Context(command, info_name=f"tcpwhy {words}".strip(), terminal_width=WIDTH, help_option_names=["-h", "--help"])
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def with_help(text: str) -> str:
    """A page with each `<!-- help NAME -->` block filled."""

    def filled(match: re.Match[str]) -> str:
        return f"{match[1]}```text\n{help_of(match[2].strip())}\n```\n{match[3]}"

    return _BLOCK.sub(filled, text)


def with_causes(text: str) -> str:
    """A page with its `<!-- causes -->` block filled: each id of the contract, and its page."""
    from tcpwhy.causes import ALL_IDS, catalogue, real_case
    from tcpwhy.report.page import render_page

    pages = {page.id: page for page in catalogue()}
    lines = ["| id | what it is |", "| --- | --- |"]
    lines += [f"| `{cause}` | {pages[cause].title} |" for cause in ALL_IDS]
    for cause in ALL_IDS:
        page = render_page(cause, pages[cause].title, pages[cause].headings, real_case(cause))
        lines += ["", f"## {cause}", "", "```text", page.partition("\n\n")[2].rstrip("\n"), "```"]
    return _CAUSES.sub(lambda match: match[1] + "\n".join(lines) + "\n" + match[2], text)


def with_fates(text: str) -> str:
    """A page with its `<!-- fates -->` block filled: each fate of a packet, and the condition under which it is said."""
    from tcpwhy.path import Fate

    lines = ["| fate | what it means |", "| --- | --- |", *(f"| `{fate.value}` | {fate.condition} |" for fate in Fate)]
    return _FATES.sub(lambda match: match[1] + "\n".join(lines) + "\n" + match[2], text)


def write(folder: Path) -> None:
    """Writes the pages anew."""
    for name, fill in (("commands.md", with_help), ("causes.md", with_causes), ("path.md", with_fates)):
        path = folder / name
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
