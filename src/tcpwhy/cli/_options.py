"""Arguments and options that several commands share: declared once, the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def case_argument(command: Command) -> Command:
    """CASE…: at least one."""
    return click.argument("case", nargs=-1, required=True, metavar="CASE...")(command)


def connection_argument(command: Command) -> Command:
    """CONNECTION: the last one."""
    return click.argument("connection", metavar="CONNECTION")(command)


def index_option(command: Command) -> Command:
    """--no-index."""
    return click.option("--no-index", is_flag=True, help="Leave no index beside the captures.")(command)


def utc_option(command: Command) -> Command:
    """--utc."""
    return click.option("--utc", is_flag=True, help="Show times in UTC instead of local time.")(command)


def filter_option(command: Command) -> Command:
    """--filter."""
    return click.option(
        "--filter",
        "filter_text",
        metavar="EXPR",
        help="Only connections that match: pcap-filter's host, net, port, portrange, src, dst, tcp, ip, ip6, and, or, not, brackets.",
    )(command)
