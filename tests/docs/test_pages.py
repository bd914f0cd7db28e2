"""The pages of docs/ go in; each command, option, column, field, file and cause in them must be the program's."""

import re
import tomllib
from pathlib import Path

import click
import msgspec
import pytest

from tcpwhy.causes import ALL_IDS, catalogue
from tcpwhy.cli import BUG, FAILED, INCOMPLETE, INTERRUPTED, OK, UNUSABLE, main
from tcpwhy.cli._reference import commands, help_of, with_causes, with_help
from tcpwhy.diagnosis import finding
from tcpwhy.diagnosis.listing import CONNECTION_COLUMNS
from tcpwhy.evidence.settings import read_settings
from tcpwhy.evidence.state import STATE_FILES
from tcpwhy.expression import parse_filter, parse_where
from tcpwhy.expression.where import kind_of
from tcpwhy.tables.flows import HALF_COLUMNS, SHARED_COLUMNS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
AGAIN = "run `python -m tcpwhy.cli._reference`"


def page(name: str) -> str:
    return (DOCS / name).read_text()


def words(text: str) -> list[str]:
    return text.split()


def rows(text: str) -> list[list[str]]:
    """The cells of the text's tables, headings and rules left out."""
    found = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return [row for row in found if row and not set("".join(row)) <= set("-: ")]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_reference_is_what_help_prints() -> None:
    assert words(with_help(page("commands.md"))) == words(page("commands.md")), AGAIN
    for name, _ in commands():
        assert f"<!-- help {name} -->" in page("commands.md")
    assert "<!-- help -->" in page("commands.md")
    assert words(help_of(""))[:2] == ["Usage:", "tcpwhy"]


def test_the_causes_are_the_catalogue_s() -> None:
    text = page("causes.md")
    assert words(with_causes(text)) == words(text), AGAIN
    assert [named(row[0])[0] for row in rows(text)[1:]] == list(ALL_IDS)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [c for c in ALL_IDS if c in {page.id for page in catalogue()}]


def test_each_option_named_anywhere_exists() -> None:
    options = {name for _, command in commands() for parameter in command.params for name in parameter.opts}
    options |= {name for parameter in main.params for name in parameter.opts} | {"--help"}
    for path in PAGES:
        text = re.sub(r"```text.*?```", "", path.read_text(), flags=re.DOTALL)
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= options, path.name


def test_each_command_named_anywhere_exists() -> None:
    names = {name.split()[0] for name, _ in commands()}
    for path in PAGES:
        assert set(re.findall(r"(?:^|`)tcpwhy ([a-z]+)", path.read_text(), re.MULTILINE)) <= names, path.name


def test_no_command_promises_what_is_not_there() -> None:
    assert isinstance(main, click.Group)
    for absent in ("--html", "record", "share"):
        assert absent not in help_of("")
        assert absent not in help_of("diagnose")


def test_the_statuses_are_the_program_s() -> None:
    section = page("commands.md").partition("## Exit status")[2].partition("\n## ")[0]
    assert [int(row[0]) for row in rows(section)[1:]] == [OK, FAILED, UNUSABLE, INCOMPLETE, BUG, INTERRUPTED]


def test_the_columns_of_connections_are_documented_in_order_with_their_types() -> None:
    section = page("tables.md").partition("## connections")[2].partition("\n## ")[0]
    documented = {named(row[0])[0]: row[1] for row in rows(section)[1:]}
    assert documented == {name: kind_of(kind) for name, kind in CONNECTION_COLUMNS.items()}
    assert list(documented) == list(CONNECTION_COLUMNS)


def test_the_columns_of_flows_are_documented() -> None:
    section = page("tables.md").partition("## flows")[2].partition("\n## ")[0]
    shared, _, ends = section.partition("The others come twice")
    own = [name for row in rows(shared)[1:] for name in named(row[0])]
    of_ends = [name for row in rows(ends)[1:] for name in named(row[0])]
    first = ["vantage_point", "connection", "flow", "turned_by", "client_ip", "client_port", "server_ip", "server_port", "ipv6"]
    assert sorted(own) == sorted([*first, *SHARED_COLUMNS])
    assert sorted(of_ends) == sorted(HALF_COLUMNS)


def test_the_expressions_in_the_page_can_be_read() -> None:
    text = page("commands.md")
    expressions = [one for row in rows(text.partition("| in EXPR |")[2]) for one in named(row[0]) if " " in one]
    assert len(expressions) >= 7
    for expression in expressions:
        parse_where(expression, CONNECTION_COLUMNS)
    parse_filter("port 80 or 443")


def test_the_fields_of_the_json_are_documented_and_no_others() -> None:
    text = page("json.md")
    structs = [kind for kind in vars(finding).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    fields = {field.name for kind in structs if kind is not msgspec.Struct for field in msgspec.structs.fields(kind)}
    block = text.partition("    {")[2].partition("\n\n")[0]
    documented = set(re.findall(r'"([a-z_]+)"', block))
    assert documented == fields
    for confidence in finding.CONFIDENCES:
        assert f"`{confidence}`" in text


def test_the_settings_in_the_page_can_be_read(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(.*?)```", page("cases.md"), re.DOTALL)
    assert block
    path = tmp_path / "tcpwhy.toml"
    path.write_text(block[1])
    settings = read_settings(path, "tcpwhy.toml")
    keys = tomllib.loads(block[1])["vantage"]["gateway"]
    assert set(keys) == set(type(settings.vantage["gateway"]).__struct_fields__)
    assert settings.service["10.20.32.11:80"].name == "checkout"


def test_the_files_of_state_are_the_program_s() -> None:
    section = page("cases.md").partition("## Host state")[2].partition("\n## ")[0]
    names = {name for name in named(section) if re.fullmatch(r"[\w-]+\.(txt|json)", name)}
    tables = re.search(r"TABLE is (.*?) \|", section)
    assert tables
    documented = {name.replace("TABLE", table) for name in names for table in named(tables[1])}
    assert documented == set(STATE_FILES)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, target


def test_the_index_names_every_page() -> None:
    index = page("README.md")
    for path in PAGES:
        assert path.name == "README.md" or f"]({path.name})" in index
