from __future__ import annotations

import hashlib

import pytest

from partsynth.audit.rows import part_with, rows_with
from partsynth.audit.versions import Version
from partsynth.records.rows import VerdictRecord


def slowly(table: str, needle: str) -> str:
    needle = needle.replace('"', '""')
    if needle not in table:
        return ""
    head, _, body = table.partition("\n")
    return "\n".join([head, *(line for line in body.split("\n") if needle in line)])


TABLES = [
    "",
    "a,b",
    "a,b\n",
    "a,b\n1,2\n",
    "a,b\n1,2",
    'a,b\n1,"x""y"\n1,größe\n\n1,a\n',
    "1,1\n1,1\n2,1\n21,12\n11,11",
]


@pytest.mark.parametrize("needle", ["1", "a", 'x"y', "größe", ",", "absent", "11"])
@pytest.mark.parametrize("table", TABLES)
def test_the_lines_that_hold_a_text_are_those_of_a_search_line_by_line(table, needle) -> None:
    assert part_with(table.encode(), needle) == slowly(table, needle)


def test_a_large_table_is_searched_where_it_lies_and_few_of_its_rows_are_parsed(tmp_path, monkeypatch) -> None:
    header = ",".join(VerdictRecord.model_fields)
    digests = [hashlib.sha256(b"%d" % i).hexdigest() for i in range(20_000)]
    lines = [f"data/{i}.png,{d},gear,id,,1,0.5,9,gear,1,1,1,1,1,accept," for i, d in enumerate(digests)]
    (tmp_path / "v.csv").write_text("\n".join([header, *lines, ""]))
    monkeypatch.setattr(Version, "read", lambda *_: pytest.fail("the whole table is in memory"))
    version = Version(tmp_path)
    (row,) = rows_with(version, "v.csv", VerdictRecord, digests[19_999])
    assert row.path == "data/19999.png"
    assert rows_with(version, "v.csv", VerdictRecord, "f" * 64) == []
    monkeypatch.undo()
    (tmp_path / "empty.csv").write_text("")
    for absent in ("empty.csv", "none.csv"):
        assert rows_with(version, absent, VerdictRecord, "f" * 64) == []
