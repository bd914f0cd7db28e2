"""A host's own redirect goes in; what is said of it, and the commands that undo it, come out."""

from __future__ import annotations

from tcpwhy.causes._redirect import Redirect, leftovers, removal_of
from tcpwhy.causes._remedies import failing, sentence, walked_with
from tcpwhy.path.trace import Fate

BECOMES = {
    Fate.SENT: "the packet leaves for the address that was asked",
    Fate.FORWARDED: "the packet is forwarded to the address that was asked",
    Fate.ACCEPTED: "the socket that was asked takes it",
}


def explained(redirect: Redirect, server: str) -> str:
    """What is turned where, by which rule, whose that is and who answers."""
    rule = redirect.rule
    who = redirect.who_listens()
    return (
        f"What is sent to {server} is turned to {redirect.target} in {redirect.form} of {redirect.host.name}, by the rule "
        f"{rule.described()}; {redirect.whose()}. {who[:1].upper()}{who[1:]}. "
        + ("The address that was asked never hears of it; " if redirect.form == "OUTPUT" else "")
        + "connect(), ss and strace show it all the same, for answers are turned back."
    )


def fixes(redirect: Redirect) -> tuple[str, ...]:
    """The commands that remove exactly the rules that turn it, as walking without them shows."""
    removal = removal_of(redirect)
    place = redirect.host.name
    commands = " && ".join(f"`{command}`" for command in removal.commands)
    if removal.after is None:
        first = f"on {place}: {commands}; what becomes of it then, its state does not tell"
    else:
        became = BECOMES.get(removal.after.fate, removal.after.fate.value)
        first = f"on {place}: {commands} — walked again without, {became}"
    if redirect.is_martian:
        setting = f"net.ipv4.conf.{redirect.packet.in_interface.replace('.', '/')}.route_localnet=1"
        walks = walked_with(redirect.host, [redirect.packet], [f"sysctl {setting}"])
        if walks and failing(walks[0]) is None:
            opened = f"`sysctl -w {setting}` — walked again with it, {sentence(walks[0])}"
            if removal.after is None or removal.after.fate not in BECOMES:
                return (f"on {place}: {opened}", f"or remove the rule, where it is a leftover: {commands}")
            return (first, f"or, if {redirect.target} is where it should go: {opened}")
    return (
        first,
        *leftovers(redirect),
        "to make it last: take the rule out of what makes it (an init script, iptables-persistent's rules.v4, /etc/nftables.conf)",
        *((f"or start the program that should listen on {redirect.target}",) if redirect.listeners == () else ()),
    )
