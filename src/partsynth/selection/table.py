"""One setup's training table: what the table before it holds, and what its rule takes of one set."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from partsynth.config.training import SelectSetup
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.review import ReviewRecord
from partsynth.records.rows import AugmentedRecord, RealRecord, SelectedRecord, UseRole, VerdictRecord
from partsynth.seams import RULES
from partsynth.selection.reviewed import keeps_out, reviewed
from partsynth.selection.rule import Candidate, Rule


def selected(row: RealRecord | AugmentedRecord, role: UseRole) -> SelectedRecord:
    """The image as a training table has it."""
    return SelectedRecord(
        path=row.path,
        sha256=row.sha256,
        class_name=row.class_name,
        role=role,
        origin="real" if isinstance(row, RealRecord) else row.set_name,
        source=row.origin_path,
        group=row.origin_group,
        state=row.state,
        donor=row.further_path,
        donor_group=row.further_group,
    )


def read_verdicts(images: Sequence[SelectedRecord], path: Path) -> dict[str, VerdictRecord]:
    """Path of an image -> its verdict.

    Raises
    ------
    UserError
        where an image has none, or one of another content.
    """
    judged = {v.path: v for v in read_manifest(path, VerdictRecord)}
    stale = [image.path for image in images if image.path not in judged or judged[image.path].sha256 != image.sha256]
    if stale:
        raise UserError(f"{path} has no verdict for {len(stale)} images, such as {stale[0]}: run quality (dvc repro)")
    return judged


def chosen(
    images: Sequence[SelectedRecord],
    verdicts: Mapping[str, VerdictRecord] | None,
    sources: Collection[str],
    params: SelectSetup,
    setup: str,
    decisions: Mapping[str, ReviewRecord] | None = None,
) -> list[SelectedRecord]:
    """The images that the setup's rule takes, with the rule's name and their percentiles.

    Parameters
    ----------
    verdicts : by the image's path; None = there is no table of them
    sources : real images of the table before: edits of others, or with a donor among others, are left out; none = the
        table has no real images
    decisions : people's, by the image's path; they stand above verdicts (``selection.reviewed``)

    Raises
    ------
    UserError
        where the rule needs verdicts and there are none.
    """
    rule: Rule = RULES[params.rule]
    if not verdicts and images and (rule.needs_verdicts or params.nearest_own):
        raise UserError(f"select.{setup}: rule {params.rule!r} needs a table of verdicts; without one: rule all")
    candidates = []
    for image in images:
        verdict = verdicts[image.path] if verdicts else None
        decision = decisions.get(image.path) if decisions else None
        if sources and not {image.source, image.donor or image.source} <= set(sources):
            continue
        if decision is not None and keeps_out(decision, params):
            continue
        if verdict is not None:
            verdict = reviewed(verdict, decision)
        if verdict is not None and params.nearest_own and verdict.nearest_class != verdict.class_name:
            continue
        if rule.takes(params, verdict):
            percentile = {} if verdict is None else {"percentile": verdict.percentile}
            candidates.append(Candidate(image.model_copy(update={"rule": params.rule, **percentile}), verdict))
    return [candidate.image for candidate in rule.draw(params, candidates, setup)]
