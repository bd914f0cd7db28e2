"""A table goes in; each format must hold the same rows, with exact times and without a character that steers a terminal."""

import csv
import io
import json
from pathlib import Path

import duckdb
import pytest

from tcpwhy.report.table import FORMATS, Format, encode_table

SQL = """
    SELECT * FROM (VALUES
        ('10.0.0.1', 4000::USMALLINT, '10.0.0.2', 80::USMALLINT, false, make_timestamp_ns(1795000000123456789), 1.5, NULL, 3::UBIGINT),
        ('2001:db8::1', 4001, '2001:db8::2', 443, true, make_timestamp_ns(1795000001000000000), 0.25, 'syn' || chr(27) || '"lost', 0)
    ) AS t(client_ip, client_port, server_ip, server_port, ipv6, first, duration_s, cause, retransmissions)
"""


class Rows:
    """A table as a case gives it."""

    def __init__(self, sql: str = SQL) -> None:
        self._db = duckdb.connect(":memory:")
        self._sql = sql

    @property
    def columns(self) -> list[str]:
        return list(self._db.cursor().sql(self._sql).columns)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._db.cursor().sql(self._sql).__arrow_c_stream__(requested_schema)

    def rows(self) -> list[tuple[object, ...]]:
        return self._db.cursor().sql(self._sql).fetchall()


def encoded(form: Format) -> bytes:
    return encode_table(Rows(), form).data


def test_json_has_nanoseconds_types_and_null() -> None:
    first, second = json.loads(encoded("json"))
    assert first == {
        "client_ip": "10.0.0.1", "client_port": 4000, "server_ip": "10.0.0.2", "server_port": 80, "ipv6": False,
        "first": "2026-11-18T11:06:40.123456789Z", "duration_s": 1.5, "cause": None, "retransmissions": 3,
    }  # fmt: skip
    assert second["cause"] == 'syn\x1b"lost'


def test_csv_has_the_same_and_steers_no_terminal() -> None:
    header, first, second = csv.reader(io.StringIO(encoded("csv").decode()))
    assert header == Rows().columns
    assert first == ["10.0.0.1", "4000", "10.0.0.2", "80", "false", "2026-11-18T11:06:40.123456789Z", "1.5", "", "3"]
    assert second[7] == 'syn\\x1b"lost'


def test_parquet_keeps_the_types(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(encoded("parquet"))
    assert duckdb.execute(f"SELECT * FROM '{path}'").fetchall() == Rows().rows()
    types = dict(duckdb.execute(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM '{path}')").fetchall())
    assert types["first"] == "TIMESTAMP_NS"
    assert types["retransmissions"] == "UBIGINT"


def test_the_text_joins_address_and_port_and_lines_up() -> None:
    text = encode_table(Rows(), "table", utc=True).data.decode()
    header, first, second = text.splitlines()
    assert header.split() == ["client", "server", "ipv6", "first", "duration_s", "cause", "retransmissions"]
    assert first.startswith("10.0.0.1:4000       10.0.0.2:80        false  2026-11-18 11:06:40.123456 UTC         1.5")
    assert second.startswith("[2001:db8::1]:4001  [2001:db8::2]:443  true ")
    assert "\\x1b" in second
    assert first.endswith("3")


def test_a_narrow_terminal_leaves_columns_out_and_says_which() -> None:
    table = encode_table(Rows(), "table", width=56, utc=True)
    assert max(map(len, table.data.decode().splitlines())) <= 56
    assert table.data.startswith(b"client              server             cause")
    assert table.left_out == ("ipv6", "first", "duration_s", "retransmissions")


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_table_is_no_error(form: Format) -> None:
    assert encode_table(Rows(SQL + " WHERE client_port = 1"), form).data


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_the_same_rows_give_the_same_bytes(form: Format) -> None:
    assert encoded(form) == encoded(form)


def test_the_ends_of_what_nanoseconds_can_hold_are_shown() -> None:
    table = Rows("SELECT make_timestamp_ns(-9223372036854775000) AS first, make_timestamp_ns(9223372036854775000) AS last")
    assert b"1677-09-21" in encode_table(table, "table", utc=True).data
    assert b"2262-04-11" in encode_table(table, "json").data
