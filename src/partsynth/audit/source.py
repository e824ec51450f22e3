"""Everything derived from one photograph."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from partsynth.audit.lookup import needles
from partsynth.audit.result import Fault, Result
from partsynth.audit.rows import SHA256, images_naming, real_rows, synthetic_rows
from partsynth.audit.runs import RunRecord, all_runs
from partsynth.audit.tables import trained_images
from partsynth.audit.takedown_record import taken_down
from partsynth.audit.tokens import read_adaptation, read_token
from partsynth.audit.versions import Version, distinct_versions, read_listing, version_of
from partsynth.errors import UserError
from partsynth.lineage.objects import Objects
from partsynth.records.rows import RealRecord
from partsynth.store.hashing import sha256_bytes
from partsynth.store.layout import ADAPTATION, MANIFEST, OOD, REAL, TOKENS
from partsynth.tracking.query import model_versions


def trace_source(root: Path, what: str) -> Result:
    """Everything derived from one photograph, now and in every run's data, and the runs affected: for a takedown.

    ``what`` names the framed image or the original photograph, by path or sha256.

    Raises
    ------
    UserError
        where no manifest knows the photograph, or several fit.
    """
    root = root.resolve()
    faults: list[Fault] = []
    with Objects(root) as objects:
        runs = all_runs(root)
        taken = taken_down(root)
        states: list[tuple[str, Version]] = [("workspace", Version(root))]
        states += [(run.run_id, version) for run, version in distinct_versions(root, objects, runs)]
        names = needles(root, what)[0]
        spelt = [unicodedata.normalize(form, name) for name in names for form in ("NFC", "NFD")]  # macOS has the latter
        photograph = _only_one(what, _fitting(states, [*names, *(name for name in spelt if name not in names)]))
        derived = Derived(photograph.source_sha256, photograph.source_sha256 in taken)
        for label, version in states:
            try:
                derived.collect(version)
            except UserError as error:
                faults.append(Fault(label, str(error)))
        registered: dict[str, list[str]] = {}
        for model in model_versions(root):
            shown = f"{model.model} v{model.version}" + "".join(f" @{alias}" for alias in model.aliases)
            registered.setdefault(model.run_id, []).append(shown)
        affected = []
        for run in runs:
            uses = _uses(root, objects, run, derived, faults)
            if any(asdict(uses).values()):
                affected.append(run.brief() | asdict(uses) | {"registered": registered.get(run.run_id, [])})
    tuned = sorted(derived.adaptations.values(), key=lambda item: str(item["sha256"]))
    data: dict[str, Any] = {
        "photograph": {
            "source": photograph.source,
            "source_sha256": photograph.source_sha256,
            "class_name": photograph.class_name,
            **({"taken_down": taken[photograph.source_sha256]} if photograph.source_sha256 in taken else {}),
        },
        "framed": sorted(derived.framed.values(), key=lambda item: item["path"]),
        "synthetic": sorted(derived.synthetic.values(), key=lambda item: (item["path"], item["sha256"])),
        "tokens": sorted(derived.tokens.values(), key=lambda item: (item["path"], item["sha256"])),
        **({"adaptations": tuned} if tuned else {}),
        "runs": affected,
    }
    return Result("source", data, faults)


def _fitting(states: Sequence[tuple[str, Version]], wanted: Sequence[str]) -> list[RealRecord]:
    """One row of each photograph that ``wanted`` fits; those of the workspace, else of all that runs saw."""
    photographs: dict[str, RealRecord] = {}
    for _, version in states:
        for row in _named(version, wanted):
            photographs.setdefault(row.source_sha256, row)
        if photographs and version.is_workspace:
            break  # an older meaning of the same path is another photograph
    return list(photographs.values())


def _named(version: Version, wanted: Sequence[str]) -> Iterator[RealRecord]:
    for folder in (REAL, OOD):
        for needle in wanted:
            for row in real_rows(version, folder, needle):
                by_hash = SHA256.match(needle) and any(h.startswith(needle) for h in (row.sha256, row.source_sha256))
                if by_hash or needle in (row.path, row.source):
                    yield row


def _only_one(what: str, photographs: Sequence[RealRecord]) -> RealRecord:
    if not photographs:
        raise UserError(f"{what!r} is no photograph in any manifest of the workspace, nor of any run's data")
    if len(photographs) > 1:
        raise UserError(f"{what!r} fits several photographs: {', '.join(row.source for row in photographs)}")
    return photographs[0]


class Derived:
    """What came of one photograph, gathered over versions of the data, the workspace first; each by sha256."""

    def __init__(self, photograph: str, gone: bool = False) -> None:
        self.photograph = photograph  # the original's sha256
        self.gone = gone  # taken down: its tokens are expected to be missing
        self.classes: set[str] = set()
        self.framed: dict[str, dict[str, Any]] = {}
        self.synthetic: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.adaptations: dict[str, dict[str, Any]] = {}  # of the base model, which it was tuned on

    def collect(self, version: Version) -> None:
        """Raises UserError where the version's files cannot be read."""
        here = {"in_workspace": version.is_workspace}
        for folder in (REAL, OOD):
            for row in real_rows(version, folder, self.photograph):
                entry = {"path": row.path, "sha256": row.sha256, "split": row.split, "role": row.role}
                mask = {"mask": row.mask} if row.mask else {}
                self.classes.add(row.class_name)
                self.framed.setdefault(row.sha256, entry | mask | here)
        for folder in version.sets():
            for sha256 in list(self.framed):
                for made in synthetic_rows(version, folder, sha256):
                    if sha256 in (made.source_sha256, getattr(made, "donor_sha256", "")):
                        entry = {"path": made.path, "sha256": made.sha256, "set": made.set_name}
                        self.synthetic.setdefault(made.sha256, entry | here)
        learned = [(f"{TOKENS}/{name}.safetensors", read_token, self.tokens) for name in sorted(self.classes)]
        for path, read, found in [*learned, (ADAPTATION, read_adaptation, self.adaptations)]:
            try:
                data = version.read(path)
            except UserError:
                if not self.gone:
                    raise
                continue
            if data is None:
                continue
            if {sha256 for _, sha256 in read(data, path).sources} & self.framed.keys():
                sha256 = sha256_bytes(data)
                found.setdefault(sha256, {"path": path, "sha256": sha256} | here)

    @property
    def watched(self) -> bool:
        """Whether it is a validation image."""
        return any(entry["split"] == "val" for entry in self.framed.values())


@dataclass
class Uses:
    """How often a run used a photograph."""

    trained_on_it: int
    trained_on_pictures_made_from_it: int
    trained_on_pictures_of_a_token_it_taught: int
    """Or of a base model that was tuned on it."""
    watched_it_as_validation: int


def _uses(root: Path, objects: Objects, run: RunRecord, derived: Derived, faults: list[Fault]) -> Uses:
    rows = trained_images(objects, run, faults)
    through, watched = 0, 0
    try:
        synthetic = {row.origin for row in rows} - {"real"}
        teaching = [*derived.tokens, *derived.adaptations]
        if teaching and synthetic:
            taught = _made_with(version_of(root, objects, run), teaching, synthetic)
            through = sum(row.sha256 in taught for row in rows)
    except UserError as error:
        faults.append(Fault(run.run_id, str(error)))
    digest = run.digest(REAL)
    if digest is not None and derived.watched:
        try:
            seen = Version(root, objects, {REAL: digest})
            if MANIFEST not in read_listing(objects, digest):
                raise UserError(f"{REAL} has no {MANIFEST}")
            watched = sum(row.split == "val" for row in real_rows(seen, REAL, derived.photograph))
        except UserError as error:
            faults.append(Fault(run.run_id, f"the validation images of run {run.name} cannot be read: {error}"))
    return Uses(
        trained_on_it=sum(row.sha256 in derived.framed for row in rows),
        trained_on_pictures_made_from_it=sum(row.sha256 in derived.synthetic for row in rows),
        trained_on_pictures_of_a_token_it_taught=through,
        watched_it_as_validation=watched,
    )


def _made_with(version: Version, learned: Sequence[str], sets: set[str]) -> set[str]:
    """The images (sha256) of these sets whose rows name one of the tokens or adaptations: their method used it."""
    folders = [folder for folder in version.sets() if folder.rpartition("/")[2] in sets]
    manifests = [data for folder in folders if (data := version.read(f"{folder}/{MANIFEST}")) is not None]
    return {sha256 for data in manifests for one in learned for sha256 in images_naming(data, one)}
