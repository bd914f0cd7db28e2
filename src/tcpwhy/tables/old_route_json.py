"""The routes' JSON of iproute2 4.17 to 5.4, which is none, goes in; the same as JSON comes out, line for line.

Those versions print the type without its key, `{"unicast","dst":…` (until 07366177, 5.1); next hops with their device as text,
`"gateway":"10.1.0.1"dev eth0 weight 2 ,"flags":[]` (until 4ecefff3, 5.4); and metrics without their names, `"metrics":[1400 10 ]`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tcpwhy.tables.route_words import TYPES

_TYPE = re.compile(rf'\{{(\s*)"({"|".join(sorted(TYPES))})"(?=\s*,)')
_HOP = re.compile(
    r'(?:"gateway"\s*:\s*"(?P<gateway>[^"\n]*)"|"via"\s*:\s*(?P<via>\{[^{}]*\})|(?P<nothing>\]))\s*'
    r'dev (?P<device>[^\s"]+)(?: weight (?P<weight>\d{1,9}))?\s*,\s*"flags"\s*:\s*(?P<flags>\[[^\[\]]*\])',
    re.ASCII,
)
_METRICS = re.compile(r'("metrics"\s*:\s*\[)(?=\s*[^\s{\]])[^\[\]{}]*\]')


def mend_route_json(lines: Sequence[str]) -> Sequence[str]:
    """The lines with types, next hops (as `nexthop`, once each) and metrics (left out) as JSON; as they are where they already are."""
    text = "\n".join(lines)
    if not (_TYPE.search(text) or _HOP.search(text)):
        return lines
    text = _TYPE.sub(r'{\1"type":"\2"', text)
    text = _HOP.sub(_hop, text)
    text = _METRICS.sub(lambda found: found[1] + "\n" * (found[0].count("\n") - found[1].count("\n")) + "]", text)
    return text.split("\n")


def _hop(found: re.Match[str]) -> str:
    parts = [f'"dev":"{found["device"]}"', f'"weight":{found["weight"] or 1}', f'"flags":{found["flags"]}']
    if found["gateway"] is not None:
        parts.insert(0, f'"gateway":"{found["gateway"]}"')
    elif found["via"] is not None:
        parts.insert(0, f'"via":{found["via"]}')
    hop = f'"nexthop":{{{",".join(parts)}}}'
    before = "]," if found["nothing"] else ""
    return before + hop + "\n" * (found[0].count("\n") - hop.count("\n"))
