"""Follow the connections of a real client, live or in a capture, and print their request heads.

A client and an interface or a capture go in; heads, and packets as pcapng, come out as they are seen.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from tcpwhy.cli import INCOMPLETE, INTERRUPTED, OK, UNUSABLE
from tcpwhy.cli._options import utc_option
from tcpwhy.cli._terminal import forget_output, paint_for, warn
from tcpwhy.report.color import Paint

if TYPE_CHECKING:
    from tcpwhy.connections.packet import Endpoint
    from tcpwhy.filters.target import Target
    from tcpwhy.record.follow import End, Event, Figures, Follow, FollowRequest, Request


@click.command()
@click.option("--real-client", "clients", multiple=True, metavar="IP[:PORT]", help="The real client; may be given several times.")
@click.option(
    "--connection", "connections", multiple=True, metavar="A:p-B:p", help="Follow this connection at once, whoever it belongs to."
)
@click.option("-i", "interface", metavar="IFACE", help="Capture live at this interface; `any` for all.")
@click.option("-r", "capture", metavar="FILE", help="Read a capture; `-` for standard input, also while it is being written.")
@click.option("--header", "headers", multiple=True, metavar="NAME", help="Print this header of each request, too.")
@click.option(
    "--trusted-hops",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Choose by X-Forwarded-For, Forwarded and X-Real-IP, too: the N-th entry from the right is the client, for N proxies before this "
    "host are trusted.",
)
@click.option("-w", "out", metavar="OUT.pcapng", help="Write the packets of the followed connections; `-` for standard output.")
@click.option("-c", "packets", type=click.IntRange(min=1), metavar="N", help="End after N packets of followed connections.")
@click.option("-p", "not_promiscuous", is_flag=True, help="Do not put the interface into promiscuous mode.")
@click.option("-B", "ring_kib", type=click.IntRange(2048, 2 * 1024 * 1024), default=64 * 1024, show_default=True, metavar="KIB",
              help="Size of the ring between the kernel and tcpwhy.")  # fmt: skip
@click.option("-v", "verbose", is_flag=True, help="Print all lines of each head.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@utc_option
@click.pass_obj
def command(
    color: str,
    clients: tuple[str, ...],
    connections: tuple[str, ...],
    interface: str | None,
    capture: str | None,
    headers: tuple[str, ...],
    trusted_hops: int | None,
    out: str | None,
    packets: int | None,
    not_promiscuous: bool,
    ring_kib: int,
    verbose: bool,
    as_json: bool,
    utc: bool,
) -> int:
    """Follow the connections whose early packets name a real client, and print their HTTP request heads.

    A connection is chosen when a packet of it carries the client in a TOA option of any layout at any offset, when its stream begins
    with a PROXY header that names it, or, with --trusted-hops, when a request's headers do. From then on every packet of both directions
    is followed: what tcpdump cannot do. Only connections that are opened from now on can be chosen by an option; --connection follows one
    that is open already, once `tcpwhy clients` or the balancer's table has told which one it is.

    Live it needs the capability CAP_NET_RAW and nothing else. The interface is in promiscuous mode while it runs, as with tcpdump, unless
    -p is given; the kernel itself ends that with the process. ^C ends it with status 130; what is written is whole.
    """
    from tcpwhy.record.follow import Follow, FollowError, FollowRequest

    if (interface is None) == (capture is None):
        raise click.UsageError("expected either -i IFACE or -r FILE")
    if not clients and not connections:
        raise click.UsageError("expected --real-client IP[:PORT], or --connection A:p-B:p")
    if trusted_hops is not None and not clients:
        raise click.UsageError("--trusted-hops chooses by a client, expected --real-client, too")
    if out == "-" and as_json:
        raise click.UsageError("-w - and --json both write to standard output, expected one of them")
    if out == "-" and sys.stdout.isatty():
        raise click.UsageError("a capture is binary, expected standard output to be a file or a pipe")
    request = FollowRequest(
        clients=tuple(_client(text) for text in clients),
        connections=tuple(_connection(text) for text in connections),
        interface=interface,
        capture=capture,
        out=out,
        packets=packets,
        trusted_hops=trusted_hops,
        promiscuous=not not_promiscuous,
        ring_kib=ring_kib,
    )
    teller = Teller(request, headers, verbose=verbose, as_json=as_json, utc=utc, paint=paint_for(color))
    try:
        return teller.run(Follow(request))
    except BrokenPipeError:  # whoever read it has seen enough
        forget_output()
        return OK
    except FollowError as error:
        click.echo(_line(f"{error.where}: {error.what}"), err=True)
        if error.hint:
            click.echo("\n" + _line(f"hint: {error.hint}"), err=True)
        return UNUSABLE


def _client(text: str) -> Target:
    from tcpwhy.filters.target import parse_target

    try:
        return parse_target(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--real-client") from None


def _connection(text: str) -> tuple[Endpoint, Endpoint]:
    from tcpwhy.connections.selecting import parse_connection

    one, other, moment = parse_connection(text)
    if moment is not None:
        raise click.BadParameter(f"read `@{moment}`, expected no time: what is followed is to come", param_hint="--connection")
    return one, other


def _answer(text: str) -> None:
    """A line of the answer, at once. BrokenPipeError where nobody reads it any more: then there is nothing left to do."""
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def _line(text: str) -> str:
    from tcpwhy.report.escape import visible

    return visible(text)


class Teller:
    """Prints what happens: answers on standard output, the rest on standard error."""

    def __init__(self, request: FollowRequest, headers: tuple[str, ...], *, verbose: bool, as_json: bool, utc: bool, paint: Paint) -> None:
        self._request = request
        self._headers = headers
        self._verbose = verbose
        self._as_json = as_json
        self._utc = utc
        self._paint = paint

    def run(self, follow: Follow) -> int:
        """Tells everything until the end; the exit status."""
        from tcpwhy.record.follow import FollowError
        from tcpwhy.record.signals import Ended, ended_by_signals

        status = OK
        end: End | None = None
        try:
            with ended_by_signals():
                self._begin(follow)
                end = self._tell_all(follow.events())
        except KeyboardInterrupt:
            status = INTERRUPTED
        except Ended as ended:
            status = ended.status
        except BaseException:
            for _ in follow.rest():  # stops it: what is written so far is whole
                pass
            raise
        if end is None:
            try:
                end = self._tell_all(follow.rest())
            except FollowError as error:
                warn(str(error))
                return status
        figures = end.figures if end is not None else follow.figures()
        self._summary(figures, end)
        return status or self._status(figures, end)

    def _begin(self, follow: Follow) -> None:
        if follow.mechanism is None:
            return
        mode = "promiscuous mode" if self._request.promiscuous and self._request.interface != "any" else "not in promiscuous mode"
        warn(f"{self._request.interface}: {follow.mechanism}; {mode}")
        if self._request.clients:
            warn("only connections that are opened from now on can be chosen by their option")

    def _tell_all(self, events: Any) -> End | None:
        from tcpwhy.record.follow import End

        end = None
        for event in events:
            if isinstance(event, End):
                end = event
            else:
                self._tell(event)
        return end

    def _tell(self, event: Event) -> None:
        from tcpwhy.record.follow import Chosen, Encrypted, Notice, Request

        if self._as_json and not isinstance(event, Notice):
            self._write_json(event)
        elif isinstance(event, Request) and self._request.out != "-":
            _answer(self._head(event))
        elif isinstance(event, Chosen):
            name = f" {event.real_client}" if event.real_client else ""
            warn(f"following {event.client} > {event.server}{name}: {event.because}")
        elif isinstance(event, Encrypted):
            warn(f"{event.client} > {event.server} is encrypted or HTTP/2: no request head of it can be read")
        if isinstance(event, Notice):
            warn(event.text)

    def _head(self, request: Request) -> str:
        from tcpwhy.record.follow import all_fields, as_text, asked_fields
        from tcpwhy.report.escape import shortened
        from tcpwhy.report.times import iso_utc, show_time

        words = [
            self._paint("label", show_time(iso_utc(request.time_ns), utc=self._utc)),
            self._paint("heading", request.real_client or "?"),
            f"{request.client} > {request.server}",
            shortened(as_text(request.line)),
        ]
        words += [f"{shortened(name)}: {shortened(value)}" for name, value in asked_fields(request, self._headers)]
        lines = ["  ".join(words)]
        if self._verbose:
            lines += [f"    {shortened(name)}: {shortened(value)}" for name, value in all_fields(request)]
        return "\n".join(lines) + "\n"

    def _write_json(self, event: Event) -> None:
        from tcpwhy.record.follow import Request, all_fields, as_text, asked_fields
        from tcpwhy.report.times import iso_utc

        line: dict[str, Any] = {"schema": "tcpwhy-follow/1", "event": type(event).__struct_config__.tag}
        for name in event.__struct_fields__:
            value = getattr(event, name)
            if name == "time_ns":
                line["time"] = iso_utc(value)
            elif name == "line":
                line["request"] = as_text(value)
            elif name != "fields":
                line[name] = value
        if isinstance(event, Request):
            line["headers"] = [list(field) for field in (all_fields(event) if self._verbose else asked_fields(event, self._headers))]
        _answer(json.dumps(line) + "\n")

    def _summary(self, figures: Figures, end: End | None) -> None:
        if self._as_json:
            counts = {name: getattr(figures, name) for name in figures.__struct_fields__ if name not in ("losses", "losses_more")}
            how = "stopped" if end is None else end.how
            _answer(json.dumps({"schema": "tcpwhy-follow/1", "event": "end", "how": how, **counts}) + "\n")
        warn(f"{figures.connections} connections followed, {figures.followed} packets of them, {figures.requests} request heads")
        if figures.dropped is not None:
            warn(f"{figures.passed} packets passed the filter, {figures.dropped} dropped for want of room in the ring")
        for count, what in (
            (figures.heads_lost, "request heads at least could not be read, for bytes of them are missing"),
            (figures.requests_of_others, "requests on the followed connections are of other clients, by their headers: not shown"),
            (figures.open_before, "connections at least were open before"),
            (figures.untold, "lines were left out, for standard output took them too slowly"),
            (figures.unwritten, "packets were not written, for their time lies before 1970"),
        ):
            if count:
                warn(f"{count} {what}")
        where = self._request.capture or ""
        for offset, what, _ in figures.losses:
            warn(f"{where}: at byte {offset}: {what}")
        if figures.losses_more:
            warn(f"{where}: {figures.losses_more} more places could not be read")

    def _status(self, figures: Figures, end: End | None) -> int:
        where = self._request.interface or self._request.capture or "-"
        if end is None or end.how in ("counted", "read", "stopped", "closed"):
            damaged = figures.losses_more or any(not cut_off for _, _, cut_off in figures.losses)
            return INCOMPLETE if damaged else OK
        if end.how == "gone":
            warn(f"{where}: the interface is gone")
            return INCOMPLETE
        if end.how == "no-capture":
            warn(f"{where}: {end.error}")
            return UNUSABLE
        warn(f"{where if self._request.out is None else self._request.out}: {end.error}")
        return UNUSABLE
