"""What later stages need, asked for before hours of work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.small_project import command

from partsynth.config.params import Params
from partsynth.project.findings import Findings
from partsynth.project.needs import check_devices, check_models, check_store, check_versions


@pytest.fixture
def root(tmp_path: Path, base: Path) -> Path:
    shutil.copytree(base, tmp_path / "models/base")
    return tmp_path


def parameters(**sections: dict[str, str]) -> Params:
    return Params.model_validate({"select": {"real": {"rule": "all"}}, "matrix": {"setups": ["real"]}} | sections)


def faults_of_models(root: Path, **sections: dict[str, str]) -> list[str]:
    found = Findings()
    check_models(root, parameters(**sections), found)
    return found.faults


def test_models_are_opened_as_far_as_their_weights(root: Path) -> None:
    assert faults_of_models(root) == []
    weights = root / "models/base/vae/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    encoder = root / "models/base/reference_encoder"
    (encoder / "model.safetensors").rename(encoder / "model.fp16.safetensors")
    one, two = faults_of_models(root)
    assert one.startswith("diffusion.model: ") and "is no whole safetensors file" in one
    assert two.startswith("reference.model: ") and "has no model.safetensors" in two
    (encoder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "model_type 'bert'; allowed" in faults_of_models(root)[1]


def test_models_that_are_not_here(root: Path) -> None:
    assert faults_of_models(root, diffusion={"model": "owner/name"}, reference={"model": "owner/name"}) == []
    assert "there is no folder models/bass" in faults_of_models(root, diffusion={"model": "models/bass"})[0]
    shutil.rmtree(root / "models/base")
    (root / "models/base.dvc").write_text("outs: []\n")
    assert all("`dvc pull` or `dvc checkout` brings it" in fault for fault in faults_of_models(root))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_here() -> None:
    found = Findings()
    check_devices(parameters(reference={"device": "cuda"}), found)
    assert found.faults[0].startswith("reference.device: device is cuda, but torch sees no CUDA device")


def test_a_store_of_no_kind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Findings()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    check_store(root, found)
    assert "keeps no runs in plain folders" in found.faults[0]


def test_remotes_and_repositories_that_cannot_be_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(root, "git", "init", "-q")
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    remote = gone\n['remote \"store\"']\n    url = s3://bucket/path\n")
    monkeypatch.setattr("partsynth.lineage.remotes.find_spec", lambda name: None)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    found = Findings()
    check_versions(root, found)
    git, remote, default = found.faults
    assert "dubious ownership" in git
    assert remote.endswith('store (s3://bucket/path) cannot be used yet: pip install "partsynth[s3]"')
    assert "core.remote names 'gone'" in default
