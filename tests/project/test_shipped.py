"""What the package brings along."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from partsynth.config import load as config_load
from partsynth.project.dvcfile import graph_for
from partsynth.project.shipped import checkout, presets

ROOT = Path(__file__).parents[2]
PRESETS = (
    *("benchmark", "benchmark-coins", "benchmark-demo", "benchmark-development", "benchmark-photos", "benchmark-steel"),
    *("demo", "folder", "mvip", "photographs", "sd15-gpu"),
)


def test_the_presets_are_these() -> None:
    assert tuple(presets()) == PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_whole(preset: str) -> None:
    loaded = config_load.load_all(ROOT / "presets" / f"{preset}.yaml")
    graph = yaml.safe_load(graph_for(loaded))["stages"]
    assert set(loaded.select) == set(graph["select"]["foreach"])
    for entry in graph["select"]["foreach"].values():
        if entry["manifest"].startswith("data/augmented/"):
            assert entry["manifest"].split("/")[2] in loaded.sets
    assert loaded.study.setup in loaded.select


def test_the_demo_preset_is_the_repositorys_own_parameters() -> None:
    untouched = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "params.yaml"], cwd=ROOT, capture_output=True)
    if untouched.returncode:
        pytest.skip("params.yaml has changes of your own")
    assert config_load.load_all(ROOT / "params.yaml") == config_load.load_all(ROOT / "presets/demo.yaml")


def test_an_installed_package_has_no_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkout() == ROOT
    monkeypatch.setattr("partsynth.project.shipped.PACKAGE", tmp_path / "site-packages/partsynth")
    assert checkout() is None
