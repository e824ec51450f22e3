"""A folder of images through an exported model."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers import cli, exports
from PIL import Image

from partsynth.errors import UserError
from partsynth.serving.drift import open_graph
from partsynth.serving.network import to_onnx
from partsynth.serving.predict import Inputs, open_station, predict
from partsynth.store.png import write_png


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    (folder / "model.onnx").write_bytes(to_onnx(exports.network(), exports.metadata()))
    return folder


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(5)
    for name in ("a/p1_front.png", "a/p1_back.png", "b/p2_front.png", ".hidden/x.png"):
        write_png(tmp_path / "in" / name, rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    (tmp_path / "in" / "notes.txt").write_text("no image")
    return tmp_path / "in"


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_tables_and_sheet_tell_every_image(model, images, tmp_path):
    found = predict(Inputs(folder=images, model=model, out=tmp_path / "out"))
    rows = table(tmp_path / "out/predictions.csv")
    assert [r["path"] for r in rows] == ["a/p1_back.png", "a/p1_front.png", "b/p2_front.png"] == list(found.answers)
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    station = open_station(model)
    for row, line in zip(rows, lines, strict=True):
        wanted = station.answer(station.raw((images / row["path"]).read_bytes()))
        assert line == {"path": row["path"], **wanted}
        assert row["class"] == wanted["class"] and row["unknown"] == str(wanted["unknown"]).lower()
        assert float(row["ood_score"]) == pytest.approx(wanted["ood_score"], rel=1e-5)
        assert row["prediction_set"].split(";") == (wanted["prediction_set"] or [""])
        assert row["nearest"].split(";")[0] == wanted["nearest"][0]["path"]
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.width > 3 * 144
    assert not (tmp_path / "out/parts.csv").exists()


def test_tables_and_sheet_may_lie_in_the_folder_itself(model, images):
    first = predict(Inputs(folder=images, model=model, out=images))
    assert (images / "sheet.png").exists()
    assert predict(Inputs(folder=images, model=model, out=images)).answers == first.answers


def test_parts_join_the_images_that_the_pattern_puts_together(model, images, tmp_path):
    found = predict(Inputs(folder=images, model=model, out=tmp_path / "out", group_pattern=r"^(\w)/(p\d)_"))
    rows = table(tmp_path / "out/parts.csv")
    assert [(r["part"], r["images"]) for r in rows] == [("a/p1", "2"), ("b/p2", "1")]
    station = open_station(model)
    views = [station.raw((images / f"a/p1_{side}.png").read_bytes()) for side in ("back", "front")]
    assert found.parts["a/p1"] == station.part(views)
    scores = [found.answers[f"a/p1_{side}.png"]["ood_score"] for side in ("back", "front")]
    assert float(rows[0]["ood_score"]) == pytest.approx(np.mean(scores), rel=1e-5)
    alone = found.answers["b/p2_front.png"]
    assert rows[1]["class"] == alone["class"] and rows[1]["unknown"] == str(alone["unknown"]).lower()
    assert float(rows[1]["probability"]) == pytest.approx(alone["probability"], rel=1e-5)


def test_unreadable_files_are_named_and_the_others_predicted(model, images, tmp_path):
    (images / "torn.png").write_bytes((images / "a/p1_back.png").read_bytes()[:60])
    (images / "empty.jpg").touch()
    code, out, _ = cli.run("predict", str(images), "--model", str(model), "--out", str(tmp_path / "out"))
    assert code == 1 and "3 images" in out
    assert "2 files cannot be read" in out and "torn.png: no image" in out and "empty.jpg: an empty file" in out
    rows = {row["path"]: row for row in table(tmp_path / "out/predictions.csv")}
    assert rows["empty.jpg"]["error"] == "an empty file" and rows["empty.jpg"]["class"] == ""
    assert len(rows) == 5


@pytest.mark.parametrize(
    ("pattern", "why"), [("(", "no regular expression"), ("p1", "no group"), ("(p1)", "does not fit 1 files:\n  b/p2")]
)
def test_a_pattern_that_does_not_fit_is_refused(model, images, tmp_path, pattern, why):
    with pytest.raises(UserError, match=why):
        predict(Inputs(folder=images, model=model, out=tmp_path / "out", group_pattern=pattern))
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_told(model, images, tmp_path):
    for folder, export, why in (
        (tmp_path / "no", model, "is no folder"),
        (images, tmp_path, r"model.onnx is missing: --model names a folder that partsynth export wrote"),
        (model, model, "holds no image"),
    ):
        with pytest.raises(UserError, match=why):
            predict(Inputs(folder=folder, model=export, out=tmp_path / "out"))
    for path in images.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"no image below .* can be read"):
        predict(Inputs(folder=images, model=model, out=tmp_path / "out"))


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda _: b"version https://git-lfs", lambda _: b""]
)
@pytest.mark.parametrize(
    "opened", [lambda folder: open_station(folder), lambda folder: open_graph(folder / "model.onnx")]
)
def test_a_damaged_graph_is_one_sentence(model, tmp_path, damage, opened):
    (tmp_path / "model.onnx").write_bytes(damage((model / "model.onnx").read_bytes()))
    with pytest.raises(UserError, match=r"model.onnx is no ONNX file that can be read"):
        opened(tmp_path)
