from __future__ import annotations

from collections import Counter

import pytest
from helpers.rows import augmented, real_row, verdict

from partsynth.config.quality import Quality
from partsynth.quality.expectations import validate
from partsynth.store.hashing import sha256_tree

SOURCES = [real_row(f"{kind}/{i}", "train", f"{kind}-{i}") for kind in ("disc", "gear") for i in range(4)]
VERDICTS = [
    verdict(augmented(s, str(i)), (i + 1) / 8, *(("drop", "drift") if i == 7 else ("accept", "")))
    for i, s in enumerate(SOURCES)
]


def test_an_empty_set_validates_nothing(tmp_path):
    assert validate([], Quality(), "id", ["gear"], tmp_path / "docs")["success"] is None
    assert not (tmp_path / "docs").exists()


def test_what_holds_and_what_fails(tmp_path):
    found = validate(VERDICTS, Quality(), "id", ["disc", "gear"], tmp_path / "docs")
    assert found["success"] is True and found["pictures"] == 8
    kinds = Counter(e["expectation"] for e in found["expectations"])
    assert kinds["expect_column_mean_to_be_between"] == 1 and kinds["expect_column_values_to_not_be_null"] == 6
    (share,) = (e for e in found["expectations"] if e["expectation"] == "expect_column_mean_to_be_between")
    assert share["observed_value"] == pytest.approx(1 / 8)
    strict = validate(VERDICTS, Quality(max_flagged=0.1), "id", ["disc", "gear"], tmp_path / "docs")
    failed = [e for e in strict["expectations"] if not e["success"]]
    assert strict["success"] is False
    assert {e["expectation"] for e in failed} == {
        "expect_column_mean_to_be_between",
        "expect_column_values_to_be_between",
    }
    assert [e["unexpected_paths"] for e in failed if "unexpected_paths" in e] == [[VERDICTS[7].path]]
    assert validate(VERDICTS, Quality(), "id", ["disc", "gear", "shaft"], tmp_path / "docs")["success"] is False


def test_the_same_verdicts_are_the_same_pages(tmp_path):
    for name in ("one", "two"):
        validate(VERDICTS, Quality(), "id", ["disc", "gear"], tmp_path / name)
    assert (tmp_path / "one/index.html").is_file()
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")
