"""What one synthetic image was made from, and how it was judged: its chain, verified link by link."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partsynth.audit.parents import parent_faults, parents_of
from partsynth.audit.result import Fault
from partsynth.audit.reviews import decisions_on
from partsynth.audit.rows import real_rows, rows_with
from partsynth.audit.tokens import LearnedToken, read_token
from partsynth.audit.versions import Version
from partsynth.augmentation.method import BASE, SOURCE, TOKEN, Parent
from partsynth.config.load import load
from partsynth.config.models import Diffusion
from partsynth.errors import UserError
from partsynth.records.rows import AugmentedRecord, RealRecord, VerdictRecord
from partsynth.records.strengths import parse_strengths
from partsynth.store.base_model import locate_base
from partsynth.store.hashing import sha256_bytes
from partsynth.store.layout import QUALITY, REAL, STRENGTHS

PHOTOGRAPH = ("sha256", "source", "source_sha256", "box", "split", "group")  # columns of the source that are shown


@dataclass(frozen=True)
class VersionHolder:
    """Parents looked for in one version of the data."""

    version: Version

    def real_image(self, path: str) -> RealRecord | None:
        return next((row for row in real_rows(self.version, REAL, path) if row.path == path), None)

    def sha256(self, path: str) -> str | None:
        data = self.version.read(path)
        return None if data is None else sha256_bytes(data)

    def token(self, path: str) -> LearnedToken | None:
        data = self.version.read(path)
        with contextlib.suppress(UserError):
            return None if data is None else read_token(data, path)
        return None


def made_from(version: Version, row: AugmentedRecord, faults: list[Fault]) -> dict[str, Any]:
    """The image's photograph, its other parents as its method names them, and its verdict."""
    holder = VersionHolder(version)
    data: dict[str, Any] = {}
    faults += [Fault(row.path, message) for message in parent_faults(row, holder)]
    for parent in parents_of(row):
        if parent.kind == SOURCE:
            if (source := holder.real_image(parent.path)) is not None:
                photograph = {"framed": source.path} | {key: getattr(source, key) for key in PHOTOGRAPH}
                if parent.class_name:
                    data.setdefault("further_photographs", []).append({"class_name": source.class_name} | photograph)
                else:
                    data["photograph"] = photograph
        elif parent.kind == BASE:
            data["base"] = _base(version.root, row, parent, faults)
        elif holder.sha256(parent.path) == parent.sha256:
            told: dict[str, Any] = {"path": parent.path, "sha256": parent.sha256}
            if parent.kind == TOKEN and (token := holder.token(parent.path)) is not None:
                if parent.class_name:
                    data.setdefault("further_tokens", []).append(told | token.as_json())
                else:
                    data["token"] = told | token.as_json()
            else:
                data.setdefault("made_from", []).append({"kind": parent.kind} | told)
    table = f"{QUALITY}/{row.set_name}.csv"
    verdict = next((v for v in rows_with(version, table, VerdictRecord, row.sha256) if v.sha256 == row.sha256), None)
    if verdict is None:
        faults.append(Fault(row.path, f"has no verdict in {table}"))
    else:
        data["verdict"] = verdict.model_dump(mode="json")
    if decisions := decisions_on(version, row):
        data["review"] = decisions
    if (attempts := _attempts(version, row)) is not None:
        data["attempts"] = attempts
    return data


def _attempts(version: Version, row: AugmentedRecord) -> dict[str, Any] | None:
    """Where the image's set has a quota: how many images its class drew for it."""
    path = f"{STRENGTHS}/{row.set_name}.json"
    if (data := version.read(path)) is None:
        return None
    found = parse_strengths(data, path).attempts.get(row.class_name)
    return None if found is None else found.model_dump()


def _base(root: Path, row: AugmentedRecord, parent: Parent, faults: list[Fault]) -> dict[str, str]:
    told = {"sha256": parent.sha256}
    try:
        diffusion = parameters_of_base(root)
        told["model"], here = locate_base(diffusion.model, diffusion.revision, root, diffusion.config)
        if here != parent.sha256:
            faults.append(Fault(row.path, f"its base model {parent.sha256} is not here: {diffusion.model} is {here}"))
    except UserError as error:
        faults.append(Fault(row.path, f"its base model {parent.sha256} is not here: {error}"))
    return told


def parameters_of_base(root: Path) -> Diffusion:
    """Section diffusion of the project's params.yaml. Raises UserError where it is faulty."""
    return load("diffusion", root / "params.yaml")
