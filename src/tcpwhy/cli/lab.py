"""Make faults happen on a real kernel and write them as cases.

Names and options come in from the command line, cases go out as folders.
"""

from __future__ import annotations

from pathlib import Path

import click

from tcpwhy import lab


@click.group("lab")
def command() -> None:
    """Make a fault happen on a real Linux kernel and write it as a case.

    Hosts are network namespaces, on this machine's own kernel where it has what a scenario needs and namespaces may
    be made, else in User Mode Linux. Each run leaves NAME/ (the case) and NAME.expected.json (what is true of it),
    and nothing else: no process, no namespace, no mount.
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table.")
def list_scenarios(as_json: bool) -> None:
    """List the scenarios: name, cause, where it can run here, title."""
    rows = []
    for name, scenario in lab.catalogue().items():
        try:
            where = lab.choose(scenario.needs)
        except lab.CannotRun as reason:
            where = f"cannot run: {reason}"
        rows.append({"name": name, "cause": scenario.cause, "runs_in": where, "title": scenario.title})
    if as_json:
        click.echo(lab.as_json(rows))
        return
    for row in rows:
        click.echo(f"{row['name']}\n    {row['cause'] or 'healthy'}; {row['runs_in']}\n    {row['title']}")


@command.command("run")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Where the cases go.")
@click.option("--seed", type=int, default=1, show_default=True, help="Addresses, ports, sizes and names follow from it.")
@click.option("--variant", "variants", multiple=True, metavar="K=V", help="How the case is taken, see below.")
@click.option("--runner", type=click.Choice(["auto", "namespaces", "uml"]), default="auto", show_default=True)
@click.option("--keep", is_flag=True, help="Leave the namespaces standing until Enter is pressed (one run at a time).")
def run(names: tuple[str, ...], out: Path, seed: int, variants: tuple[str, ...], runner: str, keep: bool) -> None:
    """Run scenarios; NAME may hold * for anything.

    \b
    Variants:
      capture=iface|any|any-sll   one capture an interface, or tcpdump -i any
      ip=4|6                      address family
      vlan=ID  vxlan=VNI          every link tagged, or a tunnel
      snap=BYTES                  snap length
      format=pcap|pcapng|nano     file format
      clocks=together|apart       some vantage points' clocks are seconds off
      places=A,B|all              the vantage points that stay in the case
      state=none|ss|full|both     the hosts' state, taken at the end (both: before as well)
      zone=Asia/Shanghai          the zone of the hosts' logs
      load=TIMES                  so many times the everyday connections beside the story
    """  # noqa: D301 - click's mark for text that is not to be rewrapped is the character itself
    try:
        words = dict(_split(word) for word in variants)
        wanted = [name for pattern in names for name in lab.matching(pattern)]
        cases = lab.run_scenarios(
            wanted,
            out,
            seed,
            words,
            runner=runner,
            keep=_look if keep else None,
            tell=lambda line: click.echo(line, err=True),
        )
    except (lab.UnknownOption, lab.UnknownScenario, lab.CannotRun) as error:
        raise _Unusable(str(error)) from None
    except lab.RunFailed as error:
        raise _Unusable(str(error)) from None
    for case in cases:
        click.echo(f"{case.folder}\t{len(lab.failed_of(case))} failed\t{case.expected}")


class _Unusable(click.ClickException):
    """The call, or this machine, was unusable: one line and status 2."""

    exit_code = 2


def _split(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise _Unusable(f"--variant: read `{word}`, expected K=V")
    return key, value


def _look(runner: str, process: int, listing: str) -> None:
    """Says how to look into a kept world, and waits for Enter."""
    if runner == "uml":
        click.echo(
            "kept in User Mode Linux, which cannot be entered from outside; see the case's scratch folder",
            err=True,
        )
    else:
        click.echo(f"look around with: nsenter -t {process} -n -m -p -r ip netns exec NAME COMMAND", err=True)
    click.echo(listing, err=True)
    click.pause("Enter ends it", err=True)
