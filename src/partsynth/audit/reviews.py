"""People's decisions: those on one image in any version, and all tables against images, classes and training tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from partsynth.audit.result import Fault
from partsynth.audit.rows import rows_with
from partsynth.audit.versions import Version
from partsynth.audit.workspace import Workspace
from partsynth.config.training import SelectSetup
from partsynth.errors import UserError
from partsynth.lineage.graph import StageEntry, Stages, covers
from partsynth.records.manifest import read_manifest
from partsynth.records.review import ReviewRecord, image_of, read_review
from partsynth.records.rows import AugmentedRecord, SelectedRecord
from partsynth.selection.reviewed import keeps_out, obeyed
from partsynth.store.layout import AUGMENTED, NO_REVIEW, REVIEW, SELECTED


def decisions_on(version: Version, row: AugmentedRecord) -> list[dict[str, Any]]:
    """What people decided about an image of these bytes, in one version of the data."""
    table = f"{REVIEW}/{row.set_name}.csv"
    told = ("decision", "other_class", "reviewer", "time", "reason")
    return [
        decision.model_dump(include=set(told))
        for decision in rows_with(version, table, ReviewRecord, row.sha256)
        if decision.sha256 == row.sha256
    ]


def check_reviews(
    space: Workspace, stages: Stages, synthetic: Mapping[str, AugmentedRecord], classes: Collection[str]
) -> tuple[dict[str, int], list[Fault]]:
    """How many decisions there are, and the faults: what cannot be read, what is of no image or class of the project,
    and training tables that hold what people kept out.

    A decision on other bytes than the image has now is no fault: it is not obeyed, and counted.
    """
    faults: list[Fault] = []
    reviews: dict[str, list[ReviewRecord]] = {}
    for file in sorted((space.root / REVIEW).glob("*.csv")):
        name = file.relative_to(space.root).as_posix()
        try:
            reviews[name] = read_review(file)
        except UserError as error:
            faults.append(Fault(name, str(error)))
            continue
        for row in reviews[name]:
            if not covers(f"{AUGMENTED}/{file.stem}", row.path):
                faults.append(Fault(name, f"{row.path} is no image of set {file.stem}"))
            if row.other_class and row.other_class not in classes:
                faults.append(Fault(name, f"{row.path}: there is no class {row.other_class!r}"))
    for stage in stages.values():
        faults += _table_faults(space, stage, reviews, synthetic)
    rows = [row for table in reviews.values() for row in table]
    present = {image_of(row) for row in synthetic.values()}
    stale = sum(row.image not in present for row in rows)
    counts = {"decisions": len(rows)} if rows else {}
    return counts | ({"decisions on other bytes, not obeyed": stale} if stale else {}), faults


def _table_faults(
    space: Workspace,
    stage: StageEntry,
    reviews: Mapping[str, list[ReviewRecord]],
    synthetic: Mapping[str, AugmentedRecord],
) -> list[Fault]:
    """Rows of a stage's training table that the review which it obeyed keeps out."""
    table = next((out["path"] for out in stage.get("outs", []) if covers(SELECTED, out["path"])), None)
    review = next((dep for dep in stage.get("deps", []) if covers(REVIEW, dep["path"])), None)
    if table is None or review is None or review["path"] == NO_REVIEW or review["path"] not in reviews:
        return []
    if space.digest(review["path"]) != review.get("md5"):
        return []  # the stage obeyed another version, which is told of with the stages
    setup = table.rpartition("/")[2].removesuffix(".csv")
    try:
        given = stage.get("params", {}).get("params.yaml", {}).get(f"select.{setup}") or {}
        params, rows = SelectSetup.model_validate(given), read_manifest(space.root / table, SelectedRecord)
    except (UserError, ValueError):
        return []  # told of with the tables
    decisions = obeyed(reviews[review["path"]], synthetic.values())
    return [
        Fault(row.path, f"is selected in {table}, and {told.reviewer} says {told.told} in {review['path']}")
        for row in rows
        if f"{REVIEW}/{row.origin}.csv" == review["path"]
        and (told := decisions.get(row.path)) is not None
        and keeps_out(told, params)
    ]
