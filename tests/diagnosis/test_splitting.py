"""Causes that are left standing go in; the request that decides between most of them comes first."""

from __future__ import annotations

from pathlib import Path

import tcpwhy
from tcpwhy.causes import Found, Open
from tcpwhy.causes._verdict import Exhibit
from tcpwhy.diagnosis.judging import judge
from tcpwhy.diagnosis.splitting import splitting_first
from tests.packets import exchange, write_pcap

CAPTURE, COUNTERS, LOG = "capture at the server", "counters of the server", "the log"


def open_with(*requests: str) -> Open:
    return Open("it fits", tuple(f"{request}: tells" for request in requests))


def test_the_request_of_most_causes_comes_first_and_names_them() -> None:
    standing = {"a": open_with(COUNTERS, CAPTURE), "b": open_with(CAPTURE), "c": open_with(CAPTURE, LOG), "d": open_with(LOG)}
    assert splitting_first("a", standing) == (f"{CAPTURE}: tells (it decides between a, b, c)", f"{COUNTERS}: tells")
    assert splitting_first("d", standing) == (f"{CAPTURE}: tells (it decides between a, b, c)", f"{LOG}: tells")


def test_a_request_that_nobody_shares_splits_nothing() -> None:
    standing = {"a": open_with(CAPTURE), "b": open_with(LOG)}
    assert splitting_first("b", standing) == (f"{LOG}: tells",)
    assert splitting_first("a", {"a": open_with(CAPTURE)}) == (f"{CAPTURE}: tells",)
    assert splitting_first("c", {"a": open_with(CAPTURE), "c": Open("it fits")}) == (f"{CAPTURE}: tells",)


def found(**excludes: str) -> Found:
    shown = Exhibit(kind="log", vantage_point="gw", file="gw.log", text="it says so", line=1)
    return Found(
        statement="It is so.", exhibits=(shown,), basis="two places", where=None, explanation="It is so.", at_ns=0, excludes=excludes
    )


def test_a_root_takes_its_effect_away_and_two_that_exclude_each_other_stand_both(tmp_path: Path) -> None:
    capture = write_pcap(tmp_path / "gw.pcap", exchange("10.0.0.1:40000", "10.0.0.2:80", 0))
    with tcpwhy.open_case(capture, index=False) as case:
        [connection] = case.find("10.0.0.1:40000-10.0.0.2:80")
    root = judge(connection, {"loss": found(slow="the request was lost"), "slow": found()})
    assert [(cause, confidence) for cause, confidence, _ in root.causes] == [("loss", "confirmed")]
    assert root.ruled_out == {"slow": "the request was lost"}
    both = judge(connection, {"loss": found(slow="a"), "slow": found(loss="b")})
    assert [(cause, confidence) for cause, confidence, _ in both.causes] == [("loss", "possible"), ("slow", "possible")]
    unlinked = judge(connection, {"loss": found(), "slow": found()})
    assert not unlinked.is_explained
