"""The stage on drawn parts; what must hold with the real reference encoder is in tests/test_planted_failures.py."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.parts import KINDS, part
from helpers.rows import augmented
from PIL import Image, ImageFilter

from partsynth.augmentation.methods.sdedit import SdeditRecord
from partsynth.config.data import Ingest, Ood
from partsynth.config.models import Reference
from partsynth.config.quality import Quality
from partsynth.core.drift import reference
from partsynth.core.drift.reference import ReferenceNet, save
from partsynth.core.images import stats
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import RealRecord, VerdictRecord
from partsynth.stages import ingest, quality
from partsynth.store.hashing import sha256_file
from partsynth.store.png import write_png

REFERENCE = Reference(model="encoder", batch_size=16, device="cpu")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for k, kind in enumerate(KINDS):
        for i in range(20):
            path = root / "photos" / kind / f"part{i // 2}_{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            part(kind, 1000 * k + i).save(path)
    told = Ingest(source="folder", masks="none", size=48, group_pattern="^(.*part[0-9]+)_")
    paths = {"raw": root / "photos", "real": root / "data/real", "ood": root / "data/ood", "root": root}
    ingest.run(ingest.Inputs(params=told, ood_params=Ood(), **paths))
    torch.manual_seed(0)
    save(ReferenceNet((8, 16, 24), 32), root / "encoder", 48)
    make_set(root, "id", lambda kind, n: part(kind, 5000 + n).filter(ImageFilter.GaussianBlur(0 if n % 4 else 3)))
    return root


def make_set(root: Path, name: str, draw) -> None:
    """One image ``draw(class, n)`` for each training image."""
    rows = []
    real = [r for r in read_manifest(root / "data/real/manifest.csv", RealRecord) if r.split == "train"]
    for n, row in enumerate(real):
        image = draw(row.class_name, n)
        entry = augmented(row, Path(row.path).stem, set_name=name)
        sha256 = write_png(root / entry.path, image)
        rows.append(entry.model_copy(update={"sha256": sha256}))
    write_manifest(root / f"data/augmented/{name}/manifest.csv", rows, SdeditRecord)


def run(root: Path, params: Quality, reference: Reference, set_name: str = "id") -> None:
    quality.run(
        quality.Inputs(
            params=params,
            reference=reference,
            set_name=set_name,
            images=root / ("data/real" if set_name == "real" else f"data/augmented/{set_name}"),
            real=root / "data/real",
            out=root / f"data/quality/{set_name}.csv",
            page=root / f"reports/quality/{set_name}",
            root=root,
        )
    )


def go(root: Path, set_name: str = "id", **params) -> list[VerdictRecord]:
    run(root, Quality(**params), REFERENCE, set_name)
    return read_manifest(root / f"data/quality/{set_name}.csv", VerdictRecord)


def snapshot(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_table_page_and_data_docs(project, capsys):
    verdicts = go(project)
    said = capsys.readouterr().out
    rows = read_manifest(project / "data/augmented/id/manifest.csv", SdeditRecord)
    assert [v.path for v in verdicts] == [r.path for r in rows]
    blurred = [v for n, v in enumerate(verdicts) if n % 4 == 0]
    assert all("blurred" in v.reasons and v.verdict == "drop" for v in blurred)
    assert {v.calibration_n for v in verdicts} == {16}
    page = project / "reports/quality/id"
    suite = json.loads((page / "suite.json").read_text())
    kinds = Counter(e["expectation"] for e in suite["expectations"])
    assert suite["pictures"] == len(rows) and kinds["expect_column_mean_to_be_between"] == 1
    share = next(e for e in suite["expectations"] if e["expectation"] == "expect_column_mean_to_be_between")
    flagged = [v for v in verdicts if v.reasons]
    assert share["observed_value"] == pytest.approx(len(flagged) / len(verdicts))
    assert f"{len(flagged)} of {len(rows)} flagged" in said
    with open(page / "flagged.csv", newline="") as file:
        assert {r["path"] for r in csv.DictReader(file)} == {v.path for v in flagged}
    assert (page / "data_docs" / "index.html").is_file()
    for name in ("flagged", "accepted"):
        assert Image.open(page / f"{name}.png").width > 100


def test_again_gives_the_same_bytes_without_the_encoder(project, monkeypatch):
    go(project)
    before = snapshot(project / "reports/quality/id"), sha256_file(project / "data/quality/id.csv")
    monkeypatch.setattr(reference, "load", lambda *_: pytest.fail("the encoder was loaded for measured images"))
    go(project)
    assert (snapshot(project / "reports/quality/id"), sha256_file(project / "data/quality/id.csv")) == before


def test_a_changed_threshold_measures_nothing(project, monkeypatch):
    go(project)
    opened = []
    real = stats.measure
    monkeypatch.setattr(stats, "measure", lambda image: opened.append(1) or real(image))
    strict, lenient = go(project, accept_percentile=0.5), go(project, accept_percentile=1.0, sharpness_ratio=0.0)
    assert not opened
    assert sum(bool(v.reasons) for v in strict) > sum(bool(v.reasons) for v in lenient)
    assert [v.drift for v in strict] == [v.drift for v in lenient]


def test_a_torn_cache_is_measured_anew(project):
    before = go(project)
    for path in (project / ".work/features").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    assert go(project) == before


def test_the_real_set_against_its_other_groups(project):
    verdicts = go(project, "real")
    assert len(verdicts) == 48 and {v.source for v in verdicts} == {""}
    assert all(np.isnan(v.copy_similarity) for v in verdicts)
    assert np.mean([bool(v.reasons) for v in verdicts]) < 0.3


def test_warn_drop_fail(project):
    assert {v.verdict for v in go(project, on_flagged="warn")} == {"accept", "warn"}
    with pytest.raises(UserError, match="images of the set 'id' were flagged"):
        go(project, on_flagged="fail")
    assert "drop" in {v.verdict for v in read_manifest(project / "data/quality/id.csv", VerdictRecord)}


def test_nothing_left_says_so(project, capsys):
    make_set(project, "blank", lambda kind, n: Image.new("RGB", (48, 48), (n, n, n)))
    assert {v.verdict for v in go(project, "blank")} == {"drop"}
    assert "nothing is left of the set blank" in capsys.readouterr().out
    page = project / "reports/quality/blank"
    assert Image.open(page / "accepted.png").height == 40
    assert json.loads((page / "suite.json").read_text())["success"] is False


def test_an_empty_set_says_so(project, capsys):
    write_manifest(project / "data/augmented/none/manifest.csv", [], SdeditRecord)
    assert go(project, "none") == []
    assert "no images" in capsys.readouterr().out
    assert json.loads((project / "reports/quality/none/suite.json").read_text())["pictures"] == 0


def test_what_does_not_fit_is_refused(project):
    rows = read_manifest(project / "data/augmented/id/manifest.csv", SdeditRecord)
    bad = [
        rows[0].model_copy(update={"source": "data/real/val/gear/1.png"}),
        rows[1].model_copy(update={"class_name": "wheel", "path": rows[1].path.replace("/bracket/", "/wheel/")}),
        rows[1].model_copy(update={"class_name": "wheel"}),
        rows[2].model_copy(update={"sha256": "0" * 64}),
    ]
    reasons = (
        "no training image",
        "'wheel' has no real",
        "lies in the folder of 'bracket'",
        "differs from its manifest",
    )
    for row, reason in zip(bad, reasons, strict=True):
        write_manifest(project / "data/augmented/bad/manifest.csv", [row], SdeditRecord)
        with pytest.raises(UserError, match=reason):
            go(project, "bad")
    with pytest.raises(UserError, match="does not exist"):
        run(project, Quality(), Reference(model="models/none"))
