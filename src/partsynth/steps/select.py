"""Stage ``select``: one training table per setup, made of the table before it and one set in one role."""

from __future__ import annotations

import math
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
    seed_from,
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
    ``cap``, whatever the verdict on drift, but no blurred, blank or otherwise unfit picture; ``random`` draws as many
    pictures a class as ``band`` would have taken, from all fit ones. An edit of a real picture that the table lacks is
    left out. ``max_per_class`` keeps the lowest percentiles, of pictures without any those that come first by hash.
    With role negative, real pictures are negatives of other classes (``train.negative_scope: other``).

    Raises
    ------
    UserError
        where a picture's source is no training picture, where its group is also in val, test or shifted, where it has
        no verdict or that of another content, and where it is in the table already (a real picture: in this role).
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
        p.model_copy(update={"rule": params.rule} | ({"percentile": judged[p.path].percentile} if judged else {}))
        for p in pictures
        if _takes(params, judged.get(p.path)) and (not sources or p.source in sources)
    ]
    if params.rule == "random":
        band = [p for p in taken if _in_band(params, judged[p.path])]
        taken = _drawn(taken, Counter(p.class_name for p in _capped(band, params.max_per_class)), setup)
    else:
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
    fit = set(filter(None, verdict.reasons.split(";"))) <= DISTANT
    if params.rule == "band":
        return fit and _in_band(params, verdict)
    return fit or params.rule == "all"


def _in_band(params: SelectSetup, verdict: VerdictRecord) -> bool:
    low, high = params.band
    return low < verdict.percentile <= high and (params.cap is None or verdict.drift <= params.cap)


def _drawn(pictures: Sequence[SelectedRecord], counts: Counter[str], setup: str) -> list[SelectedRecord]:
    """``counts`` pictures of each class; a picture's place in the lot depends on setup and content alone."""
    by_class = defaultdict(list)
    for picture in sorted(pictures, key=lambda p: (seed_from("random", setup, p.sha256), p.path)):
        by_class[picture.class_name].append(picture)
    return [p for name, members in by_class.items() for p in members[: counts[name]]]


def _capped(taken: list[SelectedRecord], most: int | None) -> list[SelectedRecord]:
    if most is None:
        return taken
    by_class = defaultdict(list)
    for picture in taken:
        by_class[picture.class_name].append(picture)

    def place(p: SelectedRecord) -> tuple[float, str, str]:
        return (0.0, p.sha256, p.path) if math.isnan(p.percentile) else (p.percentile, "", p.path)

    return [p for members in by_class.values() for p in sorted(members, key=place)[:most]]


def _refuse_leaks(rows: Sequence[SelectedRecord], real_rows: Sequence[RealRecord], out: Path) -> None:
    training = {r.path: r for r in real_rows if r.split == "train"}
    held_out = {r.group: r.split for r in real_rows if r.split != "train"}
    faults: list[str] = []
    seen: dict[str, dict[str, str]] = {}  # path -> role -> origin
    for row in rows:
        source = training.get(row.source)
        if source is None:
            faults.append(f"{row.path}: its source {row.source} is no training picture")
        elif (source.class_name, source.group) != (row.class_name, row.group):
            told = f"{row.class_name}, {row.group}"
            faults.append(f"{row.path}: class and group are {told}; its source's {source.class_name}, {source.group}")
        elif row.group in held_out:
            faults.append(f"{row.path}: its group {row.group} is also in {held_out[row.group]}")
        again = seen.setdefault(row.path, {})
        if again and (row.role in again or {row.origin, *again.values()} != {"real"}):
            faults.append(f"{row.path}: selected twice")
        again[row.role] = row.origin
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
