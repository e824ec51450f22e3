"""What a run is made of, as it stands when it begins: tags, data sets, the stage graph, and files kept with the run."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from partsynth.lineage.code import PACKAGE
from partsynth.lineage.git import GitState, git_state
from partsynth.lineage.graph import VERSION, StageGraph, covers, stage_graph
from partsynth.lineage.identity import project_id
from partsynth.store.hashing import sha256_bytes, sha256_file, sha256_tree
from partsynth.store.layout import AUGMENTED, MANIFEST, NO_REVIEW, REVIEW
from partsynth.store.process import cores
from partsynth.tracking.inputs import DataInput, resolve_inputs
from partsynth.tracking.views import PROJECT


@dataclass(frozen=True)
class Stamp:
    """``files`` go into the run's artifact folder ``lineage``."""

    inputs: tuple[DataInput, ...]  # with digests
    graph: StageGraph
    tags: dict[str, str]
    files: dict[str, bytes]


def take_stamp(root: Path, stage: str, inputs: Sequence[DataInput]) -> Stamp:
    """The stamp of a run of ``stage`` (DVC_STAGE wins) on ``inputs``; outside git and DVC it says so."""
    state, address = git_state(root), os.environ.get("DVC_STAGE")
    graph, lineage = _graph(root, address, inputs)
    resolved = resolve_inputs(root, inputs, graph)
    files = {
        name: (root / name).read_bytes() for name in ("params.yaml", "dvc.yaml", "dvc.lock") if (root / name).is_file()
    }
    if state is not None and state.patch:
        files["uncommitted.patch"] = state.patch
    reviews = {name: (root / name).read_bytes() for name in _reviews(graph) if (root / name).is_file()}
    files |= reviews
    graph["files"] = {name: sha256_bytes(data) for name, data in sorted(files.items())}
    files["stages.json"] = (json.dumps(graph, indent=1, sort_keys=True) + "\n").encode()
    lock = root / "requirements.lock"
    tags = {
        "stage": address or stage,
        "lineage": lineage,
        "lineage_sha256": sha256_bytes(files["stages.json"]),
        "code_sha256": sha256_tree(PACKAGE),
        "base_sha256": _base_hash(root, resolved),
        "lock_sha256": sha256_file(lock) if lock.is_file() else "absent: no requirements.lock",
        "device": _device(),
        **({"review_sha256": _named_hashes(reviews)} if reviews else {}),
        **({PROJECT: project} if (project := project_id(root)) else {}),
        "partsynth_version": importlib.metadata.version("partsynth"),
        "mlflow.source.name": f"partsynth {address or stage}",
        "mlflow.source.type": "JOB",
        "mlflow.user": os.environ.get("USER") or os.environ.get("USERNAME") or "unknown",
    }
    return Stamp(tuple(resolved), graph, tags | _git_tags(state) | _experiment_tags(), files)


def _graph(root: Path, address: str | None, inputs: Sequence[DataInput]) -> tuple[StageGraph, str]:
    """The stage graph, and in words how far it goes: a run is not stopped by what cannot be found out."""
    graph: StageGraph = {"version": VERSION, "stage": address, "stages": {}, "disagree": []}
    if not (root / ".dvc").is_dir():
        return graph, "absent: not a DVC repository"
    try:
        graph = stage_graph(root, address, [item.path for item in inputs])
    except Exception as error:
        return graph, f"unresolved: {type(error).__name__}: {error}"
    if graph["disagree"]:
        return graph, "inconsistent: " + ", ".join(f"{d['stage']}: {d['path']}" for d in graph["disagree"])
    return graph, "complete" if address else "of the inputs: not started by DVC"


def kept_in_record(name: str) -> bool:
    """Whether a run's record (run.json) holds a file of its lineage too, for clones without the MLflow store."""
    return name in ("params.yaml", "dvc.yaml") or covers(REVIEW, name)


def _reviews(graph: StageGraph) -> list[str]:
    """The tables of people's decisions that the run's tables obey: git has them, not DVC's cache."""
    deps = {dep["path"] for stage in graph["stages"].values() for dep in stage.get("deps", [])}
    return sorted(path for path in deps if covers(REVIEW, path) and path not in (REVIEW, NO_REVIEW))


def _named_hashes(tables: Mapping[str, bytes]) -> str:
    """Which version of each set's decisions: id=<sha256>,near_ood=<sha256>."""
    return ",".join(f"{Path(name).stem}={sha256_bytes(data)}" for name, data in tables.items())


def _git_tags(state: GitState | None) -> dict[str, str]:
    if state is None:
        return dict.fromkeys(("git_commit", "git_dirty"), "absent: not a git repository")
    tags = {"git_commit": state.commit or "none yet", "git_dirty": str(state.dirty).lower()}
    return tags | ({"mlflow.source.git.commit": state.commit} if state.commit else {})


def _experiment_tags() -> dict[str, str]:
    """Of `dvc exp run`."""
    named = {"dvc_exp": os.environ.get("DVC_EXP_NAME"), "dvc_exp_baseline": os.environ.get("DVC_EXP_BASELINE_REV")}
    return {tag: value for tag, value in named.items() if value}


def _base_hash(root: Path, inputs: Sequence[DataInput]) -> str:
    """The diffusion models' hashes as the manifests of the augmentation sets name them."""
    found = set()
    for item in inputs:
        manifest = root / item.path / MANIFEST
        if covers(AUGMENTED, item.path) and manifest.is_file():
            with open(manifest, newline="") as file:
                found |= {row.get("base_sha256", "none") or "unknown" for row in csv.DictReader(file)}
    return ",".join(sorted(found)) or "none: no synthetic pictures"


def _device() -> str:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} x {torch.cuda.device_count()}"
    return f"cpu {platform.machine()} x {cores()}"
