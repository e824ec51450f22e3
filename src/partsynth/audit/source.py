"""Everything derived from one photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partsynth.audit.manifests import token_metadata
from partsynth.audit.result import Result
from partsynth.audit.runs import RunRecord, all_runs, stage_graph
from partsynth.audit.tables import training_table
from partsynth.audit.versions import SHA, Version, needles, read_listing, read_object, rows_with, versions
from partsynth.audit.workspace import OOD, REAL, TOKENS, Fault
from partsynth.errors import UserError
from partsynth.lineage.objects import Objects
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.store.hashing import sha256_bytes
from partsynth.tracking.registry import model_versions


def source(root: Path, what: str) -> Result:
    """Everything derived from one photograph, now and in every run's data, and the runs affected: for a takedown.

    ``what`` names the framed picture or the original photograph, by path or sha256.
    """
    root = root.resolve()
    with Objects(root) as objects:
        faults: list[Fault] = []
        runs = all_runs(root)
        wanted, _ = needles(root, what)
        states: list[tuple[RunRecord | None, Version]] = [(None, Version(root)), *versions(root, objects, runs)]
        photographs: dict[str, RealRecord] = {}
        for run, version in states:
            for row in _photographs(version, wanted):
                photographs.setdefault(row.source_sha256, row)
            if photographs and run is None:
                break  # in the workspace: an older meaning of the same path is another photograph
        if not photographs:
            raise UserError(f"{what!r} is no photograph in any manifest of the workspace, nor of any run's data")
        if len(photographs) > 1:
            raise UserError(f"{what!r} fits several photographs: " + ", ".join(r.source for r in photographs.values()))
        ((photo_sha, photo),) = photographs.items()
        derived = _Derived(photo_sha)
        for run, version in states:
            try:
                derived.collect(version, None if run is None else run)
            except UserError as error:
                faults.append(Fault(run.run_id if run else "workspace", str(error)))
        affected = [entry for run in runs if (entry := derived.affected(root, objects, run, faults))]
        registered = model_versions(root)
        for entry in affected:
            entry["registered"] = [
                f"{v['model']} v{v['version']}" + "".join(f" @{alias}" for alias in v["aliases"])
                for v in registered
                if v["run_id"] == entry["run_id"]
            ]
    data = {
        "photograph": {"source": photo.source, "source_sha256": photo_sha, "class_name": photo.class_name},
        "framed": sorted(derived.framed.values(), key=lambda item: item["path"]),
        "synthetic": sorted(derived.synthetic.values(), key=lambda item: (item["path"], item["sha256"])),
        "tokens": sorted(derived.tokens.values(), key=lambda item: (item["path"], item["sha256"])),
        "runs": affected,
    }
    return Result("source", data, faults)


def _photographs(version: Version, wanted: list[str]) -> list[RealRecord]:
    found = []
    for folder in (REAL, OOD):
        path = f"{folder}/manifest.csv"
        for needle in wanted:
            for row in rows_with(version.read(path), RealRecord, needle, path):
                is_sha = bool(SHA.match(needle))
                if needle in (row.path, row.source) or (
                    is_sha and (row.sha256.startswith(needle) or row.source_sha256.startswith(needle))
                ):
                    found.append(row)
    return found


class _Derived:
    """What came of one photograph, gathered over versions of the data."""

    def __init__(self, photo_sha: str) -> None:
        self.photo = photo_sha
        self.framed: dict[str, dict[str, Any]] = {}  # by sha256
        self.synthetic: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}

    def collect(self, version: Version, run: RunRecord | None) -> None:
        current = run is None
        for folder in (REAL, OOD):
            manifest = f"{folder}/manifest.csv"
            for row in rows_with(version.read(manifest), RealRecord, self.photo, manifest):
                entry = {"path": row.path, "sha256": row.sha256, "split": row.split, "role": row.role}
                if row.mask:
                    entry["mask"] = row.mask
                self.framed.setdefault(row.sha256, entry | {"in_workspace": current})
        for folder in version.sets():
            manifest = f"{folder}/manifest.csv"
            data = version.read(manifest)
            for sha in list(self.framed):
                for row in rows_with(data, AugmentedRecord, sha, manifest):
                    if row.source_sha256 == sha:
                        entry = {"path": row.path, "sha256": row.sha256, "set": row.set_name}
                        self.synthetic.setdefault(row.sha256, entry | {"in_workspace": current})
        for name in sorted({Path(e["path"]).parent.name for e in self.framed.values()}):
            path = f"{TOKENS}/{name}.safetensors"
            if (data := version.read(path)) is None:
                continue
            if {sha for _, sha in token_metadata(data, path)["sources"]} & self.framed.keys():
                sha = sha256_bytes(data)
                self.tokens.setdefault(sha, {"path": path, "sha256": sha, "in_workspace": current})

    def affected(self, root: Path, objects: Objects, run: RunRecord, faults: list[Fault]) -> dict[str, Any] | None:
        """How a run used the photograph: itself, pictures made from it, or pictures made with a token it taught."""
        rows = training_table(objects, run, faults)
        itself = sum(row["sha256"] in self.framed for row in rows)
        from_it = sum(row["sha256"] in self.synthetic for row in rows)
        classes = {Path(token["path"]).stem for token in self.tokens.values()}
        through = 0
        if any(row["origin"] != "real" and row["class_name"] in classes for row in rows):
            try:
                version = Version(root, objects, stage_graph(root, run))
                taught = set()
                for name in classes:
                    data = version.read(f"{TOKENS}/{name}.safetensors")
                    if data is not None and sha256_bytes(data) in self.tokens:
                        taught.add(name)
                through = sum(row["origin"] != "real" and row["class_name"] in taught for row in rows)
            except UserError as error:
                faults.append(Fault(run.run_id, str(error)))
        watched = 0
        real = next((i for i in run.inputs if i.path == REAL and i.digest), None)
        if real is not None and any(entry["split"] == "val" for entry in self.framed.values()):
            try:
                manifest = read_object(objects, read_listing(objects, real.digest)["manifest.csv"])
                rows_of_photo = rows_with(manifest, RealRecord, self.photo, f"{REAL}/manifest.csv")
                watched = sum(row.split == "val" for row in rows_of_photo)
            except (UserError, KeyError) as error:
                faults.append(Fault(run.run_id, f"the validation images of run {run.name} cannot be read: {error}"))
        if not (itself or from_it or through or watched):
            return None
        return run.brief() | {
            "trained_on_it": itself,
            "trained_on_pictures_made_from_it": from_it,
            "trained_on_pictures_of_a_token_it_taught": through,
            "watched_it_as_validation": watched,
        }
