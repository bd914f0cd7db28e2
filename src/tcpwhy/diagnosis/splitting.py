"""The causes that a connection's evidence leaves standing go in; the one piece of evidence that splits them comes out first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tcpwhy.causes import Found, Open
from tcpwhy.causes._asking import PARTED


def request_of(text: str) -> str:
    """The request itself, without what it decides."""
    return text.partition(PARTED)[0]


def splitting_first(cause: str, standing: Mapping[str, Found | Open]) -> tuple[str, ...]:
    """What to collect next for one of several standing causes.

    First the request that most of them make, for whatever it brings decides between those; it names them. Of equally many the one
    that the first cause in the order of names makes first. Then the cause's own further requests.
    """
    own = standing[cause].next_evidence
    if len(standing) < 2:
        return own
    asking: Counter[str] = Counter()
    for name in sorted(standing):
        asking.update(list(dict.fromkeys(request_of(text) for text in standing[name].next_evidence)))
    if not asking:
        return own
    chosen, votes = asking.most_common(1)[0]
    decided = sorted(name for name, verdict in standing.items() if chosen in {request_of(text) for text in verdict.next_evidence})
    mine = next((text for text in own if request_of(text) == chosen), None)
    theirs = next(text for name in decided for text in standing[name].next_evidence if request_of(text) == chosen)
    rest = tuple(text for text in own if request_of(text) != chosen)
    if votes < 2:
        return own or (theirs,)
    first = f"{mine or theirs} (it decides between {', '.join(decided)})"
    return (first, *rest)
