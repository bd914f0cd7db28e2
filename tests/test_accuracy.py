"""The accuracy benchmark: examples and made-up verdicts go in; what is run, removed, judged, counted and told must be right."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from benchmarks.accuracy import making, others, plan
from benchmarks.accuracy.counting import count, failures
from benchmarks.accuracy.judging import Accusation, Answer, FailedOne, Judged, Verdict, judge, judge_anew
from benchmarks.accuracy.others import Others, Told, both
from benchmarks.accuracy.removing import files_of, is_packets, is_state, parts_of
from benchmarks.accuracy.table import page
from tcpwhy import lab
from tcpwhy.lab.options import Options, with_words

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str, folder: Path) -> Path:
    """A copy of an example in a slot of its own; returns its truth."""
    slot = folder / f"{name}.0"
    shutil.copytree(EXAMPLES / name, slot / name, ignore=shutil.ignore_patterns(".tcpwhy"))
    return Path(shutil.copy(EXAMPLES / f"{name}.expected.json", slot))


# ---- what is run


def test_each_cause_has_its_runs_spread_over_its_scenarios() -> None:
    slots = list(plan.faulty(frozenset({"syn-lost", "port-closed"}), runs=9))
    by_cause = Counter(lab.by_name(slot.scenario).cause for slot in slots)
    assert set(by_cause) == {"syn-lost", "port-closed"}
    assert min(by_cause.values()) >= 9
    assert len({slot.name for slot in slots}) == len(slots)
    for cause in by_cause:
        times = Counter(slot.scenario for slot in slots if lab.by_name(slot.scenario).cause == cause)
        assert max(times.values()) - min(times.values()) <= 1


def test_healthy_runs_go_on_without_end_and_none_of_them_has_a_cause() -> None:
    slots = list(islice(plan.healthy(), 500))
    assert len({slot.name for slot in slots}) == 500
    assert {lab.by_name(slot.scenario).cause for slot in slots} == {None}


def test_draws_follow_from_the_seed_are_options_of_the_lab_and_end_plain() -> None:
    for slot in (*islice(plan.faulty(), 60), *islice(plan.healthy(), 60)):
        draws = list(plan.draws(slot, 1))
        assert draws == list(plan.draws(slot, 1))
        assert draws != list(plan.draws(slot, 2))
        assert draws[-1].variants == {}
        for draw in draws:
            assert with_words(Options(), draw.variants) == with_words(Options(), with_words(Options(), draw.variants).as_words())


def test_what_is_there_is_not_made_again_and_enough_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def run_scenarios(names: list[str], folder: Path, seed: int, variants: dict[str, str]) -> None:
        made.append(names[0])
        if variants:
            raise lab.RunFailed("luck")
        (folder / "case").mkdir(parents=True)
        (folder / "case.expected.json").write_text(json.dumps({"healthy_connections": 40}))

    monkeypatch.setattr(lab, "run_scenarios", run_scenarios)
    told: list[str] = []
    making.make(plan.healthy(), tmp_path, seed=1, jobs=1, wanted=100, tell=told.append)
    slots = sorted(path.name for path in tmp_path.iterdir())
    assert [slot.name for slot in islice(plan.healthy(), len(slots))] == sorted(
        slots, key=[s.name for s in islice(plan.healthy(), 9)].index
    )
    assert [making.healthy_connections(tmp_path / slot) for slot in slots] == [40] * len(slots)
    assert 3 <= len(slots) <= 4
    assert any("luck" in line for line in told)
    attempts = len(made)
    making.make(plan.healthy(), tmp_path, seed=1, jobs=1, wanted=100, tell=told.append)
    assert len(made) == attempts


# ---- what is taken away


def test_every_part_is_smaller_than_the_case_and_told_once() -> None:
    case = EXAMPLES / "leftover-sidecar"
    whole = files_of(case)
    parts = list(parts_of(case, states=3, pairs=5))
    assert (parts[0].kind, parts[0].files) == ("all", whole)
    assert len({part.files for part in parts}) == len({part.name for part in parts}) == len(parts)
    assert all(part.files < whole for part in parts[1:])
    kinds = Counter(part.kind for part in parts)
    assert (kinds["all"], kinds["one place"], kinds["two removals"]) == (1, 2, 5)
    assert parts == list(parts_of(case, states=3, pairs=5))
    without = {part.name: part.files for part in parts}
    assert whole - without["without any state"] == set(filter(is_state, whole))
    assert whole - without["without client/service.log"] == {"client/service.log"}
    assert {name.partition("/")[0] for name in without["client alone"] if "/" in name} == {"client"}
    for part in parts:
        assert any(map(is_packets, part.files))


def test_an_index_is_no_evidence_wherever_it_stands(tmp_path: Path) -> None:
    case = example("leftover-sidecar", tmp_path).with_name("leftover-sidecar")
    whole = files_of(case)
    for folder in (case, case / "client"):
        (folder / ".tcpwhy").mkdir()
        (folder / ".tcpwhy/flows.parquet").write_bytes(b"PAR1")
    assert files_of(case) == whole


# ---- what is judged


def test_an_example_is_judged_whole_and_with_less_and_kept(tmp_path: Path) -> None:
    truth = example("synack-lost", tmp_path)
    judged = judge(truth)
    entries = json.loads(truth.read_text())["failed"]
    assert {(one.client, one.server) for one in judged.failed} == {(entry["client"], entry["server"]) for entry in entries}
    assert {one.verdicts[0].answer for one in judged.failed} == {"confirmed"}
    assert {one.places for one in judged.failed} == {("client", "server")}
    assert judged.accusations == ()
    assert judged.crashes == {}
    assert list(failures(judged)) == []
    (truth.parent / "synack-lost").rename(tmp_path / "away")
    assert judge(truth) == judged, "taken from where it was kept"


def test_a_wrong_truth_shows_as_wrong_missed_and_accused(tmp_path: Path) -> None:
    truth = example("synack-lost", tmp_path)
    told = json.loads(truth.read_text())
    by_client = {entry["client"]: entry for entry in told["failed"]}  # a port that was used again stands there twice
    mistaken, innocent, *rest = by_client.values()
    absent = {"client": "10.9.9.9:1", "server": "10.9.9.9:2", "cause": "syn-lost"}
    told["failed"] = [mistaken | {"cause": "port-closed"}, *rest, absent]
    truth.write_text(json.dumps(told))
    judged = judge_anew(truth, quick=True)
    answers = {one.client: one.verdicts[0].answer for one in judged.failed}
    assert answers[mistaken["client"]] == "wrong"
    assert answers[absent["client"]] == "missed"
    assert {(one.client, one.server) for one in judged.accusations} == {(innocent["client"], innocent["server"])}
    assert {line.partition("\t")[0] for line in failures(judged)} == {"wrong", "missed", "accused"}
    assert set(judged.parts.values()) == {"all", "one place"}


def test_a_crash_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*words: object) -> None:
        raise ZeroDivisionError("of all things")

    truth = example("synack-lost", tmp_path)
    monkeypatch.setattr("benchmarks.accuracy.judging._report", crash)
    judged = judge_anew(truth, quick=True)
    assert set(judged.crashes) == {"all", "client alone", "server alone"}
    assert all("of all things" in line for line in failures(judged))


# ---- what the other programs say


def test_tshark_flags_what_was_repeated_and_nothing_that_is_well(tmp_path: Path) -> None:
    case = EXAMPLES / "synack-lost"
    failed = {
        both(entry["client"], entry["server"]) for entry in json.loads(case.with_name("synack-lost.expected.json").read_text())["failed"]
    }
    told, troubled = others.tshark(case / "server" / "eth0.pcap")
    assert failed <= set(told.flagged) < set(told.connections)
    assert failed <= troubled < set(told.connections)


# ---- what is counted and told


def judged_case(cause: str, *answers: tuple[str, str, Answer], healthy: int = 50, accused: bool = False) -> Judged:
    """A case of one failed connection with these verdicts: part, kind, answer."""
    said = {"wrong": ("slow-server likely",), "missed": (), "unexplained": ()}
    verdicts = tuple(Verdict(part, answer, said.get(answer, (f"{cause} {answer}",))) for part, _, answer in answers)
    return Judged(
        program="p",
        quick=False,
        case=cause,
        scenario=cause,
        cause=cause,
        runner="namespaces",
        kernel="6.18",
        options={},
        healthy=healthy,
        parts={"all": "all"} | {part: kind for part, kind, _ in answers},
        failed=(FailedOne("a:1", "b:2", cause, ("x", "y"), verdicts),) if verdicts else (),
        accusations=(Accusation("all", "c:3", "b:2", ("syn-lost possible",)),) if accused else (),
        crashes={},
    )


SILENT = Others((Told("x", True, (("a:1", "b:2"),), ()),), (Told("x", True, (("a:1", "b:2"),), ()),), {"x": ()})
LOUD = Others((Told("x", True, (("a:1", "b:2"),), (("a:1", "b:2"),)),), (Told("x", False, (), ()),), {"x": (("a:1", "b:2"),)})


def test_numbers_are_counted_by_cause() -> None:
    weaker = judged_case("syn-lost", ("all", "all", "confirmed"), ("x alone", "one place", "possible"), ("y alone", "one place", "missed"))
    missed = judged_case("syn-lost", ("all", "all", "missed"), ("x alone", "one place", "missed"))
    wrong = judged_case("zero-window", ("all", "all", "wrong"), ("without x", "one removal", "confirmed"))
    well = judged_case("healthy", healthy=1000, accused=True)
    numbers = count([(weaker, LOUD), (missed, SILENT), (wrong, LOUD), (well, LOUD)])
    first, second = numbers.causes["syn-lost"], numbers.causes["zero-window"]
    assert (first.runs, first.connections, first.recall) == (2, 2, 0.5)
    assert (first.at_place["possible"], first.at_place["missed"], first.unseen) == (1, 2, 2)
    assert (first.recall_at_place, first.weakened) == (1.0, 2)
    assert (second.recall, second.less["confirmed"], second.weakened) == (0.0, 1, 0)
    assert numbers.confusion == {("syn-lost", "syn-lost"): 1, ("syn-lost", "missed"): 1, ("zero-window", "slow-server"): 1}
    assert (numbers.healthy_runs, numbers.healthy, numbers.beside, numbers.accused["all"]) == (1, 1000, 150, 1)
    assert (numbers.flagged["tshark"], numbers.flagged["tshark of"], numbers.flagged["tcptrace unread"]) == (1, 1, 1)


@pytest.mark.parametrize(("made_good", "unseen"), [(True, 1), (False, 0)])
def test_what_only_two_places_tell_is_not_missed_by_one(made_good: bool, unseen: int) -> None:
    lossy = judged_case("packet-loss", ("all", "all", "confirmed"), ("x alone", "one place", "missed"))
    lossy = msgspec.structs.replace(lossy, failed=(msgspec.structs.replace(lossy.failed[0], made_good=made_good),))
    assert count([(lossy, LOUD)]).causes["packet-loss"].unseen == unseen


def test_the_page_says_which_goals_were_reached() -> None:
    good = count([(judged_case("syn-lost", ("all", "all", "confirmed"), ("x alone", "one place", "likely")), LOUD)])
    text = page(good, {"tshark": "4.0.17"})
    assert text.count("| yes |") == 5
    assert text.count("**no**") == 2, "too few runs, too few healthy connections"
    assert "tshark 4.0.17" in text
    bad = count([(judged_case("syn-lost", ("all", "all", "missed"), ("x alone", "one place", "wrong"), accused=True), LOUD)])
    assert page(bad, {}).count("**no**") == 6
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_a_share_that_is_not_whole_is_never_told_as_a_hundred() -> None:
    cases = [(judged_case("syn-lost", ("all", "all", "confirmed")), LOUD)] * 2999
    text = page(count([*cases, (judged_case("syn-lost", ("all", "all", "missed")), LOUD)]), {})
    assert "99.9 %" in text
