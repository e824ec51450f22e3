"""A method from outside: written beside the package, registered, and used by every stage after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import yaml
from helpers import tiny_sd
from PIL import Image, ImageOps

from partsynth.audit.image import trace_image
from partsynth.augmentation.again import encodings, regenerate
from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import Method, Order
from partsynth.config import help as config_help
from partsynth.config.generation import Calibrate, Generate
from partsynth.config.load import load, load_all
from partsynth.config.models import Diffusion, Reference
from partsynth.config.quality import Quality
from partsynth.config.sets import AugmentationSet
from partsynth.config.training import SelectSetup, Train
from partsynth.core.drift.reference import ReferenceNet, save
from partsynth.errors import UserError
from partsynth.records.augmented import read_augmented
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import AugmentedRecord, SelectedRecord, VerdictRecord
from partsynth.records.strengths import read_strengths
from partsynth.seams import METHODS
from partsynth.stages import calibrate, quality, select, train
from partsynth.store.hashing import sha256_bytes


class MirrorSet(AugmentationSet):
    """Training images, mirrored."""

    method: Literal["mirror"] = "mirror"
    upside_down: bool = False
    """Mirrored top to bottom instead of left to right."""


class MirrorRecord(AugmentedRecord):
    method: Literal["mirror"] = "mirror"
    upside_down: bool


class Mirror(Method[MirrorSet, MirrorRecord]):
    """Needs no token and no base model."""

    name = "mirror"
    Parameters = MirrorSet
    Row = MirrorRecord

    def plan(self, order: Order[MirrorSet], materials: Materials) -> list[MirrorRecord]:
        turned = order.parameters.upside_down
        rows = [
            MirrorRecord(**order.common(source, variant), state=source.state, size=64, upside_down=turned)
            for source in order.sources
            for variant in range(order.parameters.variants)
        ]
        return [self.sealed(row, materials) for row in rows]

    def paint(self, rows: Sequence[MirrorRecord], materials: Materials) -> Iterator[tuple[MirrorRecord, Image.Image]]:
        for row in rows:
            source = materials.source(row.source)
            yield row, ImageOps.flip(source) if row.upside_down else ImageOps.mirror(source)


@pytest.fixture
def mirrored(tmp_path: Path) -> Iterator[Path]:
    """A project without base model and tokens, its params.yaml with a set of a method from outside; the set is made."""
    METHODS.register("mirror", Mirror())
    try:
        (tmp_path / ".dvc").mkdir()
        tiny_sd.write_real(tmp_path, pictures=5)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save(ReferenceNet((8, 8, 16, 16), 16), tmp_path / "encoder", 64)
        given = {"method": "mirror", "upside_down": True, "variants": 1}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump({"sets": {"flip": given}, "matrix": {"setups": []}}))
        calibrate.run(
            calibrate.Inputs(
                params=Calibrate(),
                generate=Generate(),
                diffusion=Diffusion(),
                quality=Quality(),
                reference=Reference(),
                augmentation=load("sets.flip", tmp_path / "params.yaml"),
                set_name="flip",
                real=tmp_path / "data/real",
                tokens=tmp_path / "models/tokens",
                out=tmp_path / "data/strengths/flip.json",
                root=tmp_path,
            )
        )
        tiny_sd.make_set(tmp_path, "flip", Generate(), load("sets.flip", tmp_path / "params.yaml"))
        yield tmp_path
    finally:
        METHODS.unregister("mirror")


def judge_and_select(root: Path) -> list[SelectedRecord]:
    quality.run(
        quality.Inputs(
            params=Quality(on_flagged="warn"),
            reference=Reference(model="encoder", batch_size=8, device="cpu"),
            set_name="flip",
            images=root / "data/augmented/flip",
            real=root / "data/real",
            out=root / "data/quality/flip.csv",
            page=root / "reports/quality/flip",
            root=root,
        )
    )
    real, table, verdicts = (
        root / "data/real/manifest.csv",
        root / "data/selected/both.csv",
        root / "data/quality/flip.csv",
    )
    manifest = root / "data/augmented/flip/manifest.csv"
    told = {"setup": "both", "real": real, "out": table}
    everything, accepted = SelectSetup(role="positive", rule="all"), SelectSetup(role="positive", rule="accepted")
    select.run(select.Inputs(params=everything, onto=None, manifest=real, verdicts=None, **told))
    select.run(select.Inputs(params=accepted, onto=table, manifest=manifest, verdicts=verdicts, **told))
    return read_manifest(table, SelectedRecord)


def test_it_has_keys_rows_and_images_of_its_own(mirrored: Path) -> None:
    assert load_all(mirrored / "params.yaml").sets == {"flip": MirrorSet(upside_down=True, variants=1)}
    assert read_strengths(mirrored / "data/strengths/flip.json", "flip").classes == {}
    manifest = mirrored / "data/augmented/flip/manifest.csv"
    assert {"method", "upside_down"} < set(manifest.read_text().splitlines()[0].split(","))
    rows = read_augmented(manifest)
    assert len(rows) == 10 and all(isinstance(row, MirrorRecord) and row.upside_down for row in rows)
    for row in rows:
        source, made = (np.asarray(Image.open(mirrored / path)) for path in (row.source, row.path))
        assert np.array_equal(made, source[::-1])
    again = regenerate(rows[0], Diffusion(), mirrored / "data/real", mirrored / "models/tokens", mirrored)
    assert sha256_bytes(encodings(again, rows[0])[0]) == rows[0].sha256


def test_its_parameters_are_checked_and_explained(mirrored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def faults(**given: object) -> str:
        (mirrored / "p.yaml").write_text(yaml.safe_dump({"sets": {"flip": given}, "matrix": {"setups": []}}))
        with pytest.raises(UserError) as one:
            load("sets.flip", mirrored / "p.yaml")
        with pytest.raises(UserError) as whole:
            load_all(mirrored / "p.yaml")
        assert str(whole.value) == str(one.value)
        return str(one.value)

    told = faults(method="mirror", strength=0.2)  # a key of SDEdit
    assert "p.yaml" in told and "sets.flip.strength: unknown key" in told
    assert "method, variants, quota, max_attempts, upside_down" in told
    assert "sets.flip.upside_down: unknown key" in faults(upside_down=True, strength=0.5)  # without a method: SDEdit
    assert "sets.flip.upside_down: should be a valid boolean" in faults(method="mirror", upside_down="maybe")
    told = faults(method="miror")
    assert "sets.flip.method: should be 'sdedit', 'exchange' or 'mirror' (found 'miror', did you mean mirror)" in told
    config_help.show("sets")
    shown = capsys.readouterr().out
    assert "upside_down" in shown and "Mirrored top to bottom" in shown and "guidance" in shown


def test_quality_select_and_audit_take_its_images(mirrored: Path) -> None:
    chosen = judge_and_select(mirrored)
    rows = {row.path: row for row in read_augmented(mirrored / "data/augmented/flip/manifest.csv")}
    verdicts = read_manifest(mirrored / "data/quality/flip.csv", VerdictRecord)
    assert {v.path: v.source for v in verdicts} == {path: row.source for path, row in rows.items()}
    assert {r.path for r in chosen if r.origin == "flip"} == rows.keys()
    row = next(iter(rows.values()))
    found = trace_image(mirrored, row.path, regenerate=True)
    assert found.faults == [] and found.data["kind"] == "synthetic" and found.data["picture"]["method"] == "mirror"
    assert found.data["photograph"]["framed"] == row.source and found.data["verdict"]["set_name"] == "flip"
    assert not {"token", "base"} & found.data.keys() and found.data["regenerated"]["same_bytes"]
    (mirrored / row.source).write_bytes(b"x")
    assert trace_image(mirrored, row.path, regenerate=True).data["regenerated"] == {"made": False}


def test_without_it_its_set_and_its_manifest_are_refused(mirrored: Path) -> None:
    METHODS.unregister("mirror")
    with pytest.raises(
        UserError, match=r"manifest.csv: column method should be 'sdedit' or 'exchange' \(found 'mirror'\)"
    ):
        read_augmented(mirrored / "data/augmented/flip/manifest.csv")
    with pytest.raises(UserError, match=r"sets.flip.method: should be 'sdedit' or 'exchange' \(found 'mirror'"):
        load("sets.flip", mirrored / "params.yaml")


@pytest.mark.slow
def test_train_takes_its_images(mirrored: Path) -> None:
    judge_and_select(mirrored)
    out = mirrored / "models/supcon/both/0"
    train.run(
        train.Inputs(
            params=Train(steps=4, anchors=8, device="cpu"),
            setup="both",
            seed=0,
            selected=mirrored / "data/selected/both.csv",
            real=mirrored / "data/real",
            out=out,
            root=mirrored,
        )
    )
    assert (out / "encoder.safetensors").is_file()
