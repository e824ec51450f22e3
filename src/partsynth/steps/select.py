"""Stage ``select``: one training table per setup, made of the table before it and one set in one role."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from partsynth.params import SelectSetup
from partsynth.records import (
    AugmentedRecord,
    RealRecord,
    SelectedRecord,
    UserError,
    VerdictRecord,
    read_manifest,
    write_manifest,
)

DISTANT = {"drift", "other_class"}  # reasons that make a hard negative; the others make no picture of a part


def run(
    params: SelectSetup,
    setup: str,
    onto: Path | None,
    manifest: Path,
    verdicts: Path | None,
    out: Path,
    real: Path,
) -> None:
    """Write ``out``: the rows of ``onto`` and those pictures of ``manifest`` that the rule takes.

    ``real`` is the real set's manifest; where ``manifest`` is the same file, its training pictures are added as real
    ones. For ``onto`` and ``verdicts``, None or a folder stands for none. Rules: ``all``; ``accepted`` takes what
    quality did not drop (a warning drops nothing); ``band`` takes first < percentile <= second and drift of at most
    ``cap``, whatever the verdict on drift, but no blurred, blank or otherwise unfit picture. An edit of a real picture
    that the table lacks is left out. ``max_per_class`` keeps the lowest percentiles.

    Raises
    ------
    UserError
        where a picture's source is no training picture, where its group is also in val, test or shifted, where it has
        no verdict or that of another content, and where it is in the table already.
    """
    real_rows = read_manifest(real, RealRecord)
    before = [] if onto is None or onto.is_dir() else read_manifest(onto, SelectedRecord)
    if manifest.resolve() == real.resolve():
        pictures = [_from_real(r, params.role) for r in real_rows if r.split == "train"]
    else:
        pictures = [_from_augmented(r, params.role) for r in read_manifest(manifest, AugmentedRecord)]
    _refuse_leaks([*before, *pictures], real_rows, out)
    judged = {} if verdicts is None or verdicts.is_dir() else _verdicts(pictures, verdicts)
    if not judged and pictures and (params.rule != "all" or params.nearest_own):
        raise UserError(f"select.{setup}: rule {params.rule!r} needs a table of verdicts; without one: rule all")
    sources = {r.path for r in before if r.origin == "real"}
    taken = [
        p.model_copy(update={"percentile": judged[p.path].percentile}) if judged else p
        for p in pictures
        if _takes(params, judged.get(p.path)) and (not sources or p.source in sources)
    ]
    taken = _capped(taken, params.max_per_class)
    rows = [*before, *taken]
    write_manifest(out, rows, SelectedRecord)
    _tell(setup, params, len(pictures), taken, rows)


def _from_real(row: RealRecord, role: str) -> SelectedRecord:
    return SelectedRecord(
        path=row.path,
        sha256=row.sha256,
        class_name=row.class_name,
        role=role,
        origin="real",
        source=row.path,
        group=row.group,
        state=row.state,
    )


def _from_augmented(row: AugmentedRecord, role: str) -> SelectedRecord:
    return SelectedRecord(
        path=row.path,
        sha256=row.sha256,
        class_name=row.class_name,
        role=role,
        origin=row.set_name,
        source=row.source,
        group=row.source_group,
        state=row.state,
    )


def _verdicts(pictures: Sequence[SelectedRecord], path: Path) -> dict[str, VerdictRecord]:
    judged = {v.path: v for v in read_manifest(path, VerdictRecord)}
    stale = [p.path for p in pictures if p.path not in judged or judged[p.path].sha256 != p.sha256]
    if stale:
        raise UserError(f"{path} has no verdict for {len(stale)} pictures, such as {stale[0]}: run quality (dvc repro)")
    return judged


def _takes(params: SelectSetup, verdict: VerdictRecord | None) -> bool:
    if verdict is None:
        return True
    if params.nearest_own and verdict.nearest_class != verdict.class_name:
        return False
    if params.rule == "accepted":
        return verdict.verdict != "drop"
    if params.rule == "band":
        low, high = params.band
        near = params.cap is None or verdict.drift <= params.cap
        fit = set(filter(None, verdict.reasons.split(";"))) <= DISTANT
        return low < verdict.percentile <= high and near and fit
    return True


def _capped(taken: list[SelectedRecord], most: int | None) -> list[SelectedRecord]:
    if most is None:
        return taken
    by_class = defaultdict(list)
    for picture in taken:
        by_class[picture.class_name].append(picture)
    return [p for members in by_class.values() for p in sorted(members, key=lambda p: (p.percentile, p.path))[:most]]


def _refuse_leaks(rows: Sequence[SelectedRecord], real_rows: Sequence[RealRecord], out: Path) -> None:
    training = {r.path: r for r in real_rows if r.split == "train"}
    held_out = {r.group: r.split for r in real_rows if r.split != "train"}
    faults, seen = [], set()
    for row in rows:
        source = training.get(row.source)
        if source is None:
            faults.append(f"{row.path}: its source {row.source} is no training picture")
        elif (source.class_name, source.group) != (row.class_name, row.group):
            told = f"{row.class_name}, {row.group}"
            faults.append(f"{row.path}: class and group are {told}; its source's {source.class_name}, {source.group}")
        elif row.group in held_out:
            faults.append(f"{row.path}: its group {row.group} is also in {held_out[row.group]}")
        if row.path in seen:
            faults.append(f"{row.path}: selected twice")
        seen.add(row.path)
    if faults:
        more = f"\n  ... and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise UserError(f"{out} is not written, {len(faults)} fault(s):\n  " + "\n  ".join(faults[:10]) + more)


def _tell(
    setup: str, params: SelectSetup, count: int, taken: Sequence[SelectedRecord], rows: Sequence[SelectedRecord]
) -> None:
    if not taken:
        print(f"select: {setup}: rule {params.rule!r} leaves none of {count} pictures: it trains as the one before")
    else:
        print(f"select: {setup}: {len(taken)} of {count} pictures as {params.role}s by rule {params.rule!r}")
    origins = Counter((r.origin, r.role) for r in rows)
    print("select: " + ", ".join(f"{n} {origin} {role}" for (origin, role), n in sorted(origins.items())))
