"""Which photographs are trained on, and which are held out: splits drawn by group, classes held out, few shots."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from partsynth.config.data import Ingest, Ood
from partsynth.core.splits import divided, draw_shots, draw_splits
from partsynth.records.rows import Split
from partsynth.sources.base import Fault
from partsynth.sources.frame import Framed
from partsynth.store.hashing import seed_from


@dataclass(frozen=True)
class Assigned:
    """Photographs, each in its split."""

    framed: list[Framed]
    faults: list[Fault]
    known: int  # held-out photographs that were left out because their groups are trained on or shifted


def hold_out(framed: Sequence[Framed], folders: dict[str, str], ood: Ood) -> tuple[list[Framed], list[Fault]]:
    """The photographs of ``ood.holdout_classes`` (names of classes, or of their folders) take the role near_ood.

    ``folders`` are all the source's: class name -> folder name.
    """
    names, faults = held_out(folders, ood)
    near = [f.photo.role == "target" and f.photo.class_name in names for f in framed]
    roles = [
        replace(f, photo=replace(f.photo, role="near_ood")) if held else f for f, held in zip(framed, near, strict=True)
    ]
    return roles, faults


def held_out(folders: dict[str, str], ood: Ood) -> tuple[set[str], list[Fault]]:
    """Names of the classes that are held out, and of what is to be held out and is no class of the source's."""
    names = {alias: name for name, alias in folders.items()} | {name: name for name in folders}
    there = ", ".join(folders) or "none"
    faults = [
        Fault("ood.holdout_classes", f"{name!r} is no class of the source; there are: {there}", True)
        for name in ood.holdout_classes
        if name not in names
    ]
    return {names[name] for name in ood.holdout_classes if name in names}, faults


def assign(framed: Sequence[Framed], params: Ingest) -> Assigned:
    """Give every photograph its split; those that no split takes (beyond the shots, say) are left out.

    Classes that are short of photographs are faults, and with ``on_bad: skip`` the splits are drawn without them.
    """
    framed, faults = list(framed), []
    while True:
        targets = _split_targets([f for f in framed if f.photo.role == "target"], params)
        short = _short(targets, params)
        faults += [Fault(name, reason) for name, reason in short.items()]
        if not short or params.on_bad == "fail":
            break
        framed = [f for f in framed if f.photo.class_name not in short]
    classes = {f.photo.class_name for f in targets}
    if len(classes) < 2:
        faults.append(Fault("classes", f"{len(classes)} left to tell apart: at least two are needed", True))
    others = [f for f in framed if f.photo.role != "target"]
    ood = _split_ood(others, targets, params)
    faults += _groups_in_several([*targets, *ood])
    return Assigned([*_few_shots(targets, params), *ood], faults, len(others) - len(ood))


def _split_targets(framed: list[Framed], params: Ingest) -> list[Framed]:
    """Splits that the source gives stay. Where it gives none, all are drawn; where it gives no val or no test (as in
    train/ and test/ alone), that is drawn out of train."""
    given = {f.photo.split for f in framed if f.photo.split in ("train", "val", "test")}
    missing = {split for split in ("train", "val", "test") if split not in given and params.fractions[split] > 0}
    free: list[Framed] = [
        f for f in framed if f.photo.split is None or (given and missing and f.photo.split == "train")
    ]
    if not free:
        return framed
    wanted = {"train", *missing} if given else {"train", "val", "test"}
    fractions: dict[Split, float] = {split: params.fractions[split] for split in params.fractions if split in wanted}
    least: dict[Split, int] = {"train": params.min_per_class, "val": 1, "test": 1}
    drawn = _drawn(free, fractions, {s: least[s] for s in fractions}, seed_from("splits", params.seed))
    names = {f.photo.name for f in free}
    return [f.in_split(drawn[f.photo.group]) if f.photo.name in names else f for f in framed]


def _drawn(
    framed: Sequence[Framed], fractions: dict[Split, float], least: dict[Split, int], seed: int
) -> dict[str, Split]:
    """Group -> split."""
    return draw_splits([f.photo.group for f in framed], [f.photo.class_name for f in framed], fractions, least, seed)


def _short(targets: Sequence[Framed], params: Ingest) -> dict[str, str]:
    """Class -> what it lacks."""
    have = Counter((f.photo.class_name, f.split) for f in targets)
    need: dict[Split, int] = {"train": params.min_per_class}
    for split in ("val", "test"):
        if params.fractions[split] > 0:
            need[split] = 1
    short = {}
    for name in sorted({f.photo.class_name for f in targets}):
        lacks = [f"{have[name, s]} {s} (at least {n})" for s, n in need.items() if have[name, s] < n]
        if lacks:
            groups = len({f.photo.group for f in targets if f.photo.class_name == name})
            short[name] = f"too few pictures: {', '.join(lacks)}; it has {groups} groups, and a group is never divided"
    return short


def _split_ood(framed: Sequence[Framed], targets: Sequence[Framed], params: Ingest) -> list[Framed]:
    """Val and test of OOD photographs. A held-out one whose group is trained on is left out: its spot is known."""
    taken = {f.photo.group: f.split for f in targets}
    free = [f for f in framed if f.photo.split in (None, "train") and f.photo.group not in taken]
    shares = np.array([params.fractions["val"], params.fractions["test"]])
    shares = shares / shares.sum() if shares.sum() else np.array([0.5, 0.5])
    fractions: dict[Split, float] = {"val": float(shares[0]), "test": float(shares[1])}
    drawn = _drawn(free, fractions, {"val": 1, "test": 1}, seed_from("ood splits", params.seed))
    placed = []
    for f in framed:
        split = f.photo.split if f.photo.split in ("val", "test") else drawn.get(f.photo.group)
        split = taken.get(f.photo.group, split)
        if split in ("val", "test"):
            placed.append(f.in_split(split))
    return placed


def _groups_in_several(framed: Sequence[Framed]) -> list[Fault]:
    return [
        Fault(group, f"one group in several splits: {', '.join(sorted(there))}", True)
        for group, there in divided((f.photo.group, f.split) for f in framed).items()
    ]


def _few_shots(targets: list[Framed], params: Ingest) -> list[Framed]:
    """``targets`` with ``shots`` of each class in train and ``val_shots`` in val."""
    kept = targets
    shots: dict[Split, int | None] = {"train": params.shots, "val": params.val_shots}
    for split, count in shots.items():
        if count is not None:
            kept = _few(kept, split, count, params.seed)
    return kept


def _few(targets: Sequence[Framed], split: Split, shots: int, seed: int) -> list[Framed]:
    by_class = defaultdict(list)
    for f in targets:
        if f.split == split:
            by_class[f.photo.class_name].append(f)
    kept = [f for f in targets if f.split != split]
    for name, members in sorted(by_class.items()):
        drawn = draw_shots([f.photo.group for f in members], shots, seed_from("shots", seed, split, name))
        kept += [members[i] for i in drawn]
    return kept
