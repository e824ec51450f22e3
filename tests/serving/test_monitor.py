"""A station over time: an export alone tells whether images are still those that it was made for."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import cli, exports
from PIL import Image, ImageFilter
from scipy.stats import binom

from partsynth.config.models import Reference
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.serving.drift import DriftMeter
from partsynth.serving.export import Inputs, export
from partsynth.serving.monitor import Inputs as Watch
from partsynth.serving.monitor import monitor

pytestmark = pytest.mark.slow

ENCODER = Path(__file__).parents[2] / Reference().model
TIMES = r"name:^(\d{8}T\d{6})"


@pytest.fixture(scope="module")
def station(tmp_path_factory):
    """An export, and a folder of two days of images: test images as they are, and blurred ones; nothing else."""
    place = tmp_path_factory.mktemp("station")
    root = place / "project"
    exports.evaluated(root)
    shutil.copytree(ENCODER, root / Reference().model)
    done = export(Inputs(root=root, out=place / "export"))
    assert done.about["drift"]["validation_images"] >= 30 and done.about["drift"]["agreement"] < 1e-4
    (place / "days").mkdir()
    rows = [r for r in read_manifest(root / "data/real/manifest.csv", RealRecord) if r.split == "test"]
    for i, row in enumerate(rows):
        with Image.open(root / row.path) as image:
            image.save(place / f"days/20261102T08{i:02d}00.png")
            blurred = image.convert("RGB").filter(ImageFilter.GaussianBlur(1.5))  # a lens out of focus
            blurred.save(place / f"days/20261103T08{i:02d}00.png")
    root.rename(place / "elsewhere")  # nothing of the project is looked at from here on
    return place


def watch(station: Path, out: Path, **options) -> dict:
    told = {"what": station / "days", "export": station / "export", "out": out, "timestamps": TIMES} | options
    return monitor(Watch(**told)).told


def test_images_like_the_validation_ones_pass_and_blurred_ones_are_drift(station, tmp_path):
    told = watch(station, tmp_path)
    sound, blurred = told["windows"]
    assert sound["verdict"] == "no alarm" and sound["drift"]["strongest_share_of_its_limit"] < 1
    assert blurred["drift"]["out_of_limits"] and "drift in " in blurred["verdict"] and told["alarm"]
    assert sum(sound["classes"].values()) + sound["unknown"]["count"] == sound["images"] >= 30
    assert {e["expectation"] for w in told["windows"] for e in w["expectations"]} == {
        "expect_column_mean_to_be_between"
    }
    assert json.loads((tmp_path / "monitor.json").read_text()) == told
    page = (tmp_path / "monitor.html").read_text()
    assert "2026-11-03" in page and "drift in" in page and "http" not in page.split("base64,")[0]


def test_the_exit_code_is_the_schedulers(station, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["monitor", str(station / "days"), "--export", str(station / "export"), "--timestamps", TIMES]
    code, out, _ = cli.run(*asked, "--out", "both")
    assert code == 2 and "drift in" in out and (tmp_path / "both/monitor.html").is_file()
    sound = tmp_path / "sound"
    sound.mkdir()
    for path in sorted((station / "days").glob("20261102*")):
        shutil.copy(path, sound)
    asked[1] = str(sound)
    assert cli.run(*asked)[0] == 0
    code, _, err = cli.run(*asked, "--window", "hour", "--min-images", "1000")
    assert code == 1 and "no window has 1000 images" in err
    assert cli.run(*asked, "--timestamps", "name:(x)")[0] == 1


def test_last_windows_alone_may_decide(station, tmp_path):
    days = tmp_path / "days"
    shutil.copytree(station / "days", days)
    for path in sorted(days.glob("20261102*")):
        shutil.copy(path, days / path.name.replace("20261102", "20261104"))
    assert watch(station, tmp_path / "all", what=days)["alarm"]
    assert not watch(station, tmp_path / "last", what=days, last=1)["alarm"]
    assert watch(station, tmp_path / "two", what=days, last=2)["alarm"]


def test_a_table_that_predict_wrote_gives_the_same(station, tmp_path):
    code, _, _ = cli.run(
        *("predict", str(station / "days"), "--model", str(station / "export"), "--out", str(tmp_path / "found")),
        "--drift",
    )
    assert code == 0
    table = tmp_path / "found/predictions.csv"
    of_table, of_folder = (watch(station, tmp_path / what.stem, what=what) for what in (table, station / "days"))
    for a, b in zip(of_table["windows"], of_folder["windows"], strict=True):
        assert (a["unknown"], a["classes"], a["verdict"]) == (b["unknown"], b["classes"], b["verdict"])
        found = [[e["observed_value"] for e in window["expectations"]] for window in (a, b)]
        assert found[0] == pytest.approx(found[1], abs=1e-4)
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["drift"]
        row["taken"] = row["path"][:8]
    with open(tmp_path / "plain.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plain = watch(station, tmp_path / "c", what=tmp_path / "plain.csv", timestamps="column:taken")
    assert "no column drift (predict --drift)" in plain["checks"]["drift"]
    assert [w["drift"] for w in plain["windows"]] == [None, None]


@pytest.mark.parametrize("images", [30, 60, 200])
def test_the_unknown_rate_is_alarmed_as_seldom_as_is_stated(station, tmp_path, images):
    """Tables of images that are unknown at the stated rate, 200 windows from a fixed seed; then at three times it."""
    about = json.loads((station / "export/export.json").read_text())["unknown"]
    stated, alarm, windows = about["wanted"], 0.05, 200
    for rate, seldom in ((stated, True), (3 * max(stated, about["validation_images"]["high"]), False)):
        unknown = np.random.default_rng(0).random((windows, images)) < rate
        table = tmp_path / f"{rate}.csv"
        lines = [
            f"{w:03}-{i}.png,bolt,{str(bool(u)).lower()},{1700000000 + w}"
            for w, row in enumerate(unknown)
            for i, u in enumerate(row)
        ]
        table.write_text("path,class,unknown,taken\n" + "\n".join(lines) + "\n")
        told = watch(
            *(station, tmp_path / f"out{rate}"),
            what=table,
            timestamps="column:taken",
            window=str(images),
            false_alarm=alarm,
        )
        alarms = sum(bool(window["alarms"]) for window in told["windows"])
        assert alarms <= binom.ppf(0.999, windows, alarm) if seldom else alarms > windows / 2


def test_faults_are_named(station, tmp_path):
    for options, why in (
        ({"what": tmp_path / "none"}, "neither a folder of images nor a table"),
        ({"false_alarm": 1.0}, "--false-alarm"),
        ({"export": tmp_path}, "export.json is missing"),
    ):
        with pytest.raises(UserError, match=why):
            watch(station, tmp_path / "out", **options)
    for text, why in (
        ("path,class\na,b\n", "has no column unknown"),
        ("path,class,unknown\na20260101T000000,bolt,perhaps\n", "neither true nor false"),
        ("path,class,unknown,drift\n20260101T000000,bolt,true,1;x\n", "other than numbers"),
    ):
        (tmp_path / "table.csv").write_text(text)
        with pytest.raises(UserError, match=why):
            watch(station, tmp_path / "out", what=tmp_path / "table.csv")
    assert not (tmp_path / "out").exists()


def test_an_export_of_a_project_without_the_encoder_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exports.evaluated(tmp_path / "p")
    done = export(Inputs(root=tmp_path / "p", out=tmp_path / "export"))
    assert "drift cannot be told" in done.about["drift"]["missing"] and not (tmp_path / "export/drift.onnx").exists()
    assert any("drift cannot be told" in line for line in done.lines(tmp_path / "export"))
    with pytest.raises(UserError, match="export the model again"):
        DriftMeter(tmp_path / "export")
