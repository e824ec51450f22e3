"""Stage ``select``: one training table per setup, made of the table before it and one set in one role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from partsynth.config.training import SelectSetup
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord, SelectedRecord
from partsynth.selection.leaks import refuse_leaks
from partsynth.selection.rows import from_augmented, from_real, read_verdicts
from partsynth.selection.rules import cap_per_class, draw_as_many, in_band, takes


def run(
    params: SelectSetup, setup: str, onto: Path | None, manifest: Path, verdicts: Path | None, out: Path, real: Path
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
        pictures = [from_real(r, params.role) for r in real_rows if r.split == "train"]
    else:
        pictures = [from_augmented(r, params.role) for r in read_manifest(manifest, AugmentedRecord)]
    refuse_leaks([*before, *pictures], real_rows, out)
    judged = {} if verdicts is None or verdicts.is_dir() else read_verdicts(pictures, verdicts)
    if not judged and pictures and (params.rule != "all" or params.nearest_own):
        raise UserError(f"select.{setup}: rule {params.rule!r} needs a table of verdicts; without one: rule all")
    sources = {r.path for r in before if r.origin == "real"}
    taken = [
        p.model_copy(update={"rule": params.rule} | ({"percentile": judged[p.path].percentile} if judged else {}))
        for p in pictures
        if takes(params, judged.get(p.path)) and (not sources or p.source in sources)
    ]
    if params.rule == "random":
        band = [p for p in taken if in_band(params, judged[p.path])]
        taken = draw_as_many(taken, Counter(p.class_name for p in cap_per_class(band, params.max_per_class)), setup)
    else:
        taken = cap_per_class(taken, params.max_per_class)
    rows = [*before, *taken]
    write_manifest(out, rows, SelectedRecord)
    _tell(setup, params, len(pictures), taken, rows)


def _tell(
    setup: str, params: SelectSetup, count: int, taken: Sequence[SelectedRecord], rows: Sequence[SelectedRecord]
) -> None:
    if not taken:
        print(f"select: {setup}: rule {params.rule!r} leaves none of {count} pictures: it trains as the one before")
    else:
        print(f"select: {setup}: {len(taken)} of {count} pictures as {params.role}s by rule {params.rule!r}")
    origins = Counter((r.origin, r.role) for r in rows)
    print("select: " + ", ".join(f"{n} {origin} {role}" for (origin, role), n in sorted(origins.items())))
