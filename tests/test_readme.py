"""The README goes in; each thing it shows of the program must be what the program does."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scripts.readme import README, ROOT, demo_report, with_report

TCPWHY = Path(sys.executable).with_name("tcpwhy")
TEXT = README.read_text()


def block(language: str, after: str) -> str:
    """The first fenced block of this language behind a piece of the text."""
    found = re.search(rf"```{language}\n(.*?)```", TEXT[TEXT.index(after) :], re.DOTALL)
    assert found, f"no {language} block behind {after!r}"
    return found[1]


def commands_in_usage() -> list[str]:
    return sorted(set(re.findall(r"^tcpwhy (\w+)", block("sh", "## Commands"), re.MULTILINE)))


def commands_in_help() -> list[str]:
    """The names that `tcpwhy --help` lists under its last heading."""
    text = subprocess.run([TCPWHY, "--help"], capture_output=True, text=True, check=True).stdout
    listed = text[text.index("Commands") :]
    return sorted(re.findall(r"^  (\w[\w-]*)\b", listed, re.MULTILINE))


def test_the_report_is_what_the_demo_prints() -> None:
    assert with_report(TEXT, demo_report()) == TEXT, "run `make readme`"


def test_the_report_names_the_incident() -> None:
    report = block("text", "<!-- demo -->")
    assert "mid-connection-rehash" in report
    assert "confirmed" in report
    assert max(len(line) for line in report.splitlines()) <= 80


def test_a_report_replaces_the_one_before() -> None:
    text = "a\n<!-- demo -->\nold\n<!-- /demo -->\nb\n"
    once = with_report(text, "\nnew  \n")
    assert once == ("a\n<!-- demo -->\n```text\n$ tcpwhy diagnose examples/gateway-502\nnew\n```\n<!-- /demo -->\nb\n")
    assert with_report(once, "new") == once
    with pytest.raises(ValueError, match="once each"):
        with_report("no markers", "new")


def test_the_python_example_runs_and_finds_the_failure() -> None:
    example = block("python", "<!-- example -->")
    done = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("confirmed mid-connection-rehash - ")
    assert "client_ip" in done.stdout


def test_every_command_has_its_usage_and_no_other() -> None:
    assert commands_in_usage() == commands_in_help()


@pytest.mark.parametrize("command", commands_in_usage())
def test_options_shown_exist(command: str) -> None:
    shown = subprocess.run([TCPWHY, command, "--help"], capture_output=True, text=True, check=True).stdout
    for line in block("sh", "## Commands").splitlines():
        if line.startswith(f"tcpwhy {command} "):
            for option in re.findall(r"(?<!\S)(-{1,2}[a-z-]+)", line):
                assert option in shown, f"`{line}`: {option} is not in the help"


def test_causes_named_as_working_are_those_that_exist() -> None:
    today = TEXT[TEXT.index("## What it finds today") : TEXT.index("## Commands")]
    not_yet = {name for row in today.splitlines() if "not yet" in row for name in re.findall(r"`([a-z-]+)`", row)}
    exist = {
        file.stem.replace("_", "-") for file in (ROOT / "src/tcpwhy/causes").glob("*.py") if (file.read_text().find("def examine(") >= 0)
    }
    assert exist
    for cause in exist:
        assert f"`{cause}`" in today, f"{cause} has a file and is not in the README"
    assert not exist & not_yet


def test_least_versions_are_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = tomllib.loads((ROOT / "rust/Cargo.toml").read_text())["package"]
    check = (ROOT / "scripts/check-prerequisites").read_text()
    python = project["requires-python"].removeprefix(">=")
    assert f"**Python {python}**" in TEXT
    assert f"python_minimum={python}\n" in check
    assert f"sys.version_info < ({python.replace('.', ', ')})" in check
    assert f"**Rust {package['rust-version']}**" in TEXT
    assert f"rust_minimum={package['rust-version']}\n" in check
    assert project["version"] == package["version"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_links_lead_to_files_of_the_checkout() -> None:
    for text in (TEXT, (ROOT / "CONTRIBUTING.md").read_text()):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (ROOT / target).is_file(), target
    for path in set(re.findall(r"\bdocs/[\w./-]+\w", TEXT)):
        assert (ROOT / path).exists(), path
