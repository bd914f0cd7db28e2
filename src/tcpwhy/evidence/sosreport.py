"""The folder of a sosreport goes in; its files by the state files whose form they have, its host, and what failed there come out.

The names are those of sos 3.0 to 4.10: a command's output is kept under `sos_commands/PLUGIN/` by the command's words joined with `_`
(sos/report/plugins/__init__.py _mangle_command()), with its errors in the same file, and not at all where the program is missing.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from pathlib import Path

from tcpwhy.evidence.state import Host

SOS = "sos_commands"


def _paths(*names: str) -> tuple[str, ...]:
    return tuple(f"{SOS}/{name}" for name in names)


def _listing(program: str, table: str) -> tuple[str, ...]:
    """`-t TABLE -nvL` of both plugins that have had it; of the filter table `-vnxL` first, whose counters are not rounded."""
    plugins = ("firewall_tables", "networking")
    exact = [f"{plugin}/{program}_-vnxL" for plugin in plugins] if table == "filter" else []
    return _paths(*exact, *(f"{plugin}/{program}_-t_{table}_-nvL" for plugin in plugins))


SOSREPORT_FILES: dict[str, tuple[str, ...]] = {
    "ip-link.json": _paths("networking/ip_-s_-d_link", "networking/ip_link"),
    "ip-addr.json": _paths("networking/ip_-d_address", "networking/ip_address", "networking/ip_-o_addr"),
    "ip-neigh.json": _paths("networking/ip_-s_-s_neigh_show", "networking/ip_neigh_show"),
    "ip-route.json": _paths("networking/ip_route_show_table_all"),
    "ip6-route.json": _paths("networking/ip_-6_route_show_table_all"),
    "ip-rule.json": _paths("networking/ip_-4_rule_list", "networking/ip_-4_rule"),
    "ip6-rule.json": _paths("networking/ip_-6_rule_list", "networking/ip_-6_rule"),
    "ip-route-cache.txt": _paths("networking/ip_-d_route_show_cache"),
    "tc.txt": _paths("networking/tc_-s_qdisc_show"),
    "ss-tcp.txt": _paths("networking/ss_-peaonmi"),
    "nstat.txt": _paths("networking/nstat_-zas"),
    "sysctl.txt": _paths("kernel/sysctl_-a"),
    "nft-ruleset.txt": _paths(
        "firewall_tables/nft_-a_list_ruleset",
        "firewall_tables/nft_list_ruleset",
        "networking/nft_-a_list_ruleset",
        "networking/nft_list_ruleset",
        "firewalld/nft_list_ruleset",
    ),
    **{
        f"{program}-listing-{table}.txt": _listing(program, table)
        for program in ("iptables", "ip6tables")
        for table in ("filter", "nat", "mangle", "raw", "security")
    },
    "conntrack.txt": (*_paths("conntrack/conntrack_-L_-o_extended"), "proc/net/nf_conntrack"),
    "conntrack-stats.txt": _paths("conntrack/conntrack_-S"),
    "ipvsadm-rules.txt": _paths("ipvs/ipvsadm_-Ln"),
    "ipvsadm-connections.txt": _paths("ipvs/ipvsadm_-Ln_--connection"),
    "proc-net-tcp.txt": ("proc/net/tcp",),
    "proc-net-tcp6.txt": ("proc/net/tcp6",),
    "proc-net-netstat.txt": ("proc/net/netstat",),
    "proc-net-snmp.txt": ("proc/net/snmp",),
    "proc-net-ip_vs.txt": ("proc/net/ip_vs",),
    "proc-net-ip_vs_conn.txt": ("proc/net/ip_vs_conn",),
}
"""State file → the paths in a sosreport that have its form, best first; the text of ip stands under the names of its JSON."""

_HOSTNAME = ("hostname", *_paths("host/hostname", "general/hostname"), "etc/hostname")
_UNAME = ("uname", *_paths("kernel/uname_-a"))
_UTC = _paths("date/date_--utc")
_DATE = ("date", *_paths("date/date", "general/date"))

SOSREPORT_PATHS = frozenset(path for paths in (*SOSREPORT_FILES.values(), _HOSTNAME, _UNAME, _UTC, _DATE) for path in paths)
"""All that is read of a sosreport, by its usual path; see is_sosreport_path()."""

_NUMBER = re.compile(r"\d{1,10}", re.ASCII)
_OF_PROCESS = re.compile(r"proc/\d{1,10}/net/", re.ASCII)


def is_sosreport_path(path: str) -> bool:
    """Whether a file is read that has this path in a sosreport: `/proc/net` is a link to the folder of sos's own process (proc(5))."""
    return path in SOSREPORT_PATHS or _OF_PROCESS.sub("proc/net/", path, count=1) in SOSREPORT_PATHS


_MAY_BE_EMPTY = frozenset(
    (
        *("ip-neigh.json", "ip-rule.json", "ip6-rule.json", "ip6-route.json", "ip-route-cache.txt", "tc.txt", "nft-ruleset.txt"),
        *("conntrack.txt", "conntrack-stats.txt"),
    )
)
"""The other programs print a heading, or at least the loopback interface: where there is nothing, they did not run."""

_ERROR = re.compile(
    r"command not found|: not found$|No such file or directory|failed to run command|[Pp]ermission denied|Operation not permitted"
    r"|Operation not supported|Operation failed|RTNETLINK answers|Cannot open netlink|Cannot talk to rtnetlink|Dump terminated"
    r"|is unknown, try|[Cc]an't initialize|needs to be upgraded|Could not open socket|modprobe: FATAL|must be root|[Ii]nvalid option"
    r"|unrecognized option|[Uu]nknown option|cache initialization failed|Protocol not supported|timed out"
)
_ERROR_LINES = 10
_HEAD = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Sosreport:
    """What a sosreport holds of its host's state."""

    files: dict[str, Path]
    """By state file."""
    host: Host


def read_sosreport(folder: Path) -> Sosreport:
    """The folder that holds `sos_commands`.

    A file that holds nothing but the error of its command was not collected; `Host.failed` names it.
    """
    files: dict[str, Path] = {}
    failed: dict[str, str] = {}
    own = _net_folder(folder)
    for name, paths in SOSREPORT_FILES.items():
        for usual in paths:
            path = usual.replace("proc/net", own, 1) if usual.startswith("proc/net/") else usual
            reason = _failure(folder / path, name)
            if reason is None:
                files[name] = folder / path
                break
            if reason:
                failed.setdefault(name, f"{path}: {reason}")
    kept = tuple((name, reason) for name, reason in failed.items() if name not in files)
    return Sosreport(files, dataclasses.replace(read_sosreport_host(folder), failed=kept))


def _net_folder(folder: Path) -> str:
    """`proc/net`, or the one `proc/PID/net` where that link is lost, as in an archive that is unpacked without links.

    With the folders of several processes it is not told which of them was sos's own, and none is taken.
    """
    if (folder / "proc" / "net").is_dir():
        return "proc/net"
    try:
        names = [entry.name for entry in (folder / "proc").iterdir() if _NUMBER.fullmatch(entry.name) and (entry / "net").is_dir()]
    except OSError:
        names = []  # there is no /proc in it
    return f"proc/{names[0]}/net" if len(names) == 1 else "proc/net"


def read_sosreport_host(folder: Path) -> Host:
    """Name, kernel, time and offset of its host, as far as it tells them."""
    name = next((text for text in (_first_line(folder / path) for path in _HOSTNAME) if _is_name(text)), None)
    uname = next((text for text in (_first_line(folder / path).split() for path in _UNAME) if len(text) > 2), ["", "", ""])
    utc = next((time for time in (_time(_first_line(folder / path)) for path in _UTC) if time is not None), None)
    local = next((time for time in (_time(_first_line(folder / path)) for path in _DATE) if time is not None), None)
    offset = None
    if utc is not None and local is not None:
        quarters = round((local[0] - utc[0]).total_seconds() / 900)  # all zones are whole quarters of an hour from UTC
        offset = quarters * 900 if abs(quarters) <= 72 else None
    elif local is not None:
        offset = _offset(local[1])
        if offset is not None:
            utc = (local[0] - datetime.timedelta(seconds=offset), "UTC")
    time_ns = None
    if utc is not None:
        time_ns = int((utc[0] - datetime.datetime(1970, 1, 1)).total_seconds()) * 1_000_000_000
    return Host(name=name, kernel=uname[2] or None, time_ns=time_ns, utc_offset_s=offset)


def _failure(path: Path, name: str) -> str | None:
    """Why the file says nothing: the empty text where it is absent; None where it says something."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    lines = [line.strip() for line in head.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        return None if name in _MAY_BE_EMPTY else "is empty: its command did not run"
    if len(head) < _HEAD and len(lines) <= _ERROR_LINES and all(_ERROR.search(line[:500]) for line in lines):
        return lines[0][:200]
    return None


def _first_line(path: Path) -> str:
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            return stream.read(_HEAD).decode("utf-8", "replace").strip().split("\n")[0].strip()
    except OSError:
        return ""  # read_sosreport() says so of what is state; a host without a name is one that gave none


def _is_name(text: str) -> bool:
    return bool(text) and "/" not in text and " " not in text and text.isprintable() and len(text) <= 255


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CLOCK = re.compile(r"(\d{1,2}):(\d\d):(\d\d)(?: ([AP])M)? (\S+)", re.ASCII)
_MONTH = "|".join(_MONTHS)
_DAY = re.compile(rf"\b(?:({_MONTH}) +(\d{{1,2}})|(\d{{1,2}}) ({_MONTH}))\b", re.ASCII)
_YEAR = re.compile(r"\b(\d{4})\b", re.ASCII)


def _time(text: str) -> tuple[datetime.datetime, str] | None:
    """`Tue Sep 29 10:15:31 CEST 2026`, also with AM or PM, or with the day and the year in front: the wall time and its zone."""
    clock, day, year = _CLOCK.search(text[:200]), _DAY.search(text[:200]), None
    if clock is None or day is None:
        return None
    year = _YEAR.search(text[:200].replace(clock.group(), " "))
    month = day.group(1) or day.group(4)
    if year is None:
        return None
    hour, minute, second, half, zone = clock.groups()
    hours = int(hour) % 12 + (12 if half == "P" else 0) if half else int(hour)
    number = int(day.group(2) or day.group(3))
    try:
        return datetime.datetime(int(year.group(1)), _MONTHS.index(month) + 1, number, hours, int(minute), int(second)), zone
    except ValueError:
        return None


def _offset(zone: str) -> int | None:
    """Seconds east of Greenwich; other names than UTC's mean different zones in different countries."""
    if zone in ("UTC", "GMT", "Z"):
        return 0
    found = re.fullmatch(r"([+-])(\d\d)(\d\d)?", zone, re.ASCII)
    if found is None:
        return None
    seconds = int(found.group(2)) * 3600 + int(found.group(3) or 0) * 60
    return None if seconds > 18 * 3600 else -seconds if found.group(1) == "-" else seconds
