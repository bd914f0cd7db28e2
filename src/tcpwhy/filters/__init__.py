"""A real client's address goes in; ready expressions that find the TCP option which carries it come out, for four tools."""

from tcpwhy.filters.answer import FilterAnswer, ReadyFilter, ready_filters
from tcpwhy.filters.layout import LAYOUTS, Layout, LayoutError, pick_layouts
from tcpwhy.filters.target import Target, parse_target
from tcpwhy.filters.wanted import IpVersion, Offsets, Tool, Wanted

__all__ = [
    "LAYOUTS",
    "FilterAnswer",
    "IpVersion",
    "Layout",
    "LayoutError",
    "Offsets",
    "ReadyFilter",
    "Target",
    "Tool",
    "Wanted",
    "parse_target",
    "pick_layouts",
    "ready_filters",
]
