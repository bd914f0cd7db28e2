"""Command lines go in; what a case is asked for, what is printed where, and the exit status must be the contract's."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import tcpwhy
from tcpwhy.causes import ALL_IDS, catalogue
from tcpwhy.cli import main
from tcpwhy.diagnosis.finding import Report, Totals, Unexplained
from tcpwhy.evidence import EvidenceError
from tests.cli.stand_in import StandIn
from tests.report.builders import healthy_report, rehash_finding, rehash_ladder, rehash_report, report


def run(*arguments: str, case: StandIn | None = None, monkeypatch: pytest.MonkeyPatch | None = None) -> Result:
    if case is not None:
        assert monkeypatch is not None
        monkeypatch.setattr(tcpwhy, "open_case", case.open_case, raising=False)
    return CliRunner().invoke(main, list(arguments), env={"COLUMNS": None, "NO_COLOR": None})


LOSSY = report(rehash_finding(cause="packet-loss"), totals=Totals(50, 0, 0, 0))
PREDICTED = report(rehash_finding(connections=(), connection_count=0), totals=Totals(50, 0, 0, 0))
FAILING_LINE = healthy_report(unexplained=(Unexplained(None, None, None, None, "a log line"),))


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (rehash_report(), 1),
        (healthy_report(), 0),
        (healthy_report(incomplete=True), 3),
        (report(totals=Totals(5, 1, 0, 1), incomplete=True), 1),
        (LOSSY, 1),
        (PREDICTED, 0),
        (FAILING_LINE, 1),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_the_exit_status_says_what_was_found(
    monkeypatch: pytest.MonkeyPatch, found: Report, status: int, arguments: tuple[str, ...]
) -> None:
    case = StandIn(found)
    result = run("diagnose", "case", *arguments, case=case, monkeypatch=monkeypatch)
    assert result.exit_code == status, result.output
    assert case.closed
    assert not result.stderr
    if arguments:
        assert json.loads(result.stdout)["totals"]["connections"] == found.totals.connections


def test_each_option_of_diagnose_reaches_the_case(monkeypatch: pytest.MonkeyPatch) -> None:
    case = StandIn(healthy_report())
    words = (
        "diagnose gw=a.pcap b.pcap --connection 1.2.3.4:5-6.7.8.9:80@10:00 --since 2026-11-21 --until 2026-11-22T10:00 --log gw=x.log "
        "--log y.log --cause syn-lost --slow 1.5 --no-index"
    )
    result = run(*words.split(), "--filter", "port 80 or 443", case=case, monkeypatch=monkeypatch)
    assert result.exit_code == 0, result.output
    assert case.opened.pop("progress")
    assert case.opened == {"paths": ("gw=a.pcap", "b.pcap"), "index": False, "logs": ("gw=x.log", "y.log")}
    assert case.asked == {
        "connection": "1.2.3.4:5-6.7.8.9:80@10:00", "since": "2026-11-21", "until": "2026-11-22T10:00", "cause": "syn-lost",
        "slow_s": 1.5, "filter": "port 80 or 443",
    }  # fmt: skip


def test_what_is_not_asked_for_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    case = StandIn(healthy_report())
    run("diagnose", "case", case=case, monkeypatch=monkeypatch)
    assert case.opened["index"] is True
    assert case.asked == {"connection": None, "since": None, "until": None, "cause": None, "slow_s": 3.0, "filter": None}


def test_colour_is_for_terminals_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    case = StandIn(rehash_report(), (rehash_ladder(), None))
    assert "\x1b" not in run("diagnose", "case", case=case, monkeypatch=monkeypatch).stdout
    assert "\x1b[1;31mmid-connection-rehash" in run("--color", "always", "diagnose", "c", case=case, monkeypatch=monkeypatch).stdout
    assert "\x1b" not in run("--color", "never", "diagnose", "c", case=case, monkeypatch=monkeypatch).stdout


def test_show_takes_the_connection_last_and_draws_it(monkeypatch: pytest.MonkeyPatch) -> None:
    case = StandIn(healthy_report(), (rehash_ladder(),))
    result = run("show", "a=x.pcap", "b.pcap", "1.2.3.4:5-6.7.8.9:80", "--utc", case=case, monkeypatch=monkeypatch)
    assert result.exit_code == 0
    assert case.opened["paths"] == ("a=x.pcap", "b.pcap")
    assert case.asked == {"connection": "1.2.3.4:5-6.7.8.9:80"}
    assert "from 2026-11-21 09:30:00.000000 UTC" in result.stdout
    assert "any.pcap #13" in result.stdout


def test_show_of_no_connection_is_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("show", "case", "1.2.3.4:5-6.7.8.9:80", case=StandIn(healthy_report()), monkeypatch=monkeypatch)
    assert result.exit_code == 2
    assert result.stderr == "1.2.3.4:5-6.7.8.9:80: no such connection in the case\n\nhint: `tcpwhy connections CASE` lists them\n"


@pytest.mark.parametrize(("form", "begin"), [("table", b"client  "), ("json", b"[\n  {"), ("csv", b"client_ip,"), ("parquet", b"PAR1")])
def test_connections_in_each_format(monkeypatch: pytest.MonkeyPatch, form: str, begin: bytes) -> None:
    case = StandIn(healthy_report())
    result = run("connections", "case", "--failed", "--where", "resets > 0", "--format", form, case=case, monkeypatch=monkeypatch)
    assert result.exit_code == 0, result.output
    assert case.asked == {"where": "resets > 0", "failed": True}
    assert result.stdout_bytes.startswith(begin)


def test_extract_writes_a_file_or_standard_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    case = StandIn(healthy_report())
    out = tmp_path / "out.pcapng"
    result = run("extract", "case", "1.2.3.4:5-6.7.8.9:80", "-w", str(out), case=case, monkeypatch=monkeypatch)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"{out}: 12 packets written\n")
    assert out.read_bytes() == b"\x0a\x0d\x0d\x0a"
    result = run("extract", "case", "1.2.3.4:5-6.7.8.9:80", "-w", "-", case=case, monkeypatch=monkeypatch)
    assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, b"\x0a\x0d\x0d\x0a", "-: 12 packets written\n")
    assert not Path(case.asked["path"]).exists()


def test_index_says_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("index", "case", case=StandIn(healthy_report()), monkeypatch=monkeypatch)
    assert result.exit_code == 0
    assert result.stdout == (
        "gateway  2 files, 100 packets, 7 flows, 2.5 MB of index, indexed in 1.2 s\n"
        "b1\\x1b   1 files, 5 packets, 1 flows, 0.9 kB of index, was up to date\n"
    )


def test_explain_lists_every_cause_of_the_contract() -> None:
    result = run("explain")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(ALL_IDS)
    pages = {page.id: page.title for page in catalogue()}
    for line in result.stdout.splitlines():
        cause, _, rest = line.partition(" ")
        assert rest.strip() == pages[cause]


@pytest.mark.parametrize("cause", ALL_IDS)
def test_explain_tells_each(cause: str) -> None:
    pages = {page.id: page for page in catalogue()}
    result = run("explain", cause)
    assert result.exit_code == 0
    for heading in ("Mechanism", "Signature", "Source", "Fix", "Not to be taken for"):
        assert f"\n{heading}\n   " in result.stdout
    assert pages[cause].title in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("diagnose",), "tcpwhy diagnose: missing argument 'CASE...'"),
        (("diagnose", "c", "--frobnicate"), "tcpwhy diagnose: no such option '--frobnicate'"),
        (("frobnicate",), "tcpwhy: no such command 'frobnicate'"),
        (("diagnose", "c", "--slow", "soon"), "--slow"),
        (("diagnose", "c", "--slow", "-1"), "--slow"),
        (("diagnose", "c", "--cause", "gremlins"), "there is no cause `gremlins`"),
        (("diagnose", "c", "--filter", "udp"), "--filter: column 1: `udp` is not supported here"),
        (("connections", "c", "--format", "xml"), "xml"),
        (("extract", "c", "1.2.3.4:5-6.7.8.9:80"), "missing option '-w'"),
        (("explain", "syn-lots"), "did you mean `syn-lost`?"),
        (("--color", "sometimes", "explain"), "sometimes"),
        (("diagnose", "/dev/null/absent"), "/dev/null/absent"),
        (("show", "/dev/null/absent", "1.2.3.4:5-6.7.8.9:80"), "/dev/null/absent"),
    ],
)
def test_a_call_that_cannot_be_used_is_one_line_and_a_hint(arguments: tuple[str, ...], complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert complaint in lines[0]
    assert not lines[0].endswith(".")
    assert "Traceback" not in result.stderr
    assert len(lines) == 1 or (lines[1] == "" and lines[2].startswith("hint: "))


@pytest.mark.parametrize(
    ("failure", "status", "said"),
    [
        (EvidenceError("a.pcap:frame 3", "read `x`, expected y", "try z"), 2, "a.pcap:frame 3: read `x`, expected y\n\nhint: try z\n"),
        (EvidenceError("a\x1b", "b"), 2, "a\\x1b: b\n"),
        (PermissionError(13, "Permission denied", "/x/y"), 2, "/x/y: permission denied\n"),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_what_goes_wrong_in_the_case_has_its_status(
    monkeypatch: pytest.MonkeyPatch, failure: BaseException, status: int, said: str
) -> None:
    case = StandIn(healthy_report(), failure=failure)
    result = run("diagnose", "case", case=case, monkeypatch=monkeypatch)
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", said)
    assert case.closed


def test_a_bug_is_called_one_and_its_trace_is_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    case = StandIn(healthy_report(), failure=ZeroDivisionError("by zero"))
    result = run("diagnose", "case", case=case, monkeypatch=monkeypatch)
    assert (result.exit_code, result.stdout) == (70, "")
    assert result.stderr.startswith("tcpwhy: this is a bug in tcpwhy: ZeroDivisionError: by zero\n\nhint: ")
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("TCPWHY_DEBUG", "1")
    result = run("diagnose", "case", case=case, monkeypatch=monkeypatch)
    assert result.exit_code == 70
    assert "Traceback" in result.stderr
