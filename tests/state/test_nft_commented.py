"""Text of nft 0.8 to 1.0.5, which hides iptables' extensions in comments: no rule may be read without them."""

import pytest

from tcpwhy.evidence.source import Source
from tcpwhy.tables.nft import Nft, NftRule, parse_nft

HERE = Source("h", "nft-ruleset.txt")


def parsed(*rules: str) -> tuple[Nft, list[NftRule]]:
    lines = [
        "table ip nat { # handle 1",
        "chain OUTPUT { # handle 2",
        "type nat hook output priority -100; policy accept;",
        *rules,
        "}",
        "}",
    ]
    nft, is_text = parse_nft("\n".join(lines), HERE)
    assert is_text
    return nft, nft.chains["ip", "nat", "OUTPUT"].rules


@pytest.mark.parametrize("handle", ["", " # handle 8"])
@pytest.mark.parametrize(
    "line",
    [
        "ip saddr 10.0.0.0/8 # owner UID match 1337 counter packets 1 bytes 60 return",
        "meta l4proto tcp counter packets 1 bytes 60 # redir ports 15001",
        "# statistic mode random probability 0.50000000000 counter packets 1 bytes 60 jump WEB",
        "#recent: SET name: x side: source mask: 255.255.255.255 counter packets 1 bytes 60",
    ],
)
def test_an_extension_in_a_comment_leaves_its_rule_unread(line: str, handle: str) -> None:
    nft, rules = parsed("ip daddr 10.9.9.9 accept", line + handle, "tcp dport 25 drop # handle 9")
    assert [bool(rule.unread) for rule in rules] == [False, True, False]
    assert rules[1].handle == (8 if handle else None)
    assert rules[1].source.line == 5
    assert rules[1].text.startswith(line)
    assert "extension of iptables" in rules[1].unread
    assert nft.unread.count == 1


@pytest.mark.parametrize(
    "line", ["# allow the web", "# tcp dport 22 accept", "tcp dport 80 accept # the web", "tcp dport 80 counter # the web"]
)
def test_comments_of_people_are_no_rules(line: str) -> None:
    nft, rules = parsed("ip daddr 10.9.9.9 accept", line, "tcp dport 25 drop")
    assert len(rules) == (2 if line.startswith("#") else 3)
    assert not nft.unread.count
    assert not any(rule.unread for rule in rules)


def test_a_handle_alone_is_no_extension() -> None:
    nft, rules = parsed("tcp dport 25 counter packets 3 bytes 4 # handle 12", "tcp dport 26 drop # handle 13")
    assert [rule.handle for rule in rules] == [12, 13]
    assert not nft.unread.count
