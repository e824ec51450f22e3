"""A project folder with judged sets and nothing trained, as people review it: drawn parts, a tiny reference encoder."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from helpers.evaluated_project import SETS, Project
from partsynth.config.load import load_all
from partsynth.core.drift import reference
from partsynth.project.dvcfile import graph_for
from partsynth.project.reviews import write_no_review
from partsynth.project.shipped import presets
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import VerdictRecord


def make(root: Path) -> Path:
    """48 images in each of the sets id and near_ood, 24 in far_ood; 0, 17 and 23 of them flagged."""
    Project(root=root, setups=("real",), seeds=()).make()
    params = yaml.safe_load(presets()["demo"].read_text())
    params["reference"] = {"model": "models/reference"}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (root / "dvc.yaml").write_text(graph_for(load_all(presets()["demo"])))
    write_no_review(root)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference.save(reference.ReferenceNet((8, 8, 16, 16), 16), root / "models/reference", 32)
    assert set(SETS) == set(params["sets"])
    return root


def verdicts(root: Path, set_name: str = "id") -> list[VerdictRecord]:
    return read_manifest(root / f"data/quality/{set_name}.csv", VerdictRecord)
