"""Walk a described packet through a host's state: every hook, rule, route and setting, to its end.

A host's state and a packet in words go in; its steps, its fate and its answer's way come out.
"""

from __future__ import annotations

import click

from tcpwhy.cli import INCOMPLETE, OK
from tcpwhy.cli._terminal import paint_for, text_width, warn, write_answer


@click.command()
@click.argument("state", metavar="STATE")
@click.argument("packet", metavar="PACKET")
@click.option("--vantage", metavar="NAME", help="The vantage point whose state is meant, where STATE holds several.")
@click.option("--before", is_flag=True, help="The earlier snapshot (state-before/) instead of the later one.")
@click.option("--with", "with_", multiple=True, metavar="CHANGE",
              help="Walk again with this in place: `sysctl KEY=VALUE` or `address IP/LENGTH dev IFACE`.")  # fmt: skip
@click.option("--without", multiple=True, metavar="RULE",
              help="Walk again without this rule: its text, FILE:LINE, or nft's `FAMILY TABLE CHAIN handle N`.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/path.md).")
@click.pass_obj
def command(
    color: str, state: str, packet: str, vantage: str | None, before: bool, with_: tuple[str, ...], without: tuple[str, ...], as_json: bool
) -> int:
    """Walk PACKET through STATE in the kernel's order, and its answer back.

    STATE is a state folder, a vantage point's folder, a case, or an archive of `tcpwhy collect` or sosreport. PACKET says where it is,
    and what it is: 'in eth0: tcp 10.1.0.2:49880 > 10.20.73.29:80 S', 'out: tcp 10.0.0.1:4000 > 1.2.3.4:80 S uid 1000',
    'in eth0: ipip 10.0.0.9 > 10.0.0.3: tcp 192.0.2.7:4000 > 198.51.100.1:80 S'; mark, dscp, ttl, length, uid, gid and ct STATE may
    follow. Nothing is sent. What the state does not tell is walked both ways; a fate that differs is unknown, with the lines on which
    it hangs. Exit status 3: part of the state could not be read or understood; what, is said on standard error and in the JSON.
    """
    from tcpwhy.evidence import open_state
    from tcpwhy.path import parse_packet, unlisted_settings, walk, with_changes
    from tcpwhy.report.json import encode_json
    from tcpwhy.report.walk import render_walk, report_walk
    from tcpwhy.tables.host import HostTables

    described = parse_packet(packet)
    with open_state(state, vantage, before=before) as opened:
        host = HostTables(opened)
        changes = (*with_, *(f"without {rule}" for rule in without))
        walked = walk(host, described)
        proposed = walk(with_changes(host, changes), described) if changes else None
        unread = [found.note for found in host.unread_files()]
        notes = (*opened.notes, *unread)
        for note in notes:
            warn(note)
        for key in unlisted_settings(host, changes):
            warn(f"--with: {key} is none of the settings that were collected; its name is taken as it is")
    if as_json:
        write_answer(encode_json(report_walk(opened.vantage_point, walked, proposed, changes, notes)).decode())
    else:
        write_answer(render_walk(walked, proposed, changes, width=text_width(), paint=paint_for(color)))
    return INCOMPLETE if unread or opened.has_losses else OK
