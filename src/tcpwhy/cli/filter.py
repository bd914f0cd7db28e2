"""Print ready filters for tcpdump, Wireshark, nft and iptables.

What is looked for goes in, expressions that a tool takes as they are come out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tcpwhy.cli import OK
from tcpwhy.cli._terminal import paint_for, text_width, write_answer

if TYPE_CHECKING:
    from tcpwhy.filters import IpVersion, Offsets, Tool

TOOLS: tuple[Tool, ...] = ("tcpdump", "wireshark", "nft", "iptables")


@click.group("filter")
def command() -> None:
    """Print ready filters for tcpdump, Wireshark, nft and iptables. Nothing is captured and no rule is set."""


@command.command("real-client")
@click.argument("client", metavar="IP[:PORT]")
@click.option("--for", "tool", type=click.Choice(TOOLS), help="Print this tool's bare expression and nothing else.")
@click.option("--layout", "names", multiple=True, metavar="NAME",
              help="Look for this layout only: an option's kind (254) or kind and length (254/8). May be given again.")  # fmt: skip
@click.option("--offsets", type=click.Choice(["every", "aligned", "first"]),
              help="Where tcpdump and iptables, which cannot walk options, look: at every offset (default), at multiples of four, or "
              "directly behind the base header.")  # fmt: skip
@click.option("--vlan", is_flag=True, help="tcpdump: inside one or two VLAN tags too.")
@click.option("--u32", is_flag=True, help="iptables: the u32 match, for kernels without the bpf match.")
@click.option("-4", "only", flag_value="4", help="IPv4 packets only.")
@click.option("-6", "only", flag_value="6", help="IPv6 packets only; of iptables the lines for ip6tables.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/schema/tcpwhy-filter-1.json).")
@click.pass_obj
def real_client(
    color: str,
    client: str,
    tool: Tool | None,
    names: tuple[str, ...],
    offsets: Offsets | None,
    vlan: bool,
    u32: bool,
    only: str | None,
    as_json: bool,
) -> int:
    """Find packets whose TCP option (TOA) names IP[:PORT] as the client.

    A balancer may write that option. IP is 1.2.3.4, 1.2.3.4:4660, 2001:db8::1 or [2001:db8::1]:4660. Without --for all filters are
    printed, each with what else it matches and what it misses; with it one goes straight to the tool:

    \b
      tcpdump -i eth0 "$(tcpwhy filter real-client 1.2.3.4 --for tcpdump)"
      tshark -r FILE -Y "$(tcpwhy filter real-client 1.2.3.4 --for wireshark)"

    nft and iptables have no `or`: each line is for a rule of its own, and iptables' lines are for IPv4 packets unless -6 is given.
    The option is on a connection's early packets only; `tcpwhy follow` stays with the connection.
    """  # noqa: D301
    from tcpwhy.filters import LayoutError, Wanted, parse_target, pick_layouts, ready_filters
    from tcpwhy.report.filters import render_filters
    from tcpwhy.report.json import encode_json

    try:
        target = parse_target(client)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="IP[:PORT]") from None
    try:
        layouts = pick_layouts(names, target)
    except LayoutError as error:
        raise click.BadParameter(str(error), param_hint="--layout") from None
    for name, given, its_tools in (
        ("--vlan", vlan, ("tcpdump",)),
        ("--u32", u32, ("iptables",)),
        ("--offsets", offsets, ("tcpdump", "iptables")),
    ):
        if given and tool is not None and tool not in its_tools:
            raise click.UsageError(f"{name} is for {' and '.join(its_tools)}, not for {tool}")
    versions: tuple[IpVersion, ...] = (4, 6) if only is None else (4,) if only == "4" else (6,)
    if tool == "iptables" and only is None and not as_json:
        versions = (4,)
    wanted = Wanted(target, layouts, offsets or "every", versions)
    every_form = tool is None and not (offsets or vlan or u32)
    tools = TOOLS if tool is None else (tool,)
    answer = ready_filters(wanted, tools=tools, every_form=every_form, vlan=vlan, u32=u32, named_layouts=names)
    if as_json:
        write_answer(encode_json(answer).decode())
    elif tool is not None:
        write_answer("".join(f"{line}\n" for ready in answer.filters for line in ready.expressions))
    else:
        write_answer(render_filters(answer, width=text_width(), paint=paint_for(color)))
    return OK
