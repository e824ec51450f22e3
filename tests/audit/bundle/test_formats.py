"""The export's formats before their own tools: mlcroissant, CycloneDX's library, model-signing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from partsynth.audit.bundle.sign import Key
from partsynth.errors import UserError
from partsynth.store.hashing import sha256_file

from .conftest import write_key


@pytest.mark.parametrize("name", ["real", "ood", "id", "near_ood"])
def test_mlcroissant_reads_each_data_set_and_its_images(whole: Path, name: str) -> None:
    croissant = pytest.importorskip("mlcroissant")
    file = whole / f"croissant-{name}.json"
    dataset = croissant.Dataset(jsonld=file)
    assert dataset.metadata.ctx.issues.report() == ""  # neither errors nor warnings
    folder = f"data/{name}" if name in ("real", "ood") else f"data/augmented/{name}"
    rows = list(csv.DictReader((whole / folder / "manifest.csv").open()))
    read = list(dataset.records("images"))
    assert [r["images/sha256"].decode() for r in read] == [r["sha256"] for r in rows]
    paths = {r["pixels/path"].decode() for r in dataset.records("pixels")}
    assert paths == {r["path"] for r in rows}
    told = json.loads(file.read_text())
    assert told["license"] == "CC-BY-4.0"
    assert "no rust" in str(told["rai:dataLimitations"]) and "gear" in told["rai:dataBiases"]
    edited = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
    assert told.get("digitalSourceType") == (edited if "augmented" in folder else None)


def test_mlcroissant_sees_a_flipped_byte_of_a_manifest(copied_export: Path) -> None:
    croissant = pytest.importorskip("mlcroissant")
    flip(copied_export / "data/real/manifest.csv")
    with pytest.raises(Exception, match=r"Download\(manifest\)"):
        list(croissant.Dataset(jsonld=copied_export / "croissant-real.json").records("images"))


def test_the_bill_of_materials_is_valid_and_names_everything(whole: Path) -> None:
    pytest.importorskip("cyclonedx")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    text = (whole / "bom.cdx.json").read_text()
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"SHA-256"', '"SHA-257"', 1)) is not None
    bill = json.loads(text)
    parts = {part["bom-ref"]: part for part in bill["components"]}
    assert parts["data:set:id"]["hashes"][0]["content"] == sha256_file(whole / "data/augmented/id/manifest.csv")
    assert parts["data:real"]["licenses"] == [{"license": {"id": "CC-BY-4.0"}}]
    assert parts["pkg:pypi/nothing@1"]["purl"] == "pkg:pypi/nothing@1"
    (base,) = (ref for ref in parts if ref.startswith("base:"))
    edges = {edge["ref"]: edge["dependsOn"] for edge in bill["dependencies"]}
    assert {"data:real", "data:set:id", base, "requirements.lock"} <= set(edges["model"])
    assert {"data:real", base, "token:models/tokens/gear_a.safetensors"} <= set(edges["data:set:id"])
    model = bill["metadata"]["component"]
    assert model["hashes"][0]["content"] == sha256_file(whole / "model/encoder.safetensors")
    assert {entry["ref"] for entry in model["modelCard"]["modelParameters"]["datasets"]} <= set(parts)


def verified(folder: Path, public: Path) -> None:
    from model_signing import verifying

    verifying.Config().use_elliptic_key_verifier(public_key=public).verify(folder, folder / "model.sig")


def test_the_signature_covers_every_file(copied_export: Path, tmp_path: Path) -> None:
    verified(copied_export, copied_export / "model.pub")
    for name in ("data/real/train/gear_a/00.png", "model/encoder.safetensors", "README.md", "verify.py", "model.sig"):
        flip(copied_export / name)
        with pytest.raises(Exception):  # noqa: B017  # the library's own faults are of many kinds
            verified(copied_export, copied_export / "model.pub")
        flip(copied_export / name)
    verified(copied_export, copied_export / "model.pub")
    other = tmp_path / "other.pub"
    other.write_bytes(Key(write_key(tmp_path / "other.pem")).public)
    with pytest.raises(Exception):  # noqa: B017
        verified(copied_export, other)


def test_a_key_that_cannot_sign_is_told_before_anything_is_written(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("model_signing")
    hidden = write_key(tmp_path / "hidden.pem", b"secret")
    with pytest.raises(UserError, match=r"its password is wanted in PARTSYNTH_KEY_PASSWORD"):
        Key(hidden)
    monkeypatch.setenv("PARTSYNTH_KEY_PASSWORD", "wrong")
    with pytest.raises(UserError, match="another password than in"):
        Key(hidden)
    with pytest.raises(UserError, match="it has no password"):
        Key(write_key(tmp_path / "plain.pem"))
    monkeypatch.setenv("PARTSYNTH_KEY_PASSWORD", "secret")
    assert Key(hidden).public.startswith(b"-----BEGIN PUBLIC KEY-----")
    (tmp_path / "text.pem").write_text("no key")
    with pytest.raises(UserError, match="no private key in PEM"):
        Key(tmp_path / "text.pem")
    with pytest.raises(UserError, match="No such file"):
        Key(tmp_path / "none.pem")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
