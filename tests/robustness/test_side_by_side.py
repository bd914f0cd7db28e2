"""Captures that are worth several threads go in; what is found must be what one thread finds, and a stop must leave nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tcpwhy
from benchmarks.traffic import write_capture
from tcpwhy import _core
from tcpwhy.tables.index import WORTH_A_THREAD_BYTES, ensure_index, threads_for
from tests.robustness.test_floods import HEADER, syns

SIZE = WORTH_A_THREAD_BYTES + 1_000_000


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("captures")
    paths = [folder / "one.pcap", folder / "two.pcap"]
    for seed, path in enumerate(paths):
        write_capture(path, SIZE, seed, concurrent=300)
    return paths


def tables(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("flows.parquet", "frames.idx")]


@pytest.mark.parametrize("count", [1, 2], ids=["one file", "two files side by side"])
def test_two_threads_find_what_one_finds(captures: list[Path], count: int, tmp_path: Path) -> None:
    paths = [str(path) for path in captures[:count]]
    found = []
    for threads in (1, 2):
        folder = tmp_path / str(threads)
        folder.mkdir()
        found.append((_core.scan(paths, str(folder), None, threads), tables(folder)))
    assert found[0] == found[1]


def test_small_captures_take_one_thread(captures: list[Path], tmp_path: Path) -> None:
    small = tmp_path / "small.pcap"
    small.write_bytes(captures[0].read_bytes()[:1_000_000])
    assert threads_for([small]) == 1
    assert threads_for(captures) >= 1


def case_of(captures: list[Path], folder: Path) -> Path:
    for name, path in zip(("client", "server"), captures, strict=True):
        (folder / name).mkdir(parents=True)
        shutil.copy(path, folder / name / "a.pcap")
    return folder


def test_vantage_points_are_indexed_side_by_side_as_each_by_itself(captures: list[Path], tmp_path: Path) -> None:
    case = case_of(captures, tmp_path / "case")
    with tcpwhy.open_case(case) as opened:
        indexes = opened.vantage_indexes()
        assert [index.name for index in indexes] == ["client", "server"]
        assert all(one.refreshed for one in opened.index())
    for index in indexes:
        alone, _ = ensure_index(index.name, index.paths, tmp_path / "alone", threads=1)
        assert tables(alone.flows_path.parent) == tables(index.flows_path.parent)


def test_who_stops_while_several_are_read_leaves_nothing(tmp_path: Path) -> None:
    flood = tmp_path / "flood.pcap"
    flood.write_bytes(HEADER + syns((1_760_000_000_000_000 + number for number in range(80_000)), same_tuple=False))
    case = case_of([flood, flood], tmp_path / "case")

    def stop(name: str, done: int, total: int) -> None:
        assert done < total, "told first when all was done: nothing was stopped in the middle"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), tcpwhy.open_case(case, progress=stop) as opened:
        opened.index()
    assert list((case / ".tcpwhy").iterdir()) == []
