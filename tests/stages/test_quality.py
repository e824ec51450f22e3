"""The stage on drawn parts; what must hold with the real reference encoder is in test_planted_failures.py."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.rows import augmented
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from partsynth.config.data import Ingest, Ood
from partsynth.config.generation import Quality, Reference
from partsynth.core.drift import reference
from partsynth.core.drift.reference import ReferenceNet, save
from partsynth.core.images import stats
from partsynth.errors import UserError
from partsynth.quality.features import Measured
from partsynth.quality.judge import judge
from partsynth.quality.score import score
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord, VerdictRecord
from partsynth.stages import ingest, quality
from partsynth.store.hashing import sha256_file
from partsynth.store.png import write_png

KINDS = ("bracket", "disc", "gear", "shaft")
REFERENCE = Reference(model="encoder", batch_size=16, device="cpu")


def part(kind: str, seed: int, size: int = 48) -> Image.Image:
    """A drawn part in a light, colour and position of its own."""
    rng = np.random.default_rng(seed)
    tone = int(rng.integers(150, 200))
    image = Image.new("RGB", (2 * size, 2 * size), (60, 62, 66))
    draw = ImageDraw.Draw(image)
    x, y = size + rng.integers(-4, 5, 2)
    r = int(size * rng.uniform(0.62, 0.74))
    colour = (tone, tone - 10, tone - 25)
    hole = (30, 30, 32)
    if kind == "gear":
        turn = rng.uniform(0, 0.2)
        points = [
            (x + q * np.cos(a), y + q * np.sin(a))
            for i in range(24)
            for a, q in [(np.pi * i / 12 + turn, r if i % 4 < 2 else 0.75 * r)]
        ]
        draw.polygon(points, fill=colour)
        draw.ellipse([x - r / 4, y - r / 4, x + r / 4, y + r / 4], fill=hole)
    elif kind == "disc":
        draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)
        for a in np.arange(5) * 2 * np.pi / 5 + rng.uniform(0, 0.2):
            cx, cy = x + 0.6 * r * np.cos(a), y + 0.6 * r * np.sin(a)
            draw.ellipse([cx - r / 6, cy - r / 6, cx + r / 6, cy + r / 6], fill=hole)
    elif kind == "bracket":
        draw.rectangle([x - r, y - r, x - r / 3, y + r], fill=colour)
        draw.rectangle([x - r, y + r / 3, x + r, y + r], fill=colour)
    else:
        draw.rectangle([x - r / 4, y - 1.3 * r, x + r / 4, y + 1.3 * r], fill=colour)
        draw.rectangle([x - r / 2, y - r / 3, x + r / 2, y + r / 3], fill=colour)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32)
    light = rng.uniform(0.9, 1.1) + 0.1 * np.linspace(-1, 1, size)[None, :, None] * rng.choice([-1, 1])
    return Image.fromarray(np.clip(pixels * light + rng.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8))


def edges(images: list[Image.Image]) -> np.ndarray:
    """A stand-in of the reference encoder's form: gradients in 6 x 6 cells and 6 directions, and coarse colour."""
    features = []
    for image in images:
        pixels = np.asarray(image.convert("RGB").resize((48, 48)), np.float32) / 255
        dy, dx = np.gradient(pixels.mean(2))
        strength, angle = np.hypot(dx, dy), (np.arctan2(dy, dx) % np.pi) / np.pi * 6
        cells = [
            np.where(angle.astype(int) % 6 == b, strength, 0).reshape(6, 8, 6, 8).sum((1, 3)).ravel() for b in range(6)
        ]
        colour = pixels.reshape(6, 8, 6, 8, 3).mean((1, 3)).ravel() - 0.5
        feature = np.concatenate([*(np.sqrt(c) for c in cells), colour])
        features.append(feature / np.linalg.norm(feature))
    return np.stack(features).astype(np.float32)


# --- pure: score and judge ----------------------------------------------------------------------------------------


def real_row(kind: str, number: int, split: str) -> RealRecord:
    name = f"data/real/{split}/{kind}/{number}.png"
    return RealRecord(
        path=name,
        sha256="",
        class_name=kind,
        split=split,
        group=f"{kind}-{split}-{number // 2}",
        source=name,
        source_sha256="",
    )


def measured(images: list[Image.Image]) -> Measured:
    looks = stats.Looks(*(np.stack(c) for c in zip(*map(stats.measure, images), strict=True)))
    return Measured(edges(images), looks)


@pytest.fixture(scope="module")
def world():
    """Real rows with their pictures, drawn parts of four classes: 16 train, 12 val, 25 test each."""
    rows, images = [], []
    for k, kind in enumerate(KINDS):
        for split, count, start in (("train", 16, 0), ("val", 12, 100), ("test", 25, 200)):
            for i in range(count):
                rows.append(real_row(kind, i, split))
                images.append(part(kind, 1000 * k + start + i))
    return rows, images


def reasons_of(world, pictures: list[tuple[AugmentedRecord, Image.Image]], params: Quality = Quality()) -> list[str]:
    known = [(r, i) for r, i in zip(*world, strict=True) if r.split != "test"]
    real_rows, real_images = [r for r, _ in known], [i for _, i in known]
    rows = [r for r, _ in pictures]
    looks = measured([i for _, i in pictures])
    scores, limits = score(rows, looks, real_rows, measured(real_images), params)
    return [v.reasons for v in judge(rows, looks.looks, scores, limits, params, "id")]


def training(world) -> list[tuple[RealRecord, Image.Image]]:
    return [(r, i) for r, i in zip(*world, strict=True) if r.split == "train"]


def spoiled(world, spoil) -> list[tuple[AugmentedRecord, Image.Image]]:
    return [(augmented(r, str(n)), spoil(i, n)) for n, (r, i) in enumerate(training(world))]


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48, 3), np.uint8))


def of_another_class(world, image: Image.Image, number: int) -> Image.Image:
    (row, _) = training(world)[number]
    others = [i for r, i in zip(*world, strict=True) if r.split == "test" and r.class_name != row.class_name]
    return others[(7 * number) % len(others)]


PLANTED = {
    "another class": of_another_class,
    "blur": lambda world, image, n: image.filter(ImageFilter.GaussianBlur(2)),
    "noise": lambda world, image, n: Image.blend(image, noise(n), 0.5),
    "pure noise": lambda world, image, n: noise(n),
    "blank": lambda world, image, n: Image.new("RGB", image.size, (3 * n,) * 3),
    "upside-down exposure": lambda world, image, n: ImageOps.invert(image),
    "copy": lambda world, image, n: image,
}


@pytest.mark.parametrize("failure", PLANTED)
def test_planted_failures_are_caught(world, failure):
    reasons = reasons_of(world, spoiled(world, lambda image, n: PLANTED[failure](world, image, n)))
    assert np.mean([bool(r) for r in reasons]) >= 0.95, Counter(reasons)


def test_real_held_out_parts_are_rarely_flagged(world):
    first = {r.class_name: r for r, _ in reversed(training(world))}
    held_out = [(r, i) for r, i in zip(*world, strict=True) if r.split == "test"]
    pictures = [(augmented(first[r.class_name], str(n)), i) for n, (r, i) in enumerate(held_out)]
    reasons = reasons_of(world, pictures)
    assert np.mean([bool(r) for r in reasons]) <= 0.10, Counter(reasons)


def test_thresholds_decide_nothing_else(world):
    pictures = spoiled(world, lambda image, n: image.filter(ImageFilter.GaussianBlur(2)))
    lenient = Quality(accept_percentile=1.0, sharpness_ratio=0.0, copy_similarity=1.0, min_contrast=0.0)
    assert not any(reasons_of(world, pictures, lenient))


# --- the stage ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for k, kind in enumerate(KINDS):
        for i in range(20):
            path = root / "photos" / kind / f"part{i // 2}_{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            part(kind, 1000 * k + i).save(path)
    told = Ingest(source="folder", masks="none", size=48, group_pattern="^(.*part[0-9]+)_")
    ingest.run(told, Ood(), root / "photos", root / "data/real", root / "data/ood", root)
    torch.manual_seed(0)
    save(ReferenceNet((8, 16, 24), 32), root / "encoder", 48)
    make_set(root, "id", lambda kind, n: part(kind, 5000 + n).filter(ImageFilter.GaussianBlur(0 if n % 4 else 3)))
    return root


def make_set(root: Path, name: str, draw) -> None:
    """One picture ``draw(class, n)`` for each training picture."""
    rows = []
    real = [r for r in read_manifest(root / "data/real/manifest.csv", RealRecord) if r.split == "train"]
    for n, row in enumerate(real):
        image = draw(row.class_name, n)
        entry = augmented(row, Path(row.path).stem, set_name=name)
        sha256 = write_png(root / entry.path, image)
        rows.append(entry.model_copy(update={"sha256": sha256}))
    write_manifest(root / f"data/augmented/{name}/manifest.csv", rows, AugmentedRecord)


def go(root: Path, set_name: str = "id", **params) -> list[VerdictRecord]:
    out, page = root / f"data/quality/{set_name}.csv", root / f"reports/quality/{set_name}"
    pictures = root / ("data/real" if set_name == "real" else f"data/augmented/{set_name}")
    quality.run(Quality(**params), REFERENCE, set_name, pictures, root / "data/real", out, page, root)
    return read_manifest(out, VerdictRecord)


def snapshot(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_table_page_and_data_docs(project, capsys):
    verdicts = go(project)
    said = capsys.readouterr().out
    rows = read_manifest(project / "data/augmented/id/manifest.csv", AugmentedRecord)
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
    monkeypatch.setattr(reference, "load", lambda *_: pytest.fail("the encoder was loaded for measured pictures"))
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
    with pytest.raises(UserError, match="pictures of the set 'id' were flagged"):
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
    write_manifest(project / "data/augmented/none/manifest.csv", [], AugmentedRecord)
    assert go(project, "none") == []
    assert "no pictures" in capsys.readouterr().out
    assert json.loads((project / "reports/quality/none/suite.json").read_text())["pictures"] == 0


def test_what_does_not_fit_is_refused(project):
    rows = read_manifest(project / "data/augmented/id/manifest.csv", AugmentedRecord)
    bad = [
        rows[0].model_copy(update={"source": "data/real/val/gear/1.png"}),
        rows[1].model_copy(update={"class_name": "wheel"}),
        rows[2].model_copy(update={"sha256": "0" * 64}),
    ]
    reasons = ("no training picture", "'wheel' has no real", "differs from its manifest")
    for row, reason in zip(bad, reasons, strict=True):
        write_manifest(project / "data/augmented/bad/manifest.csv", [row], AugmentedRecord)
        with pytest.raises(UserError, match=reason):
            go(project, "bad")
    with pytest.raises(UserError, match="does not exist"):
        out, page = project / "x.csv", project / "x"
        told = Reference(model="models/none")
        quality.run(Quality(), told, "id", project / "data/augmented/id", project / "data/real", out, page, project)
