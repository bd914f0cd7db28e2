"""What a capture does not hold proves a loss only where it must have held it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tcpwhy
from tcpwhy.diagnosis.finding import Report
from tests.packets import Icmp, Tcp, exchange, write_pcap

S = "10.0.0.1:80"


def report(folder: Path) -> Report:
    with tcpwhy.open_case(folder, index=False) as case:
        return case.diagnosis().report


def verdicts(told: Report) -> set[tuple[str, str]]:
    return {(finding.cause, finding.confidence) for finding in told.findings}


def healthy(count: int, begin: int = 0) -> list[list[Tcp]]:
    return [
        exchange(f"10.0.0.9:{41_000 + number}", S, number * 500, isn=7_000_000 * (number + 1)) for number in range(begin, begin + count)
    ]


def lost(at_ms: float = 1_000) -> list[Tcp]:
    """A SYN, three times, that is never answered."""
    return [Tcp(at_ms + at, "10.0.0.9:40009", S, "S", 5, ip_id=90 + number, stamps=(at, 0)) for number, at in enumerate((0, 1_020, 3_040))]


def at_client(segments: list[Tcp]) -> list[Tcp]:
    """As the client's host sees them: the server's packets crossed a router."""
    return [dataclasses.replace(one, ttl=63) if one.source == S else one for one in segments]


def at_server(segments: list[Tcp]) -> list[Tcp]:
    """As the server's host sees them: a tenth of a millisecond from the client."""
    return [
        dataclasses.replace(one, at_ms=one.at_ms - 0.1) if one.source == S else dataclasses.replace(one, at_ms=one.at_ms + 0.1, ttl=63)
        for one in segments
    ]


def flat(*groups: list[Tcp]) -> list[Tcp]:
    return sorted((one for group in groups for one in group), key=lambda one: one.at_ms)


def test_a_syn_absent_where_all_others_pass_is_lost(tmp_path: Path) -> None:
    write_pcap(tmp_path / "client/a.pcap", at_client(flat(*healthy(12), lost())))
    write_pcap(tmp_path / "server/a.pcap", at_server(flat(*healthy(12))))
    assert verdicts(report(tmp_path)) == {("syn-lost", "confirmed")}


def test_a_backend_that_sees_its_share_only_proves_nothing(tmp_path: Path) -> None:
    write_pcap(tmp_path / "client/a.pcap", at_client(flat(*healthy(12), lost())))
    write_pcap(tmp_path / "server/a.pcap", at_server(flat(*healthy(7))))
    told = verdicts(report(tmp_path))
    assert ("syn-lost", "possible") in told
    assert all(confidence == "possible" for _, confidence in told)


def test_a_capture_that_ended_before_proves_nothing(tmp_path: Path) -> None:
    write_pcap(tmp_path / "client/a.pcap", at_client(flat(*healthy(12), lost(7_000), *healthy(1, begin=30))))
    write_pcap(tmp_path / "server/a.pcap", at_server(flat(*healthy(12))))
    told = verdicts(report(tmp_path))
    assert ("syn-lost", "possible") in told
    assert all(confidence == "possible" for _, confidence in told)


def test_a_capture_without_any_syn_proves_nothing(tmp_path: Path) -> None:
    write_pcap(tmp_path / "client/a.pcap", at_client(flat(*healthy(12), lost())))
    without = [one for one in flat(*healthy(12)) if "S" not in one.flags]
    write_pcap(tmp_path / "server/a.pcap", at_server(without))
    assert all(confidence == "possible" for _, confidence in verdicts(report(tmp_path)))


def test_a_reset_with_another_ttl_is_not_the_servers(tmp_path: Path) -> None:
    refused = [Tcp(1_000, "10.0.0.9:40009", S, "S", 5, ip_id=9), Tcp(1_000.1, S, "10.0.0.9:40009", "RA", 0, 6, ttl=64)]
    others = [dataclasses.replace(one, ttl=62) if one.source == S else one for one in flat(*healthy(12))]
    write_pcap(tmp_path / "client/a.pcap", flat(others, refused))
    told = report(tmp_path)
    assert told.totals.failed == 1
    assert {finding.cause for finding in told.findings} == {"rejected-by-firewall", "local-redirect"}


def test_a_syn_answered_by_time_exceeded_has_failed(tmp_path: Path) -> None:
    syn = lost()[0]
    write_pcap(tmp_path / "client/a.pcap", [*at_client(flat(*healthy(2))), syn, Icmp(1_000.4, "10.0.0.254", 11, 0, syn)])
    told = report(tmp_path)
    assert told.totals.failed == 1
    assert [(one.client, "type 11" in one.symptom) for one in told.unexplained] == [("10.0.0.9:40009", True)]
    # A traceroute with SYNs asks for just this answer.
    probe = dataclasses.replace(syn, ttl=3)
    write_pcap(tmp_path / "other/a.pcap", [*at_client(flat(*healthy(2))), probe, Icmp(1_000.4, "10.0.0.254", 11, 0, probe)])
    assert report(tmp_path / "other").totals.failed == 0


def test_an_answer_that_the_capture_lost_was_given(tmp_path: Path) -> None:
    whole = exchange("10.0.0.9:41000", S)
    lossy = [one for one in whole if not (one.source == S and one.payload)]
    assert len(lossy) == len(whole) - 1
    write_pcap(tmp_path / "client/a.pcap", at_client(flat(lossy, *healthy(2, 5))))
    assert report(tmp_path).totals.failed == 0
    # Where the client waits, closes, and acknowledges nothing of an answer, there was none.
    cut = [one for one in lossy if one.source != S or one.flags != "FA"]
    silent = [dataclasses.replace(one, ack=500_000 + 1_001) if one.flags in ("FA", "A") and one.source != S else one for one in cut]
    waited = [dataclasses.replace(one, at_ms=one.at_ms + 1_500) if "F" in one.flags else one for one in silent]
    write_pcap(tmp_path / "other/a.pcap", at_client(flat(waited, *healthy(2, 5))))
    assert report(tmp_path / "other").totals.failed == 1
    # Who closes at once may have closed its own half only, and the capture ended before the answer.
    write_pcap(tmp_path / "half/a.pcap", at_client(flat(silent, *healthy(2, 5))))
    assert report(tmp_path / "half").totals.failed == 0


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    write_pcap(tmp_path / "client/a.pcap", flat(*healthy(3), lost()))
    with tcpwhy.open_case(tmp_path) as case:
        first = case.diagnosis().report
        assert [one.refreshed for one in case.index()] == [True]
    for name in ("flows.parquet", "frames.idx"):
        table = tmp_path / ".tcpwhy" / "client" / name
        table.write_bytes(table.read_bytes()[:-20])
        with tcpwhy.open_case(tmp_path) as case:
            assert [one.refreshed for one in case.index()] == [True]
            assert case.diagnosis().report == first
    with tcpwhy.open_case(tmp_path) as case:
        assert [one.refreshed for one in case.index()] == [False]


def test_of_several_hosts_with_the_servers_address_the_packet_may_have_ended_at_another(tmp_path: Path) -> None:
    """A balancer's real servers share one address: what came to one of them and ended there was not lost on the way to another."""
    write_pcap(tmp_path / "balancer/a.pcap", at_client(flat(*healthy(12), lost())))
    write_pcap(tmp_path / "rs1/a.pcap", at_server(flat(*healthy(12))))
    write_pcap(tmp_path / "rs2/a.pcap", at_server(lost()))
    (tmp_path / "tcpwhy.toml").write_text('[vantage.rs1]\naddresses = ["10.0.0.1", "10.0.0.11"]\n')
    told = verdicts(report(tmp_path))
    assert ("syn-lost", "possible") in told
    assert all(confidence == "possible" for _, confidence in told)
