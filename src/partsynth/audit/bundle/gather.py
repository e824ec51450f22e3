"""What belongs to one run, read by hash: nothing of the workspace is taken unless its hash is the run's."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from partsynth.audit.runs import RunRecord, find_run, recorded_graph
from partsynth.audit.tables import table_bytes
from partsynth.audit.versions import Version, read_listing, version_of
from partsynth.errors import UserError
from partsynth.evaluation.champion import results
from partsynth.lineage.digests import md5_bytes, path_md5
from partsynth.lineage.git import files_at
from partsynth.lineage.graph import StageGraph, covers, outputs, outside_dependencies
from partsynth.lineage.objects import Objects
from partsynth.records.augmented import row_type
from partsynth.records.card import DataCard, parse_card
from partsynth.records.manifest import parse_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.store.files import read_json
from partsynth.store.hashing import sha256_bytes
from partsynth.store.layout import AUGMENTED, BASE_MODEL, CARD, MANIFEST, OOD, RAW, REAL, REVIEW, Layout
from partsynth.store.yaml_rule import load_yaml
from partsynth.tracking.artifacts import Artifacts
from partsynth.tracking.query import RunView, get_run, read_artifact
from partsynth.tracking.store import tracking_uri

IMAGES, SHARD = (".png",), ".tar"  # what the stages write
LOCK = "requirements.lock"


@dataclass
class Gathered:
    """A run and its files, by the paths that they get in the export."""

    root: Path
    run: RunRecord
    view: RunView | None  # None where MLflow does not know the run
    graph: StageGraph
    objects: Objects
    version: Version
    files: dict[str, bytes] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)  # file of the model -> sha256
    absent: list[str] = field(default_factory=list)  # sentences on what could not be had
    metrics: dict[str, float] = field(default_factory=dict)
    _rows: dict[str, list[AugmentedRecord]] = field(default_factory=dict)

    @property
    def outs(self) -> dict[str, str]:
        """Path -> DVC's md5 of the outputs that the run was made of."""
        return outputs(self.graph["stages"])

    @property
    def sets(self) -> list[str]:
        """Names of its augmentation sets."""
        return [PurePosixPath(path).name for path in self.version.sets()]

    @cached_property
    def real(self) -> list[RealRecord]:
        return self._real(REAL)

    @cached_property
    def ood(self) -> list[RealRecord]:
        return self._real(OOD)

    def _real(self, folder: str) -> list[RealRecord]:
        path = f"{folder}/{MANIFEST}"
        return parse_manifest(self.files[path].decode(), RealRecord, path) if path in self.files else []

    def augmented(self, name: str) -> list[AugmentedRecord]:
        """The rows of a set."""
        if name not in self._rows:
            path = f"{AUGMENTED}/{name}/{MANIFEST}"
            text = self.files[path].decode()
            self._rows[name] = parse_manifest(text, row_type(text, path), path)
        return self._rows[name]

    @cached_property
    def card(self) -> DataCard:
        return parse_card(self.files[CARD].decode(), CARD) if CARD in self.files else DataCard()

    @cached_property
    def params(self) -> dict[str, Any]:
        """params.yaml as the run had it."""
        return load_yaml(self.files.get("lineage/params.yaml", b"")) or {}

    def images(self) -> Iterator[tuple[str, bytes]]:
        """Path and bytes of every image of the run's data sets, masks too.

        Raises
        ------
        UserError
            where one is neither in the cache nor in a remote.
        """
        for path in sorted(_files_of(self, images=True)):
            if (data := self.version.read(path)) is not None:
                yield path, data


def gather(root: Path, name: str, objects: Objects) -> Gathered:
    """All of a run but its images.

    Raises
    ------
    UserError
        where there is no such run, it has no sound stage graph, or something it was made of cannot be had.
    """
    run = find_run(root, name)
    graph = recorded_graph(root, run)
    view = get_run(root, run.run_id) if run.stored == "MLflow" else None
    found = Gathered(root, run, view, graph, objects, version_of(root, objects, run))
    objects.fetch(md5 for path, md5 in found.outs.items() if not _is_left_out(path) and not md5.endswith(".dir"))
    for path in sorted(_files_of(found, images=False)):
        if (data := found.version.read(path)) is not None:
            found.files[path] = data
    table, _ = run.training_table or ("", "")
    found.files.setdefault(table, table_bytes(objects, run))
    _add_lineage(found)
    _add_git_files(found)
    _add_lock(found)
    _add_model(found)
    _add_evaluation(found)
    return found


def _is_left_out(path: str) -> bool:
    """Photographs as they came, and the base model: told of by hash."""
    return covers(RAW, path) or covers(BASE_MODEL, path)


def _files_of(found: Gathered, images: bool) -> Iterator[str]:
    for path, md5 in found.outs.items():
        if _is_left_out(path):
            continue
        inner = [f"{path}/{name}" for name in read_listing(found.objects, md5)] if md5.endswith(".dir") else [path]
        if images:
            shards = [name for name in inner if name.endswith(SHARD)]
            inner += [f"{name}/{member}" for name in shards for member in found.version.members(name)]
        else:
            inner = [name for name in inner if not name.endswith(SHARD)]
        yield from (name for name in inner if name.lower().endswith(IMAGES) == images)


def _add_lineage(found: Gathered) -> None:
    """The stage graph, params.yaml, uncommitted changes, people's decisions: what the run kept, checked by hash."""
    import json

    run = found.run
    found.files["lineage/stages.json"] = (json.dumps(found.graph, indent=1, sort_keys=True) + "\n").encode()
    for name, sha256 in sorted(found.graph.get("files", {}).items()):
        if run.record is not None:
            text = run.record.get("files", {}).get(name)
            data = None if text is None else text.encode()
        else:
            data = read_artifact(found.root, run.run_id, f"lineage/{name}")
        if data is None:
            found.absent.append(f"lineage/{name}: not kept with the run")
        elif sha256_bytes(data) != sha256:
            raise UserError(f"lineage/{name}: the copy kept with run {run.run_id} was altered")
        else:
            found.files[name if covers(REVIEW, name) else f"lineage/{name}"] = data


def _add_git_files(found: Gathered) -> None:
    """Tables of people's decisions that an older run did not keep, and the data card as it is now."""
    for path, md5 in sorted(outside_dependencies(found.graph["stages"]).items()):
        if not covers(REVIEW, path) or md5.endswith(".dir") or path in found.files:
            continue
        if path_md5(found.root / path) == md5:
            found.files[path] = (found.root / path).read_bytes()
        elif md5_bytes(data := files_at(found.root, found.run.commit, path).get("", b"")) == md5:
            found.files[path] = data
        else:
            found.absent.append(f"{path}: neither here nor in the run's commit as the run used it (md5 {md5})")
    card = found.root / CARD
    if card.is_file():
        found.files[CARD] = card.read_bytes()
    else:
        found.absent.append(f"{CARD}: the project has no data card (partsynth check says what it should hold)")


def _add_lock(found: Gathered) -> None:
    """The environment's lock that the run's tag names."""
    wanted = found.run.tags.get("lock_sha256", "")
    here = found.root / LOCK
    for data in (
        here.read_bytes() if here.is_file() else b"",
        files_at(found.root, found.run.commit, LOCK).get("", b""),
    ):
        if sha256_bytes(data) == wanted:
            found.files[LOCK] = data
            return
    told = f"it was sha256 {wanted}, which neither the workspace nor the commit has" if len(wanted) == 64 else wanted
    found.absent.append(f"{LOCK} of the run's environment: {told or 'the run names none'}")


def _add_model(found: Gathered) -> None:
    """The trained model: MLflow's copy, else that of the workspace where its config.json has the run's fingerprint."""
    model: dict[str, bytes] = {}
    if found.view is not None:
        artifacts = Artifacts(found.view.artifact_uri, tracking_uri(found.root))
        for name in artifacts.names("model"):
            if (data := artifacts.read(name)) is not None:
                model[name] = data
    tags = found.run.tags
    if not model and {"setup", "seed", "fingerprint"} <= tags.keys():
        folder = Layout(found.root).classifier(tags["setup"], int(tags["seed"]))
        config = folder / "config.json"
        if config.is_file() and read_json(config).get("fingerprint") == tags["fingerprint"]:
            kept = (*folder.glob("*.safetensors"), config)
            model = {f"model/{path.name}": path.read_bytes() for path in sorted(kept)}
    if not any(name.endswith(".safetensors") for name in model):
        raise UserError(
            f"the weights of run {found.run.run_id} are neither in MLflow nor in the workspace: dvc checkout"
        )
    found.files |= model
    found.weights = {name: sha256_bytes(data) for name, data in model.items() if name.endswith(".safetensors")}


def _add_evaluation(found: Gathered) -> None:
    """Figures that MLflow keeps, and of the workspace's evaluation those of exactly these weights."""
    if found.view is not None:
        found.metrics |= {name: value for name, value in found.view.metrics.items() if not name.startswith("system/")}
    setup, seed = found.run.tags.get("setup", ""), found.run.tags.get("seed", "")
    layout = Layout(found.root)
    predictions = layout.predictions
    evaluated = _same_weights(found, setup, seed) and results(found.root, setup, int(seed))
    if not evaluated or not predictions.is_file():
        found.absent.append(
            "predictions: the workspace's evaluation is not of these weights (dvc repro evaluate there)"
        )
        return
    found.metrics |= evaluated
    with open(predictions, newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if (row["setup"], row["seed"]) == (setup, seed)]
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, reader.fieldnames or (), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    found.files["evaluation/predictions.csv"] = buffer.getvalue().encode()


def _same_weights(found: Gathered, setup: str, seed: str) -> bool:
    """Whether the workspace's model is the run's, byte for byte."""
    if not setup or not seed:
        return False
    folder = Layout(found.root).classifier(setup, int(seed))
    here = {f"model/{path.name}": sha256_bytes(path.read_bytes()) for path in folder.glob("*.safetensors")}
    return here == found.weights
