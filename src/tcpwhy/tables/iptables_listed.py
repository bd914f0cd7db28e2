"""What `iptables -nvL` prints behind a rule's columns goes in; the words of iptables-save come out, and what is not understood."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable


@dataclasses.dataclass(slots=True)
class Listed:
    """A rule's matches and its target's options, in iptables-save's words."""

    matches: list[str] = dataclasses.field(default_factory=list)
    target: list[str] = dataclasses.field(default_factory=list)
    rest: str = ""
    """Where understanding ended; empty where all was understood."""


_END = r"(?= |$|flags:)"  # iptables before 1.6 printed `tcp dpt:22flags: 0x17/0x02` without a space
_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")
_NO = "(!?)"
_NO_SPACE = "(! )?"


def _flags(text: str) -> str:
    value = int(text, 16)
    return ",".join(name for bit, name in enumerate(_FLAGS) if value >> bit & 1) or "NONE"


def _tcp_flags(found: re.Match[str]) -> str:
    return f"{'! ' if found[1] else ''}--tcp-flags {_flags(found[2])} {_flags(found[3])}"


def _quote(text: str) -> str:
    return '"' + re.sub(r'(["\\\'])', r"\\\1", text) + '"'


def _recent(found: re.Match[str]) -> str:
    kinds = {"SET": "--set", "UPDATE": "--update", "CHECK": "--rcheck", "REMOVE": "--remove"}
    return f"-m recent {'! ' if found[1] else ''}{kinds[found[2]]} --name {found[3]}"


_RECENT_DETAILS = r"(?: seconds: \d+| reap| hit_count: \d+| TTL-Match)*"
_COMPARED = {"==": "eq", "!=": "eq", "<": "lt", ">": "gt"}


def _hops(found: re.Match[str]) -> str:
    name = found[1].lower()
    return f"-m {name} {'! ' if found[2] == '!=' else ''}--{name}-{_COMPARED[found[2]]} {found[3]}"


def _icmp(found: re.Match[str]) -> str:
    option, module = ("icmpv6-type", "icmp6") if found[2] else ("icmp-type", "icmp")
    kind = "any" if found[3] == "255" and not found[4] and not found[2] else found[3] + (f"/{found[4]}" if found[4] else "")
    return f"-m {module} {'! ' if found[1] else ''}--{option} {kind}"


def _address_type(found: re.Match[str]) -> str:
    words = ["-m addrtype"]
    for side, no, kinds in re.findall(r"(src|dst)-type (!?)(\S+)", found[0]):
        words.append(f"{'! ' if no else ''}--{side}-type {kinds}")
    words += [f"--limit-iface-{way}" for way in re.findall(r" limit-(in|out)", found[0])]
    return " ".join(words)


def _templated(template: str) -> Callable[[re.Match[str]], str]:
    """`{n}` is a group, `{!n}` is `! ` where that group is there."""
    parts = re.split(r"\{(!?\d)\}", template)

    def put(found: re.Match[str]) -> str:
        out = []
        for place, part in enumerate(parts):
            if place % 2 == 0:
                out.append(part)
            elif part[0] == "!":
                out.append("! " if found[int(part[1:])] else "")
            else:
                out.append(found[int(part)] or "")
        return "".join(out)

    return put


def _owner(found: re.Match[str]) -> str:
    return f"-m owner {'! ' if found[1] else ''}--{found[2].lower()}-owner {found[3]}{' --suppl-groups' if found[4] else ''}"


def _connections(found: re.Match[str]) -> str:
    test = "upto" if found[3] == "<=" else "above"
    return f"-m connlimit --connlimit-{test} {found[4]} --connlimit-mask {found[2]} --connlimit-{found[1][0]}addr"


_MATCHES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"/\* (.*?) \*/", lambda found: f"-m comment --comment {_quote(found[1])}"),
    (r"(tcp|udp|udplite|sctp|dccp)", "-m {1}"),
    (rf"([sd])pts?:{_NO}(\d+(?::\d+)?)", "{!2}--{1}port {3}"),
    (rf"flags: ?{_NO}0x([0-9A-Fa-f]{{1,2}})/0x([0-9A-Fa-f]{{1,2}})", _tcp_flags),
    (rf"option={_NO}(\d+)", "{!1}--tcp-option {2}"),
    (rf"multiport (sports|dports|ports) {{1,2}}{_NO}([\d,:]+)", "-m multiport {!2}--{1} {3}"),
    (rf"{_NO_SPACE}ctstate ([A-Z,]+)", "-m conntrack {!1}--ctstate {2}"),
    (rf"{_NO_SPACE}state ([A-Z,]+)", "-m state {!1}--state {2}"),
    (rf"{_NO_SPACE}(ctproto|ctorigsrc|ctorigdst|ctreplsrc|ctrepldst|ctstatus|ctexpire|ctdir) (\S+)", "-m conntrack {!1}--{2} {3}"),
    (rf"{_NO_SPACE}(ct(?:orig|repl)(?:src|dst)port) ([\d:]+)", "-m conntrack {!1}--{2} {3}"),
    (rf"{_NO_SPACE}owner (UID|GID) match ([\d-]+)( incl\. suppl\. groups)?", _owner),
    (rf"{_NO_SPACE}owner socket exists", "-m owner {!1}--socket-exists"),
    (r"(mark|connmark) match {1,2}(! ?)?(0x[0-9a-f]+(?:/0x[0-9a-f]+)?)", "-m {1} {!2}--mark {3}"),
    (rf"{_NO_SPACE}match-set (\S+) ([a-z,]+)", "-m set {!1}--match-set {2} {3}"),
    (r"ADDRTYPE match(?: (?:src|dst)-type !?[A-Z_,]+)+(?: limit-(?:in|out))*", _address_type),
    (r"limit: avg (\S+) burst (\d+)", "-m limit --limit {1} --limit-burst {2}"),
    (
        r"limit: (up to|above) (\S+)(?: burst \S+| mode \S+| htable-[a-z]+ \d+| (?:src|dst)mask \d+| rate-match| rate-interval \d+)*",
        lambda found: f"-m hashlimit --hashlimit-{found[1].replace(' ', '')} {found[2]}",
    ),
    (r"#conn (src|dst)/(\d+) (<=|>) (\d+)", _connections),
    (
        rf"{_NO_SPACE}recent: (SET|UPDATE|CHECK|REMOVE){_RECENT_DETAILS} name: (\S+)(?: side: \w+)?(?: mask: \S+)?",
        _recent,
    ),
    (rf"{_NO}(ipv6-)?icmp(?:v6)? ?type (\d+)(?: code (\d+))?(?= |$)", _icmp),
    (
        r"(source|destination) IP range (! )?(\S+-\S+)",
        lambda found: (
            f"-m iprange {'! ' if found[2] else ''}--{found[1].replace('source', 'src').replace('destination', 'dst')}-range {found[3]}"
        ),
    ),
    (r"PHYSDEV match((?: (?:! )?--physdev-(?:in|out) \S+| (?:! )?--physdev-is-\w+)+)", "-m physdev{1}"),
    (r"(TTL|HL) match (?:TTL|HL) (==|!=|<|>) (\d+)", _hops),
    (rf"length {_NO}(\d+(?::\d+)?)", "-m length {!1}--length {2}"),
    (rf"DSCP match ?{_NO}(0x[0-9a-f]+)", "-m dscp {!1}--dscp {2}"),
    (rf"tos match ?{_NO}(0x[0-9a-f]+/0x[0-9a-f]+)", "-m tos {!1}--tos {2}"),
    (rf"statistic mode random {_NO_SPACE}probability ([\d.]+)", "-m statistic --mode random {!1}--probability {2}"),
    (rf"statistic mode nth {_NO_SPACE}every (\d+)(?: packet (\d+))?", "-m statistic --mode nth {!1}--every {2}"),
    (r"rpfilter((?: (?:loose|validmark|accept-local|invert))*)", lambda found: "-m rpfilter" + found[1].replace(" ", " --")),
    (r"socket((?: --(?:transparent|nowildcard|restore-skmark))*)", "-m socket{1}"),
    (r"PKTTYPE (!?)=? ?= ?(\w+)", "-m pkttype {!1}--pkt-type {2}"),
    (r"MAC ?(! ?)?([0-9A-Fa-fXx:]{17})", "-m mac {!1}--mac-source {2}"),
    (rf"tcpmss match {_NO}(\d+(?::\d+)?)", "-m tcpmss {!1}--mss {2}"),
    (r"policy match dir (in|out) pol (none|ipsec)(?= *$| (?!strict|\[|reqid|spi|proto|mode|tunnel))", "-m policy --dir {1} --pol {2}"),
    (rf'{_NO_SPACE}helper match "([\w-]+)"', "-m helper {!1}--helper {2}"),
]
"""What each match prints (extensions/lib*_*.c, the function that ends in _print) → its words in iptables-save."""


_RANDOM = r"( random)?( random-fully)?( persistent)?"
_TARGETS: dict[str, list[tuple[str, str | Callable[[re.Match[str]], str]]]] = {
    "AUDIT": [(r"AUDIT (\w+)", "--type {1}")],
    "CHECKSUM": [(r"CHECKSUM fill", "--checksum-fill")],
    "CLASSIFY": [(r"CLASSIFY set (\S+)", "--set-class {1}")],
    "CONNMARK": [
        (r"CONNMARK (set|and|or|xor) (0x[0-9a-f]+)", "--{1}-mark {2}"),
        (r"CONNMARK xset (0x[0-9a-f]+/0x[0-9a-f]+)", "--set-xmark {1}"),
        (
            r"CONNMARK (save|restore)(?: mask (0x[0-9a-f]+))?",
            lambda found: f"--{found[1]}-mark" + (f" --mask {found[2]}" if found[2] else ""),
        ),
        (r"nfmask ~?(0x[0-9a-f]+)", "--nfmask {1}"),
        (r"ctmask ~?(0x[0-9a-f]+)", "--ctmask {1}"),
    ],
    "CT": [(r"CT notrack|NOTRACK", "--notrack"), (r"(?:CT )?(zone(?:-orig|-reply)?|helper|timeout|ctevents|expevents) (\S+)", "--{1} {2}")],
    "DNAT": [(rf"to:(\S+){_RANDOM}", lambda found: _translated("destination", found))],
    "DSCP": [(r"DSCP set (0x[0-9a-f]+)", "--set-dscp {1}")],
    "HL": [(r"HL (?:set to|decrement by|increment by) (\d+)", lambda found: _hop_change("hl", found))],
    "LOG": [(r"""LOG .*?(?: prefix ["`](.*)["'])?$""", lambda found: f"--log-prefix {_quote(found[1])}" if found[1] else "")],
    "MARK": [(r"MARK (set|and|or|xor) (0x[0-9a-f]+)", "--{1}-mark {2}"), (r"MARK xset (0x[0-9a-f]+/0x[0-9a-f]+)", "--set-xmark {1}")],
    "MASQUERADE": [
        (rf"masq ports: ([\d-]+){_RANDOM}", lambda found: f"--to-ports {found[1]}{_options(found)}"),
        *[(f"{word}(?= |$)", f"--{word}") for word in ("random-fully", "random")],
    ],
    "NETMAP": [(r"to:(\S+)", "--to {1}")],
    "NFLOG": [
        (r"nflog-(group|size|threshold|range) (\d+)", "--nflog-{1} {2}"),
        (r'nflog-prefix {1,2}(?:"(.*?)"|(\S+))', lambda found: f"--nflog-prefix {_quote(found[1] or found[2])}"),
    ],
    "NFQUEUE": [
        (r"NFQUEUE num (\d+)", "--queue-num {1}"),
        (r"NFQUEUE balance ([\d:]+)", "--queue-balance {1}"),
        (r"bypass", "--queue-bypass"),
        (r"cpu-fanout", "--queue-cpu-fanout"),
    ],
    "NOTRACK": [(r"NOTRACK", "")],
    "REDIRECT": [
        (rf"redir ports ([\d-]+){_RANDOM}", lambda found: f"--to-ports {found[1]}{_options(found)}"),
        *[(f"{word}(?= |$)", f"--{word}") for word in ("random-fully", "random")],
    ],
    "REJECT": [(r"reject-with (\S+)", "--reject-with {1}")],
    "SET": [(r"(add|del)-set (\S+) ([a-z,]+)", "--{1}-set {2} {3}"), (r"exist", "--exist"), (r"timeout (\d+)", "--timeout {1}")],
    "SNAT": [(rf"to:(\S+){_RANDOM}", lambda found: _translated("source", found))],
    "TCPMSS": [(r"TCPMSS clamp to PMTU", "--clamp-mss-to-pmtu"), (r"TCPMSS set (\d+)", "--set-mss {1}")],
    "TEE": [(r"TEE gw:(\S+)", "--gateway {1}"), (r"oif=(\S+)", "--oif {1}")],
    "TOS": [(r"TOS set (0x[0-9a-f]+/0x[0-9a-f]+)", "--set-tos {1}")],
    "TPROXY": [(r"TPROXY redirect (\S+):(\d+) mark (0x[0-9a-f]+/0x[0-9a-f]+)", "--on-port {2} --on-ip {1} --tproxy-mark {3}")],
    "TTL": [(r"TTL (?:set to|decrement by|increment by) (\d+)", lambda found: _hop_change("ttl", found))],
}
"""What each target prints → its options in iptables-save."""

for _name in ("CONNSECMARK", "ECN", "SECMARK", "SYNPROXY", "TCPOPTSTRIP"):
    _TARGETS[_name] = [(rf"{_name} .*", "")]  # their options do not bear on the packet's way


def _options(found: re.Match[str]) -> str:
    return "".join(f" --{part.strip()}" for part in found.groups()[1:] if part)


def _translated(side: str, found: re.Match[str]) -> str:
    return f"--to-{side} {found[1]}{_options(found)}"


def _hop_change(name: str, found: re.Match[str]) -> str:
    kind = "set" if "set to" in found[0] else "dec" if "decrement" in found[0] else "inc"
    return f"--{name}-{kind} {found[1]}"


def _compile(pairs: list[tuple[str, str | Callable[[re.Match[str]], str]]]) -> list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]:
    return [(re.compile(rf"(?:{pattern}){_END}", re.ASCII), _templated(put) if isinstance(put, str) else put) for pattern, put in pairs]


_MATCH_FORMS = _compile(_MATCHES)
_TARGET_FORMS = {name: _compile(pairs) for name, pairs in _TARGETS.items()}


def translate(text: str, target: str) -> Listed:
    """The text behind the addresses of a row, and the row's target (empty for none): matches come first, then the target's own text."""
    listed = Listed()
    at = 0
    forms = _TARGET_FORMS.get(target, [])
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        step = _first(_MATCH_FORMS, text, at) if not listed.target else None
        if step is not None:
            listed.matches.append(step[0])
        elif (step := _first(forms, text, at)) is not None:
            listed.target.append(step[0])
        else:
            listed.rest = text[at:]
            return listed
        at = step[1]
    return listed


def _first(forms: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]], text: str, at: int) -> tuple[str, int] | None:
    for pattern, put in forms:
        found = pattern.match(text, at)
        if found and found.end() > at:
            return put(found), found.end()
    return None
