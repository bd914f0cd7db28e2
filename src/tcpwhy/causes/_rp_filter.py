"""A packet that a host's reverse-path check drops goes in; the settings that count, and which changes help, comes out, each walked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tcpwhy.causes._counted import Counted
from tcpwhy.causes._ends import deciding
from tcpwhy.causes._remedies import failing, sentence, walked_with
from tcpwhy.causes._verdict import Exhibit
from tcpwhy.path.packet import Packet
from tcpwhy.path.trace import Fate, Stage, Step, Trace

if TYPE_CHECKING:
    from tcpwhy.tables.host import HostTables
    from tcpwhy.tables.sysctls import Setting

DROPIN = "/etc/sysctl.d/90-rp-filter.conf"


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """The check that failed, and its settings."""

    interface: str
    step: Step
    all: Setting | None
    own: Setting | None
    """Of the interface."""

    @property
    def effective(self) -> int | None:
        """The larger of the two (include/linux/inetdevice.h IN_DEV_RPFILTER: IN_DEV_MAXCONF); None where one was not collected."""
        values = [setting.number for setting in (self.all, self.own) if setting is not None and setting.number is not None]
        return max(values) if len(values) == 2 else None

    @property
    def counting(self) -> str:
        """Which of the two counts, in words."""
        if self.all is None or self.own is None or self.all.number is None or self.own.number is None:
            return "the larger of the two counts, and not both were collected"
        if self.all.number > self.own.number:
            return f"that of `all` counts: the kernel takes the larger of the two, and {self.interface}'s own {self.own.number} is smaller"
        if self.own.number > self.all.number:
            return f"that of {self.interface} counts: the kernel takes the larger of the two, and `all` has {self.all.number}"
        return f"both have it: the kernel takes the larger of the two, so that lowering one alone leaves {self.all.number}"

    def named(self) -> str:
        """Both settings with their lines."""
        parts = [f"{one.key} = {one.value.strip()} ({one.source})" for one in (self.all, self.own) if one is not None]
        return " and ".join(parts)


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """Settings that were tried, and what the packet does with them."""

    settings: tuple[tuple[str, int], ...]
    """Key and value."""
    helps: bool
    text: str
    """What becomes of the packet."""

    @property
    def commands(self) -> str:
        """`sysctl -w KEY=VALUE`, all of them."""
        return " ".join(["sysctl -w", *(f"{key}={value}" for key, value in self.settings)])


def check_of(host: HostTables, trace: Trace) -> Check | None:
    """The check by the kernel's rp_filter in which a packet ends; None where a firewall's rule did it."""
    step = deciding(trace)
    if trace.fate is not Fate.REVERSE_PATH or step is None:
        return None
    last = next((one for one in reversed(trace.steps) if one.stage is Stage.SOURCE_CHECK), step)
    return Check(last.before.in_interface, last, *settings_of(host, last.before.in_interface))


def settings_of(host: HostTables, interface: str) -> tuple[Setting | None, Setting | None]:
    """rp_filter of `all` and of an interface."""
    if host.sysctls is None:
        return None, None
    return host.sysctls.get("net.ipv4.conf.all.rp_filter"), host.sysctls.of_interface("rp_filter", interface)


def trials(host: HostTables, packets: Sequence[Packet], check: Check) -> list[Trial]:
    """Changes of the two settings, each walked with these packets: the gentlest first."""
    own, of_all = f"net.ipv4.conf.{check.interface.replace('.', '/')}.rp_filter", "net.ipv4.conf.all.rp_filter"
    sets: list[tuple[tuple[str, int], ...]] = [((own, 2),), ((own, 0),), ((of_all, 0),), ((of_all, 0), (own, 0))]
    return [_tried(host, packets, settings) for settings in sets if len(settings) == 1 or _is_above_zero(check.all)]


def _is_above_zero(setting: Setting | None) -> bool:
    return setting is None or setting.number is None or setting.number > 0


def _tried(host: HostTables, packets: Sequence[Packet], settings: tuple[tuple[str, int], ...]) -> Trial:
    walks = walked_with(host, packets, [f"sysctl {key}={value}" for key, value in settings]) or []
    failed = next((one for one in walks if failing(one) is not None), None)
    told = failed or (walks[0] if walks else None)
    return Trial(settings, bool(walks) and failed is None, sentence(told) if told is not None else "it cannot be tried")


def fixes(place: str, check: Check, tried: Sequence[Trial]) -> tuple[str, ...]:
    """What helps, how to make it last, and what would not help: each as the walk shows it."""
    helping = [trial for trial in tried if trial.helps]
    advice: list[str] = []
    source, interface = check.step.before.source, check.interface
    if helping:
        best = helping[0]
        became = best.text[:1].lower() + best.text[1:]
        advice.append(f"on {place}: `{best.commands}` — walked again with it, the packet passes: {became}")
        lines = "; ".join(f"`{key} = {value}`" for key, value in best.settings)
        advice.append(
            f"to make it last: write {lines} into {DROPIN}; a key of {interface} is only taken once {interface} exists, so apply the file "
            f"after the interface is made (`sysctl -p {DROPIN}` behind whatever makes it)"
        )
        if any(value == 0 for _, value in best.settings):
            advice.append(f"or, to keep the check: give {source} a route back by {interface}, if that is the way")
    else:
        advice.append(f"give the host a route back to {source} by {interface}: no value of rp_filter alone mends it")
    vain = [f"what does not help: `{trial.commands}` alone — walked again, {trial.text}" for trial in tried if not trial.helps]
    return (*advice, *vain)


def explained(place: str, check: Check, counter: Counted | None, name: str) -> str:
    """A paragraph: where the packet came, what the route back says, both settings and which counts, and the counter."""
    strictness = {1: "1 (strict)", 2: "2 (loose)"}.get(check.effective or -1, str(check.effective))
    text = f"The {name} comes to {place} by {check.interface}. {check.step.text[:1].upper()}{check.step.text[1:]}. "
    if check.effective is None:
        text += f"The settings: {check.named()}; {check.counting}."
    else:
        text += f"Two settings decide: {check.named()}; so it is {strictness} for {check.interface}: {check.counting}."
    if counter is None:
        return f"{text} IPReversePathFilter was not collected: the settings and the routes alone say so."
    source = f"({counter.exhibit.file}:{counter.exhibit.line})"
    if counter.proves or not counter.happened:
        return f"{text} {counter.exhibit.text} {source}."
    return f"{text} {counter.exhibit.text} {source}, which shows that such drops happened, not when."


def check_exhibits(place: str, check: Check, counter: Counted | None) -> tuple[Exhibit, ...]:
    """Both settings, the route back, and the counter."""
    shown = [Exhibit("state", place, one.source.file, f"{one.key} = {one.value.strip()}", line=one.source.line)
             for one in (check.all, check.own) if one is not None]  # fmt: skip
    known = {(one.file, one.line) for one in shown}
    shown += [Exhibit("state", place, source.file, check.step.text, line=source.line)
              for source in check.step.sources if (source.file, source.line) not in known]  # fmt: skip
    return (*shown, counter.exhibit) if counter is not None else tuple(shown)
