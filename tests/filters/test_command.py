"""Command lines go in; bare expressions, the text, the JSON and the exit status come out, and the text's command lines must work."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tcpwhy.cli import main
from tcpwhy.cli.filter import TOOLS
from tcpwhy.filters import LAYOUTS, LayoutError, Target, Tool, parse_target, pick_layouts
from tcpwhy.report.schema import filter_schema_text
from tests.filters.frames import linked, option, packet, picked_by_tcpdump, picked_by_tshark, segment, write_capture

DOCS = Path(__file__).parents[2] / "docs"
PUBLISHED = DOCS / "schema" / "tcpwhy-filter-1.json"
PORTS = st.none() | st.integers(1, 65535)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["filter", "real-client", *arguments], env={"COLUMNS": "100", "NO_COLOR": "1"})


@pytest.mark.parametrize("client", ["1.2.3.4", "1.2.3.4:2570", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80"])
def test_the_bare_expression_goes_straight_to_the_tool(tmp_path: Path, client: str) -> None:
    target = parse_target(client)
    content = option(pick_layouts(["254"], target)[0], target)
    capture = write_capture(tmp_path / "x.pcap", [linked(packet(4, segment(content))), linked(packet(4, segment()))])
    for tool, picked in (("tcpdump", picked_by_tcpdump), ("wireshark", picked_by_tshark)):
        result = run(client, "--for", tool)
        assert result.exit_code == 0, result.output
        assert result.stdout.count("\n") == 1
        assert picked(capture, result.stdout.removesuffix("\n")) == {0}


@given(st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address) | st.integers(2**48, 2**128 - 1).map(ipaddress.IPv6Address), PORTS)
def test_every_client_can_be_written_and_read(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int | None) -> None:
    target = Target(address, port)
    assert parse_target(str(target)) == target
    for layout in pick_layouts((), target):
        assert bytes(layout.known_bytes(target)[layout.address_at + at] for at in range(len(address.packed))) == address.packed
        assert sum(size for _, size, _ in layout.loads(target)) == len(layout.known_bytes(target))


@given(st.text(max_size=40) | st.text("0123456789abcdef:.[]%/", max_size=30))
def test_any_text_is_a_client_or_one_sentence(text: str) -> None:
    with contextlib.suppress(ValueError):
        read = parse_target(text)
        assert parse_target(str(read)) == read


@pytest.mark.parametrize("text", ["::ffff:1.2.3.4", "[::ffff:1.2.3.4]", " 1.2.3.4 "])
def test_an_ipv4_client_in_ipv6_clothes_is_the_ipv4_client(text: str) -> None:
    assert parse_target(text) == Target(ipaddress.IPv4Address("1.2.3.4"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("name.example",), "expected an address"),
        (("1.2.3.4:0",), "expected 1 to 65535"),
        (("1.2.3.4:65536",), "expected 1 to 65535"),
        (("[2001:db8::1:80",), "expected an address"),
        (("fe80::1%eth0",), "expected no zone"),
        (("1.2.3.4", "--layout", "202"), "names no client: it carries a virtual IP's address and port"),
        (("1.2.3.4", "--layout", "9"), "there is no layout `9`"),
        (("1.2.3.4", "--layout", "254/20"), "it carries an IPv6 address"),
        (("1.2.3.4:80", "--layout", "28"), "it carries no port"),
        (("1.2.3.4", "--for", "nft", "--vlan"), "--vlan is for tcpdump, not for nft"),
        (("1.2.3.4", "--for", "wireshark", "--offsets", "first"), "--offsets is for tcpdump and iptables, not for wireshark"),
        (("1.2.3.4", "--for", "tcpdump", "--u32"), "--u32 is for iptables, not for tcpdump"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr.partition("\n")[0]
    assert not result.stdout


def test_layouts_are_picked_by_kind_or_whole_name() -> None:
    def names(*asked: str, client: str = "1.2.3.4") -> list[str]:
        return [layout.name for layout in pick_layouts(asked, parse_target(client))]

    assert names() == ["254/8", "200/8", "253/8", "252/20", "28/7"]
    assert names(client="1.2.3.4:80") == ["254/8", "200/8", "253/8", "252/20"]
    assert names(client="2001:db8::1") == ["254/20", "253/20", "249/40", "28/19"]
    assert names("28", "254/8", "254") == ["28/7", "28/13", "254/8"]
    with pytest.raises(LayoutError, match="IPv4"):
        names("200", client="2001:db8::1")


def test_the_text_says_for_each_filter_what_is_known_of_it() -> None:
    text = run("1.2.3.4").stdout
    headings = ["tcpdump", "tcpdump --offsets aligned", "tcpdump --offsets first", "tcpdump --offsets first --vlan", "wireshark"]
    headings += ["wireshark, by fields", "nft", "iptables, any client", "iptables --offsets aligned", "iptables --offsets first --u32"]
    headings += ["ip6tables --offsets aligned", "ip6tables --offsets first --u32"]
    lines = text.split("\n")
    assert [line for line in lines if line in headings] == headings
    for said in (
        "early packets only",
        "tcpwhy follow",
        "28/13: not asked for",
        "Fast Open",
        "TSval",
        "kind 0",
        "-s 144",
        "snap length cut off",
    ):
        assert said in text.replace("\n", " ")
    for tool in ("tcpdump", "wireshark", "nft"):
        assert run("1.2.3.4", "--for", tool).stdout in text
    assert run("1.2.3.4", "--for", "tcpdump", "--offsets", "first", "--vlan").stdout in text


def test_every_tool_can_be_asked_for() -> None:
    assert get_args(Tool) == TOOLS
    told = json.loads(run("1.2.3.4", "--json").stdout)["filters"]
    assert list(dict.fromkeys(one["tool"] for one in told)) == list(TOOLS)


def test_choices_leave_one_form_a_tool() -> None:
    text = run("1.2.3.4", "--offsets", "first", "-6", "--u32", "--vlan", "--layout", "254").stdout
    named = [line for line in text.split("\n") if line.startswith(("tcpdump", "wireshark", "nft", "iptables", "ip6tables"))]
    assert named == ["tcpdump --offsets first --vlan", "wireshark", "nft", "ip6tables --offsets first --u32"]
    assert run("1.2.3.4", "--offsets", "first", "-6", "--u32", "--layout", "254", "--for", "iptables").stdout in text


def test_the_command_lines_in_the_text_print_what_stands_below_them() -> None:
    """Each `use` line's own call of tcpwhy, run by a shell, gives the filter's expressions."""
    answer = json.loads(run("[2001:db8::1]:80", "--layout", "254", "--json").stdout)
    tcpwhy = Path(sys.executable).parent
    for ready in answer["filters"]:
        for line in ready["use"]:
            call = re.search(r"tcpwhy filter [^|;)]*", line)
            assert call, line
            done = subprocess.run(
                call[0],
                shell=True,
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "PATH": f"{tcpwhy}:{os.environ['PATH']}"},
            )
            assert done.stdout.splitlines() == ready["expressions"], line


@pytest.mark.parametrize("arguments", [("1.2.3.4",), ("[2001:db8::1]:80",), ("1.2.3.4", "--for", "iptables"), ("::1", "--layout", "28")])
def test_the_json_is_valid_by_the_published_schema(arguments: tuple[str, ...]) -> None:
    assert PUBLISHED.read_text() == filter_schema_text(), "run `python -m tcpwhy.report.schema filter >docs/schema/tcpwhy-filter-1.json`"
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text())).validate(answer)
    assert result.stdout == run(*arguments, "--json").stdout
    assert answer["real_client"] == arguments[0]
    assert all(ready["expressions"] and ready["explanation"] for ready in answer["filters"])
    wanted = {"iptables"} if "--for" in arguments else {"tcpdump", "wireshark", "nft", "iptables"}
    assert {ready["tool"] for ready in answer["filters"]} == wanted


def test_the_page_lists_every_layout() -> None:
    section = (DOCS / "commands.md").read_text().partition("\n## filter\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\d+/\d+)` \|", section, re.MULTILINE) == [layout.name for layout in LAYOUTS]
