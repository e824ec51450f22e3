"""One image's chain, in the workspace and in what earlier runs saw."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import small_project
from helpers.audits import IMAGE, PARENT, SETUPS, faults, flip, rewrite
from PIL import Image

from partsynth.audit.image import trace_image
from partsynth.augmentation.methods.sdedit import SdeditRecord
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import RealRecord
from partsynth.store.hashing import sha256_bytes, sha256_file
from partsynth.store.png import png_fingerprint, write_png
from partsynth.tracking.query import find_runs


@pytest.mark.parametrize("by", ["path", "absolute", "sha256", "beginning", "a copy elsewhere"])
def test_an_image_s_chain(project, by, tmp_path):
    sha = sha256_file(project / IMAGE)
    shutil.copy(project / IMAGE, tmp_path / "received.png")
    what = {
        "path": IMAGE,
        "absolute": str(project / IMAGE),
        "sha256": sha,
        "beginning": sha[:10],
        "a copy elsewhere": str(tmp_path / "received.png"),
    }[by]
    result = trace_image(project, what)
    assert result.faults == []
    data = result.data
    row = next(r for r in read_manifest(project / "data/augmented/id/manifest.csv", SdeditRecord) if r.path == IMAGE)
    assert data["picture"] == row.model_dump(mode="json") and data["found_in"] == "workspace"
    assert data["photograph"]["framed"] == PARENT and data["photograph"]["split"] == "train"
    assert data["token"]["sha256"] == row.token_sha256 and PARENT in data["token"]["learned_from"]
    assert data["base"]["sha256"] == row.base_sha256
    assert data["verdict"]["verdict"] == "accept"
    assert [run["name"] for run in data["runs"]] == ["real_id-seed0", "real_id_negatives-seed0"]
    assert {run["role"] for run in data["runs"]} == {"positive"}
    json.dumps(result.as_json())


def test_an_image_of_a_set_with_a_quota_says_how_many_its_class_drew(copied):
    path = copied / "data/strengths/id.json"
    assert "attempts" not in trace_image(copied, IMAGE).data
    drawn = {"attempts": 12, "accepted": 8, "quota": 8}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"attempts": {"gear_a": drawn}}))
    assert trace_image(copied, IMAGE).data["attempts"] == drawn
    path.write_text("{")
    with pytest.raises(UserError, match=r"data/strengths/id.json is no JSON"):
        trace_image(copied, IMAGE)


def test_a_validation_photograph_names_the_runs_that_watched_it(project):
    result = trace_image(project, "data/real/val/gear_a/00.png")
    assert [(run["name"], run["role"]) for run in result.data["runs"]] == [(f"{s}-seed0", "validation") for s in SETUPS]


def test_an_image_nobody_knows_is_an_error(project, tmp_path):
    (tmp_path / "x.png").write_bytes(b"x")
    for what in ("data/augmented/id/none.png", "0" * 64, str(tmp_path / "x.png")):
        with pytest.raises(UserError, match="in no manifest"):
            trace_image(project, what)


def test_a_broken_chain_is_a_fault(copied):
    token = copied / "models/tokens/gear_a.safetensors"
    token.unlink()
    assert "the token it was made with" in faults(trace_image(copied, IMAGE))[IMAGE]
    flip(copied / IMAGE)
    assert any("altered" in fault.message for fault in trace_image(copied, IMAGE).faults)
    (copied / "models/base/unet/config.json").write_text('{"other": 1}')
    assert any("its base model" in fault.message for fault in trace_image(copied, IMAGE).faults)


def test_an_image_of_an_earlier_version_is_traced(project, changed):
    sha = sha256_file(project / IMAGE)
    result = trace_image(changed, sha)
    assert result.faults == []
    assert result.data["found_in"].startswith("run ") and result.data["picture"]["strength"] == 0.2
    first = [r.run_id for r in find_runs(project) if r.name != "real-seed0"]
    assert [run["run_id"] for run in result.data["runs"]] == first
    now = trace_image(changed, IMAGE).data
    assert now["found_in"] == "workspace" and now["picture"]["strength"] == 0.3


@pytest.mark.slow
def test_an_image_is_made_again(tmp_path):
    """With a real (tiny, random) Stable Diffusion; now, and after its set was made anew with another strength."""
    root = small_project.make(tmp_path / "project", tiny_base=True)
    small_project.dvc(root, "repro", "train@real_id-0")
    image = next(iter(read_manifest(root / "data/augmented/id/manifest.csv", SdeditRecord)))
    result = trace_image(root, image.path, regenerate=True)
    assert result.faults == []
    assert result.data["regenerated"] == {"made": True, "same_bytes": True, "mean_difference_of_255": 0, "allowed": 2}
    small_project.set_params(root, "sets.id", strength=0.6)
    small_project.dvc(root, "repro", "train@real_id-0")
    assert sha256_file(root / image.path) != image.sha256
    earlier = trace_image(root, image.sha256, regenerate=True)
    assert earlier.faults == [] and earlier.data["regenerated"]["same_bytes"]

    path = root / image.path  # somebody's work on the image, signed with its fingerprint
    pixels = np.asarray(Image.open(path).convert("RGB"))
    mark = png_fingerprint(path)
    path.unlink()
    sha = write_png(path, 255 - pixels, mark)
    rewrite(
        root / "data/augmented/id/manifest.csv",
        lambda rows: [row.update(sha256=sha) for row in rows if row["path"] == image.path],
    )
    assert any("made again it differs by" in f.message for f in trace_image(root, image.path, True).faults)
    photograph = next(r for r in read_manifest(root / "data/real/manifest.csv", RealRecord) if r.split == "train")
    with pytest.raises(UserError, match="only synthetic images"):
        trace_image(root, photograph.path, regenerate=True)


def test_a_lookup_among_ten_thousand_rows_parses_those_alone_that_name_the_image(copied):
    manifest = copied / "data/augmented/id/manifest.csv"
    rows = read_manifest(manifest, SdeditRecord)
    more = [
        rows[0].model_copy(update={"path": f"data/augmented/id/gear_a/x{i:05d}.png", "sha256": sha256_bytes(b"%d" % i)})
        for i in range(10_000)
    ]
    manifest.unlink()
    write_manifest(manifest, [*rows, *more], SdeditRecord)
    rewrite(manifest, lambda lines: [line.update(seed="none") for line in lines if line["path"].endswith("x00000.png")])
    assert trace_image(copied, IMAGE).faults == []
    assert trace_image(copied, more[5000].sha256).data["picture"]["path"] == more[5000].path
    with pytest.raises(UserError, match=r"manifest\.csv has a faulty row"):
        trace_image(copied, more[0].path)


@pytest.mark.parametrize("what", [IMAGE, PARENT])
def test_a_lookup_loads_neither_mlflow_nor_dvc_s_repository_nor_torch(project, what):
    """They are most of its time: the store is read without MLflow, the cache by path."""
    code = (
        "import sys; from pathlib import Path; from partsynth.audit.image import trace_image\n"
        f"assert trace_image(Path(), {what!r}).data['runs']\n"
        "print(*(name for name in ('mlflow', 'sqlalchemy', 'dvc.repo', 'torch', 'pandas') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
