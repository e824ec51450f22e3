from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.parts import part
from helpers.rows import augmented, real_row, verdict
from PIL import Image

from partsynth.config.quality import Quality
from partsynth.quality.page import contact_sheet, flagged_csv, write_page
from partsynth.store.png import XMP_KEY, write_png

RESULTS = {"set": "id", "pictures": 4, "success": True}


@pytest.fixture
def given(tmp_path):
    source = real_row("gear/0", "train", "g")
    source = source.model_copy(update={"sha256": write_png(tmp_path / source.path, part("gear", 0))})
    rows = [augmented(source, str(i)) for i in range(4)]
    rows = [
        r.model_copy(update={"sha256": write_png(tmp_path / r.path, part("gear", 1 + i))}) for i, r in enumerate(rows)
    ]
    return (
        source,
        rows,
        [verdict(r, i / 4, "drop" if i % 2 else "accept", "drift" * (i % 2)) for i, r in enumerate(rows)],
    )


def test_a_page_holds_what_belongs_to_it_and_nothing_else(tmp_path, given):
    source, rows, verdicts = given
    page = tmp_path / "page"
    (page / "data_docs").mkdir(parents=True)
    (page / "data_docs/index.html").write_text("")
    (page / "of_another_run.png").write_bytes(b"x")
    write_page(page, tmp_path, rows, verdicts, RESULTS, Quality(), {source.path: source})
    names = {p.relative_to(page).as_posix() for p in page.rglob("*") if p.is_file()}
    assert names == {"flagged.png", "accepted.png", "flagged.csv", "suite.json", "data_docs/index.html"}
    suite = json.loads((page / "suite.json").read_text())
    assert suite["params"]["accept_percentile"] == 0.95 and suite["set"] == "id"
    assert Image.open(page / "flagged.png").width > 200  # sources beside their edits
    assert "compositeWithTrainedAlgorithmicMedia" in Image.open(page / "flagged.png").info[XMP_KEY]


def test_an_empty_set_keeps_no_data_docs(tmp_path):
    (tmp_path / "page/data_docs").mkdir(parents=True)
    (tmp_path / "page/data_docs/index.html").write_text("")
    write_page(tmp_path / "page", tmp_path, [], [], RESULTS, Quality(), {})
    assert not (tmp_path / "page/data_docs").exists()
    assert Image.open(tmp_path / "page/accepted.png").size == (420, 40)


def test_the_farthest_are_listed_first(given):
    lines = flagged_csv(given[2]).splitlines()
    assert lines[0] == "path,class_name,reasons,percentile,drift,nearest_class"
    assert [line.split(",")[3] for line in lines[1:]] == ["0.75", "0.5", "0.25", "0.0"]


def test_a_sheet_has_a_place_for_every_cell():
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    one = np.asarray(contact_sheet([(None, red, ["text"])], "none", side=40))
    pair = np.asarray(contact_sheet([(blue, red, ["text"])] * 7, "none", columns=3, side=100))
    assert (one == (255, 0, 0)).all(2).sum() == 40 * 40
    assert (pair == (255, 0, 0)).all(2).sum() == (pair == (0, 0, 255)).all(2).sum() == 7 * 100 * 100
