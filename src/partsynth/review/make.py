"""`partsynth review`: the pages of all sets, or of some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from partsynth.config.load import load_all
from partsynth.config.params import Params
from partsynth.errors import UserError, did_you_mean
from partsynth.lineage.identity import project_id
from partsynth.project.reviews import GRAPH, using
from partsynth.review.collect import collect
from partsynth.review.write import About, Use, write_index, write_page
from partsynth.selection.reviewed import teaches_its_class
from partsynth.store.hashing import sha256_bytes
from partsynth.store.layout import MANIFEST, Layout
from partsynth.store.yaml_text import parsed

ACCEPTED = 100  # of a set's accepted images, where nothing is said


def make(root: Path, names: Sequence[str], out: Path, accepted: int = ACCEPTED, seed: int = 0) -> list[str]:
    """Write a page per set below ``out``, and their list; returns lines that tell what is where.

    Raises
    ------
    UserError
        where params.yaml has no such set, or one was not made and judged yet.
    """
    params, layout = load_all(root / "params.yaml"), Layout(root)
    made = [name for name in params.sets if (layout.augmentation_set(name) / MANIFEST).is_file()]
    for name in names:
        if name not in params.sets:
            known = ", ".join(params.sets) or "none"
            raise UserError(f"there is no set {name!r}{did_you_mean(name, params.sets)}; params.yaml has {known}")
    chosen = list(dict.fromkeys(names)) or made
    if not chosen:
        raise UserError(f"no set of params.yaml was made yet ({', '.join(params.sets) or 'it has none'}): dvc repro")
    graph = parsed((root / GRAPH).read_text()) if (root / GRAPH).is_file() else {}
    pages, lines = [], []
    for name in chosen:
        page = collect(root, name, params.reference, accepted, seed)
        path = write_page(out / name, page, _about(root, params, name, graph, seed), root)
        pages.append(page)
        told = f"{page.flagged} flagged and {page.sampled} of {page.accepted} accepted images (seed {seed})"
        lines.append(f"review: {name}: {told}: {path}")
    index = write_index(out, pages, _about(root, params, "", graph, seed))
    return [*lines, f"Open {index} in a browser. Then, with the file that the page gives: partsynth review apply FILE"]


def _about(root: Path, params: Params, set_name: str, graph: object, seed: int) -> About:
    """``key`` is the history's, so that decisions in a browser are found from any clone; else the folder's."""
    uses = [
        Use(setup, chosen.role, chosen.rule, teaches_its_class(chosen))
        for setup in using(graph, set_name)
        if (chosen := params.select.get(setup)) is not None
    ]
    key = project_id(root) or sha256_bytes(str(root.resolve()).encode())[:12]
    quality = params.quality
    return About(
        name=root.resolve().name,
        key=key,
        limit=quality.accept_percentile,
        tolerance=quality.tolerated,
        uses=uses,
        seed=seed,
    )
