"""What an access log says of the tries to reach an upstream server goes in; the try whose connection failed comes out."""

from __future__ import annotations

import dataclasses
import re

from tcpwhy.tables.logs._event import About, What, endpoint, seconds_ns

MOST_TRIES = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Try:
    """A connection towards an upstream server that failed, or that was given up."""

    kind: What
    about: About
    remote: str | None
    waited_ns: int | None


def split_list(text: str) -> list[str]:
    """A list of tries: commas between servers, ` : ` between internal redirects (ngx_http_upstream_module, $upstream_addr)."""
    return [part.strip() for part in re.split(r",| : ", text[:2000]) if part.strip()][:MOST_TRIES]


def failed_try(
    status: str,
    addresses: str,
    statuses: str = "",
    connects: str = "",
    headers: str = "",
    responses: str = "",
    total: str = "",
    lengths: str = "",
) -> Try | None:
    """The first try whose connection failed; None where the server itself gave the answer, whatever it says.

    Each of the lists is as nginx logs it, empty where the format has it not: $upstream_addr, $upstream_status, $upstream_connect_time,
    $upstream_header_time, $upstream_response_time, $upstream_response_length; `status` and `total` are $status and $request_time. `-`
    stands for what never came: no connection, no header. nginx gives itself 502 for a connection that failed, 504 for one that timed
    out (ngx_http_upstream.c ngx_http_upstream_next), and 499 for a client that went away.
    """
    tries = split_list(addresses)
    lists = [split_list(text) for text in (statuses, connects, headers, responses, lengths)]
    for number, where in enumerate(tries):
        own, connect, header, response, length = (_of(values, number, len(tries)) for values in lists)
        last = number == len(tries) - 1
        own = own or (status if last else "")
        if (
            header not in ("", "-")
            or (not header and length not in ("", "-", "0"))
            or (own not in ("502", "504", "499", "-") and not (last and status == "499"))
        ):
            continue  # the server's header came: whatever it says, its connection worked
        kind = _kind(status if last and status == "499" else own, connect)
        if kind is None:
            continue
        waited = seconds_ns(response) or (seconds_ns(total) if len(tries) == 1 else None)
        return Try(kind, "upstream", endpoint(where), waited if kind != "ended" else None)
    if status == "499":
        return Try("canceled", "client", None, seconds_ns(total))
    return None


def _of(values: list[str], number: int, count: int) -> str:
    return values[number] if len(values) == count else ""


def _kind(status: str, connect: str) -> What | None:
    never = connect == "-"
    if status == "499":
        return "canceled"
    if status == "504":
        return "timeout_connecting" if never else "timeout_reading" if connect else "timeout"
    if status == "502":
        return "ended" if connect and not never else "other"
    return None
