"""`tcpwhy follow -r` on captures of every format, on pipes that grow, and on bytes that are nobody's friend."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwhy.cli import main
from tests.record.segments import ACK, SYN, Conversation, Segment, pcap, pcapng_frames, toa

COMMAND = [sys.executable, "-c", "from tcpwhy.cli import main; main()", "follow"]
CLIENT = "192.0.2.7:4660"


def follow(*words: str) -> Result:
    return CliRunner().invoke(main, ["follow", *words])


def followed(**changes: object) -> Conversation:
    plain = Conversation("10.0.0.1:1025", "10.0.0.5:80", toa(CLIENT, before=3))
    for name, value in changes.items():
        setattr(plain, name, value)
    return plain


def frames_of(conversation: Conversation, requests: int = 2, fields: str = "X-Team: checkout\r\n") -> list[bytes]:
    return [segment.frame() for segment in [*conversation.opening(), *conversation.exchanges(requests, fields)]]


def other(number: int = 0) -> list[bytes]:
    return frames_of(Conversation(f"10.0.0.1:{3000 + number}", "10.0.0.5:80", toa("192.0.2.8:4660"), isn=9_000_000 * number))


def mixed() -> tuple[list[bytes], list[bytes]]:
    """All frames, and those of the one connection that is asked for."""
    wanted, rest = frames_of(followed()), [frame for number in range(5) for frame in other(number)]
    both = [(number / len(many), frame) for many in (wanted, rest) for number, frame in enumerate(many)]
    return [frame for _, frame in sorted(both, key=lambda pair: pair[0])], wanted


@pytest.mark.parametrize("packed", ["plain", "gzip", "xz", "zstd", "lz4", "pcapng"])
def test_every_format(packed: str, tmp_path: Path) -> None:
    frames, wanted = mixed()
    path = tmp_path / "in.cap"
    plain = pcap(frames)
    if packed == "pcapng":
        (tmp_path / "plain.pcap").write_bytes(plain)
        tool = shutil.which("editcap")
        if tool is None:
            pytest.skip("editcap is not installed")
        subprocess.run([tool, "-F", "pcapng", tmp_path / "plain.pcap", path], check=True)
    elif packed in ("zstd", "lz4"):
        tool = shutil.which(packed)
        if tool is None:
            pytest.skip(f"{packed} is not installed")
        path.write_bytes(subprocess.run([tool, "-c"], input=plain, capture_output=True, check=True).stdout)
    else:
        path.write_bytes(plain if packed == "plain" else gzip.compress(plain) if packed == "gzip" else lzma.compress(plain))
    out = tmp_path / "out.pcapng"
    done = follow("--real-client", "192.0.2.7", "-r", str(path), "-w", str(out), "--header", "x-team", "--utc")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        f"{time} UTC  192.0.2.7:4660  10.0.0.1:1025 > 10.0.0.5:80  GET /{number} HTTP/1.1  X-Team: checkout"
        for number, time in enumerate(_times(frames, wanted))
    ]
    assert pcapng_frames(out.read_bytes()) == wanted
    assert "1 connections followed, 9 packets of them, 2 request heads" in done.stderr


def _times(frames: list[bytes], wanted: list[bytes]) -> list[str]:
    """The times of the two requests: `pcap` puts a millisecond between frames, from 2026-09-21 14:13:20 on."""
    return [f"2026-09-21 14:13:20.{frames.index(wanted[place]):03}000" for place in (3, 6)]


@pytest.mark.parametrize("on", [0, 2, 3])
@pytest.mark.parametrize(
    "conversation",
    [
        Conversation("10.0.0.1:1025", "10.0.0.5:80", toa(CLIENT, kind=200)),
        Conversation("10.0.0.1:1025", "10.0.0.5:80", toa(CLIENT, before=32)),
        Conversation("[2001:db8::1]:1025", "[2001:db8::5]:80", toa("[2001:db8:1::7]:4660", before=1, kind=253)),
        Conversation("10.0.0.1:1025", "10.0.0.5:80", toa("[2001:db8:1::7]:4660")),
    ],
)
def test_layouts_and_packets_that_carry_the_option(conversation: Conversation, on: int, tmp_path: Path) -> None:
    conversation.options_on = on
    path, out = tmp_path / "in.pcap", tmp_path / "out.pcapng"
    wanted = frames_of(conversation)
    path.write_bytes(pcap([*other(1), *wanted, *other(2)]))
    client = "2001:db8:1::7" if b"\xfd\x14" in conversation.options or b"\xfe\x14" in conversation.options else "192.0.2.7"
    done = follow("--real-client", client, "-r", str(path), "-w", str(out))
    assert done.exit_code == 0, done.output
    assert pcapng_frames(out.read_bytes()) == wanted
    assert done.stdout.count("GET /") == 2


def test_the_written_capture_is_read_by_tshark(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    frames, wanted = mixed()
    (tmp_path / "in.pcap").write_bytes(pcap(frames))
    out = tmp_path / "out.pcapng"
    assert follow("--real-client", CLIENT, "-r", str(tmp_path / "in.pcap"), "-w", str(out)).exit_code == 0
    told = subprocess.run(
        ["tshark", "-r", out, "-T", "fields", "-e", "frame.time_epoch", "-e", "http.request.uri", "-e", "frame.comment"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert len(told) == len(wanted)
    assert [line.split("\t")[1] for line in told if line.split("\t")[1]] == ["/0", "/1"]
    assert told[2].endswith("tcpwhy: connection 1 is followed: TCP option 254/8 names the client")


def test_another_port_is_another_client(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap(mixed()[0]))
    for client, requests in ((CLIENT, 2), ("192.0.2.7:4661", 0), ("192.0.2.9", 0), ("::ffff:192.0.2.7", 2)):
        assert follow("--real-client", client, "-r", str(path)).stdout.count("GET /") == requests
    both = follow("--real-client", CLIENT, "--real-client", "192.0.2.8", "-r", str(path), "--json")
    events = [json.loads(line) for line in both.stdout.splitlines()]
    assert {event["real_client"] for event in events if event["event"] == "request"} == {CLIENT, "192.0.2.8:4660"}
    assert [event["event"] for event in events].count("connection") == 6


def test_proxy_headers_and_trusted_hops(tmp_path: Path) -> None:
    first = Segment("10.0.0.1:1025", "10.0.0.5:80", SYN, 41)
    head = b"GET /p HTTP/1.1\r\nX-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n\r\n"
    proxy = b"PROXY TCP4 192.0.2.7 10.0.0.5 4660 80\r\n"
    path = tmp_path / "in.pcap"
    for payload, words, basis in (
        (proxy + b"GET /p HTTP/1.1\r\n\r\n", (), "proxy"),
        (head, ("--trusted-hops", "1"), "header"),
        (head, (), None),
        (head, ("--trusted-hops", "2"), None),
    ):
        path.write_bytes(pcap([first.frame(), Segment("10.0.0.1:1025", "10.0.0.5:80", ACK, 42, 7, payload).frame()]))
        done = follow("--real-client", "192.0.2.7", "-r", str(path), "--json", *words)
        requests = [event for event in map(json.loads, done.stdout.splitlines()) if event["event"] == "request"]
        assert [(event["request"], event["basis"]) for event in requests] == ([("GET /p HTTP/1.1", basis)] if basis else [])


def test_a_given_connection_without_its_begin(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap([*other()[3:], *frames_of(followed())]))
    done = follow("--connection", "10.0.0.5:80-10.0.0.1:3000", "-r", str(path), "--utc")
    assert done.stdout.count("  ?  10.0.0.1:3000 > 10.0.0.5:80  GET /") == 2
    path.write_bytes(pcap([*other()[3:], *frames_of(followed())[3:]]))
    asked = follow("--real-client", "192.0.2.7", "-r", str(path))
    assert asked.stdout == ""
    assert asked.stderr.count("on a connection that is open already no option will come") == 1
    assert "--connection A:p-B:p" in asked.stderr


def test_what_comes_from_packets_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap(frames_of(followed(), 1, "X-Team: \x1b[31mred\u202e\r\nX-Raw: a\xff\r\n")))
    done = follow("--real-client", "192.0.2.7", "-r", str(path), "--header", "X-Team", "-v")
    lines = done.stdout.splitlines()
    assert lines[0].endswith(r"GET /0 HTTP/1.1  X-Team: \x1b[31mred\u202e")
    assert [line.strip() for line in lines[1:]] == ["Host: 10.0.0.1:1025", r"X-Team: \x1b[31mred\u202e", "X-Raw: aÿ"]


def test_a_pipe_that_grows(tmp_path: Path) -> None:
    data = pcap(frames_of(followed(), 3))
    process = subprocess.Popen(
        [*COMMAND, "--real-client", "192.0.2.7", "-r", "-", "-w", "out.pcapng"],
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    for at in range(0, len(data), 7):
        process.stdin.write(data[at : at + 7])
        process.stdin.flush()
    # The pipe is open, and everything is told and written nevertheless.
    lines = [process.stdout.readline() for _ in range(3)]
    assert [b"GET /%d " % number in line for number, line in enumerate(lines)] == [True] * 3
    time.sleep(0.5)
    assert len(pcapng_frames((tmp_path / "out.pcapng").read_bytes())) == 12
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert len(pcapng_frames((tmp_path / "out.pcapng").read_bytes())) == 12


def test_packets_to_standard_output(tmp_path: Path) -> None:
    frames, wanted = mixed()
    done = subprocess.run(
        [*COMMAND, "--real-client", "192.0.2.7", "-r", "-", "-w", "-"], input=pcap(frames), capture_output=True, check=False
    )
    assert (done.returncode, pcapng_frames(done.stdout)) == (0, wanted)
    reader, writer = os.pipe()
    os.close(reader)
    for words in (("-w", "-"), ()):
        gone = subprocess.run(
            [*COMMAND, "--real-client", "192.0.2.7", "-r", "-", *words],
            input=pcap(frames),
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
        assert gone.returncode == 0, gone.stderr
        assert b"Traceback" not in gone.stderr
    os.close(writer)


def test_ends_after_so_many_packets(tmp_path: Path) -> None:
    path, out = tmp_path / "in.pcap", tmp_path / "out.pcapng"
    frames, wanted = mixed()
    path.write_bytes(pcap(frames))
    done = follow("--real-client", "192.0.2.7", "-r", str(path), "-w", str(out), "-c", "4")
    assert (done.exit_code, pcapng_frames(out.read_bytes())) == (0, wanted[:4])


SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schema" / "tcpwhy-follow-1.json").read_text())


def test_every_line_of_json_is_valid_by_the_schema(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    path = tmp_path / "in.pcap"
    hello = followed(client="10.0.0.1:1026")
    tls = Segment(
        hello.client, hello.server, ACK, hello.isn + 1, hello.isn + 8, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
    )
    encrypted = [segment.frame() for segment in [*hello.opening(), tls]]
    path.write_bytes(pcap([*mixed()[0], *encrypted, *other(9)[3:]]))
    done = follow("--real-client", "192.0.2.7", "--connection", "10.0.0.1:3009-10.0.0.5:80", "-r", str(path), "--json", "--header", "host")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        validator.validate(line)
    assert {line["event"] for line in lines} == {"connection", "request", "encrypted", "end"}
    assert next(line["headers"] for line in lines if line["event"] == "request") == [["Host", "10.0.0.1:1025"]]
    for wrong in ({**lines[0], "connection": 0}, {**lines[0], "event": "no"}, {**lines[-1], "how": None}):
        assert not validator.is_valid(wrong)


@pytest.mark.parametrize(
    ("words", "because"),
    [
        (("-r", "x"), "expected --real-client"),
        (("--real-client", "1.2.3.4"), "expected either -i IFACE or -r FILE"),
        (("--real-client", "1.2.3.4", "-i", "lo", "-r", "x"), "expected either -i IFACE or -r FILE"),
        (("--real-client", "1.2.3", "-r", "x"), "expected an address"),
        (("--connection", "1.2.3.4:5", "-r", "x"), "expected two ends"),
        (("--connection", "1.2.3.4:5-1.2.3.5:6", "--trusted-hops", "1", "-r", "x"), "expected --real-client"),
        (("--real-client", "1.2.3.4", "-r", "x", "-w", "-", "--json"), "expected one of them"),
        (("--real-client", "1.2.3.4", "-r", "no/such/file"), "no/such/file: no such file or directory"),
        (("--real-client", "1.2.3.4", "-r", "/dev/null"), "/dev/null: empty file"),
        (("--real-client", "1.2.3.4", "-r", "/etc/passwd"), "/etc/passwd: read"),
        (("--real-client", "1.2.3.4", "-r", "/dev/null", "-w", "no/such/out"), "no/such/out: no such file or directory"),
    ],
)
def test_calls_that_cannot_be_meant(words: tuple[str, ...], because: str) -> None:
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert because in done.stderr


def test_the_capture_that_is_read_is_not_overwritten(tmp_path: Path) -> None:
    file, link = tmp_path / "in.pcap", tmp_path / "link.pcap"
    file.write_bytes(pcap(frames_of(followed())))
    link.symlink_to(file)
    before = file.read_bytes()
    for out in (file, link):
        done = follow("--real-client", "203.0.113.7", "-r", str(file), "-w", str(out))
        assert (done.exit_code, "is the capture that is read" in done.stderr) == (2, True)
    assert file.read_bytes() == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_ends_although_nobody_reads_what_it_writes(number: int, status: int, tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap(frames_of(followed(), requests=3000, fields=f"A: {'x' * 800}\r\n")))
    command = [*COMMAND, "--real-client", CLIENT, "-r", str(path), "-w", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "following" in process.stderr.readline()
        time.sleep(0.5)  # the pipe is full
        process.send_signal(number)
        assert process.wait(30) == status
        assert process.stderr.read().startswith("-: nobody takes what is written")


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap(frames_of(followed(), 400)))
    done = subprocess.run(
        [*COMMAND, "--real-client", "192.0.2.7", "-r", path, "-w", "/dev/full"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "/dev/full: no space left on device" in done.stderr.lower()


def test_damage_is_stated(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    whole = pcap(mixed()[0])
    path.write_bytes(whole[:-5])
    cut = follow("--real-client", "192.0.2.7", "-r", str(path))
    assert (cut.exit_code, cut.stdout.count("GET /")) == (0, 2)
    assert "ends inside its last record" in cut.stderr
    path.write_bytes(whole[:900] + b"\xff" * 40 + whole[900:])
    damaged = follow("--real-client", "192.0.2.7", "-r", str(path))
    assert damaged.exit_code == 3
    assert "at byte" in damaged.stderr


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 60))
def test_no_bytes_break_it(seed: int, changes: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    choose = random.Random(seed)
    data = bytearray(pcap(mixed()[0]))
    for _ in range(changes):
        data[choose.randrange(24, len(data))] = choose.randrange(256)
    path = tmp_path_factory.mktemp("hostile") / "in.pcap"
    path.write_bytes(data)
    done = follow("--real-client", "192.0.2.7", "--trusted-hops", "1", "-r", str(path), "-w", str(path.with_suffix(".out")), "-v", "--json")
    assert done.exit_code in (0, 3), done.output
    for line in done.stdout.splitlines():
        assert json.loads(line)["schema"] == "tcpwhy-follow/1"
    pcapng_frames(path.with_suffix(".out").read_bytes())
