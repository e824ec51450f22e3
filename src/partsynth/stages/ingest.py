"""Stage ``ingest``: real photographs in; framed pictures with splits and groups, and the OOD pictures, out.

Every photograph is read once and everything is checked before the first file is written, so that a fault leaves what
was there before.
"""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from rich.progress import track

from partsynth.config.data import Ingest, Ood
from partsynth.core.images.duplicates import HASH_BITS, near_pairs, thumbnail
from partsynth.core.images.framing import Box, crop_resize, dilation_pixels, roi_box
from partsynth.core.splits import draw_shots, draw_splits
from partsynth.errors import UserError
from partsynth.records.manifest import write_manifest
from partsynth.records.rows import RealRecord
from partsynth.sources import folder, mvip, rendered
from partsynth.sources.base import Fault, Found, Photo
from partsynth.sources.decode import BadPicture, decode, decode_mask
from partsynth.store.files import prune, write_bytes_atomic, write_text_atomic
from partsynth.store.hashing import fingerprint, seed_from, sha256_bytes, sha256_file
from partsynth.store.png import png_bytes, png_fingerprint

OOD_FOLDERS = {"near_ood": "near", "far_ood": "far"}
LISTED = 40  # faults named in one error


@dataclass(frozen=True)
class Framed:
    """A photograph that was read and framed; its PNGs lie in the scratch file at (offset, length)."""

    photo: Photo
    source_sha256: str
    pixels_sha256: str
    thumbnail: np.ndarray  # (64, 64) uint8, for the search for duplicates
    box: Box
    picture: tuple[int, int]
    mask: tuple[int, int] | None


def run(params: Ingest, ood: Ood, raw: Path, real: Path, ood_out: Path, root: Path) -> None:
    """Read ``raw``, write ``real`` (pictures, masks, manifest.csv, duplicates.csv, skipped.csv) and ``ood_out``.

    Raises
    ------
    UserError
        naming every fault of the source at once: unreadable pictures, missing masks, empty or too small classes,
        duplicates across splits. Nothing has been written then.
    """
    found = _find(params, ood, raw)
    faults = list(found.faults)
    real.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=real.parent) as scratch:  # nameless: gone even after a SIGKILL
        framed = _frame_all(params, raw, found.photos, scratch, faults)
        framed = _assign(params, _hold_out(ood, found, framed, faults), faults)
        pairs = _duplicates(params, framed, faults)
        _raise(faults, raw, keep_going=params.on_bad == "skip")
        rows = _write(framed, scratch, real, ood_out, root)
    _write_csv(real / "duplicates.csv", ("path_a", "path_b", "kind", "bits"), pairs)
    if params.on_bad == "skip":
        skipped = sorted({(fault.name, fault.reason) for fault in faults if not fault.fatal})
        _write_csv(real / "skipped.csv", ("name", "reason"), skipped)
        if skipped:
            print(f"ingest: {len(skipped)} skipped, listed in {real / 'skipped.csv'}")
    write_manifest(ood_out / "manifest.csv", [r for r in rows if r.role != "target"], RealRecord)
    write_manifest(real / "manifest.csv", [r for r in rows if r.role == "target"], RealRecord)
    counts = Counter(r.split if r.role == "target" else f"{r.role}/{r.split}" for r in rows)
    classes = len({r.class_name for r in rows if r.role == "target"})
    print(f"ingest: {classes} classes, " + ", ".join(f"{n} {s}" for s, n in sorted(counts.items())))
    if not any(r.role != "target" for r in rows):
        print("ingest: no out-of-distribution pictures (ood.holdout_classes would hold classes out)")


# --- reading ------------------------------------------------------------------------------------------------------


def _find(params: Ingest, ood: Ood, raw: Path) -> Found:
    if not raw.is_dir():
        raise UserError(f"{raw}: no such folder (ingest.path names the source folder)")
    wanted = None if params.classes is None else [*params.classes, *ood.holdout_classes]
    if params.source == "mvip":
        return mvip.read(raw, wanted, params.super_class)
    if params.source == "rendered":
        return rendered.read(raw, wanted)
    return folder.read(raw, wanted, params.group_pattern)


def _frame_all(
    params: Ingest, raw: Path, photos: Sequence[Photo], scratch: BinaryIO, faults: list[Fault]
) -> list[Framed]:
    def work(photo: Photo) -> tuple[Framed, bytes, bytes] | Fault:
        try:
            return _frame(params, raw, photo)
        except BadPicture as error:
            return Fault(photo.name, str(error))
        except OSError as error:
            return Fault(photo.name, f"cannot be read: {error.strerror or error}")

    framed = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in track(pool.map(work, photos), "reading photographs", len(photos), transient=True):
            if isinstance(result, Fault):
                faults.append(result)
                continue
            entry, picture, mask = result
            framed.append(
                replace(entry, picture=_stash(scratch, picture), mask=_stash(scratch, mask) if mask else None)
            )
    return framed


def _stash(scratch: BinaryIO, data: bytes) -> tuple[int, int]:
    return scratch.tell(), scratch.write(data)


def _frame(params: Ingest, raw: Path, photo: Photo) -> tuple[Framed, bytes, bytes]:
    data = (raw / photo.name).read_bytes()
    sha256 = sha256_bytes(data)
    if photo.sha256 and photo.sha256 != sha256:
        raise BadPicture("differs from the sha256 in its manifest")
    image = decode(data)
    mask, mask_data = None, b""
    if params.masks != "none" and photo.mask:
        mask_data = (raw / photo.mask).read_bytes()
        try:
            mask = decode_mask(mask_data, data, image.size)
        except BadPicture as error:
            raise BadPicture(f"mask {photo.mask}: {error}") from None
    elif params.masks == "required":
        raise BadPicture("no mask (ingest.masks: optional or none goes without)")
    box = _box(params, mask, image)
    mark = fingerprint([sha256, sha256_bytes(mask_data), box, params.size])
    picture = crop_resize(image, box, params.size, Image.Resampling.BICUBIC)
    framed_mask = b""
    if mask is not None:
        binary = Image.fromarray(np.where(mask > mask.max() / 2, 255, 0).astype(np.uint8))
        framed_mask = png_bytes(crop_resize(binary, box, params.size, Image.Resampling.NEAREST), mark)
    entry = Framed(
        photo=photo,
        source_sha256=sha256,
        pixels_sha256=sha256_bytes(repr(image.size).encode() + image.tobytes()),
        thumbnail=thumbnail(image.crop(_within(box, image.size))),
        box=box,
        picture=(0, 0),
        mask=None,
    )
    return entry, png_bytes(picture, mark), framed_mask


def _box(params: Ingest, mask: np.ndarray | None, image: Image.Image) -> Box:
    if mask is not None:
        return roi_box(mask, dilation_pixels(params.dilation, image.size))
    if params.unmasked == "whole":
        return roi_box(np.ones((image.height, image.width), np.uint8), 0)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return left, top, left + side, top + side


def _within(box: Box, size: tuple[int, int]) -> Box:
    return max(box[0], 0), max(box[1], 0), min(box[2], size[0]), min(box[3], size[1])


# --- splits -------------------------------------------------------------------------------------------------------


def _hold_out(ood: Ood, found: Found, framed: list[Framed], faults: list[Fault]) -> list[Framed]:
    """The pictures of ``ood.holdout_classes`` take the role near_ood."""
    names = {alias: name for name, alias in found.folders.items()} | {name: name for name in found.folders}
    for name in ood.holdout_classes:
        if name not in names:
            there = ", ".join(found.folders) or "none"
            faults.append(Fault("ood.holdout_classes", f"{name!r} is no class of the source; there are: {there}", True))
    held = {names[name] for name in ood.holdout_classes if name in names}
    return [replace(f, photo=replace(f.photo, role="near_ood")) if f.photo.class_name in held else f for f in framed]


def _assign(params: Ingest, framed: list[Framed], faults: list[Fault]) -> list[Framed]:
    """Give every picture its split; pictures that no split takes (beyond the shots, say) are left out."""
    while True:
        targets = _split_targets(params, [f for f in framed if f.photo.role == "target"])
        short = _short(params, targets)
        faults += [Fault(name, reason) for name, reason in short.items()]
        if not short or params.on_bad == "fail":
            break
        framed = [f for f in framed if f.photo.class_name not in short]
    classes = {f.photo.class_name for f in targets}
    if len(classes) < 2:
        faults.append(Fault("classes", f"{len(classes)} left to tell apart: at least two are needed", True))
    near = _split_ood(params, [f for f in framed if f.photo.role != "target"], targets)
    splits = defaultdict(set)
    for f in [*targets, *near]:
        splits[f.photo.group].add(f.photo.split)
    for group, there in sorted(splits.items()):
        if len(there) > 1:
            faults.append(Fault(group, f"one group in several splits: {', '.join(sorted(there))}", True))
    return [*_shots(params, targets), *near]


def _split_targets(params: Ingest, framed: list[Framed]) -> list[Framed]:
    if not any(not f.photo.split for f in framed):
        return framed
    drawn = draw_splits(
        [f.photo.group for f in framed],
        [f.photo.class_name for f in framed],
        params.fractions,
        {"train": params.min_per_class, "val": 1, "test": 1},
        seed_from("splits", params.seed),
    )
    return [_in_split(f, drawn[f.photo.group]) for f in framed]


def _short(params: Ingest, targets: list[Framed]) -> dict[str, str]:
    """Class -> what it lacks."""
    have = Counter((f.photo.class_name, f.photo.split) for f in targets)
    need = {"train": params.min_per_class}
    need |= {s: 1 for s in ("val", "test") if params.fractions[s] > 0}
    short = {}
    for name in sorted({f.photo.class_name for f in targets}):
        lacks = [f"{have[name, s]} {s} (at least {n})" for s, n in need.items() if have[name, s] < n]
        if lacks:
            groups = len({f.photo.group for f in targets if f.photo.class_name == name})
            short[name] = f"too few pictures: {', '.join(lacks)}; it has {groups} groups, and a group is never divided"
    return short


def _split_ood(params: Ingest, framed: list[Framed], targets: list[Framed]) -> list[Framed]:
    """Val and test of the OOD pictures. A held-out picture whose group is trained on is left out: its spot is known."""
    taken = {f.photo.group: f.photo.split for f in targets}
    free = [f for f in framed if f.photo.split in ("", "train") and f.photo.group not in taken]
    weights = np.array([params.fractions["val"], params.fractions["test"]])
    weights = weights / weights.sum() if weights.sum() else np.array([0.5, 0.5])
    drawn = draw_splits(
        [f.photo.group for f in free],
        [f.photo.class_name for f in free],
        dict(zip(("val", "test"), weights, strict=True)),
        {"val": 1, "test": 1},
        seed_from("ood splits", params.seed),
    )
    placed = []
    for f in framed:
        split = f.photo.split if f.photo.split in ("val", "test") else drawn.get(f.photo.group)
        split = taken.get(f.photo.group, split)
        if split in ("val", "test"):
            placed.append(_in_split(f, split))
    if len(placed) < len(framed):
        print(f"ingest: {len(framed) - len(placed)} held-out pictures left out: their groups are trained on or shifted")
    return placed


def _shots(params: Ingest, targets: list[Framed]) -> list[Framed]:
    kept = targets
    for split, shots in (("train", params.shots), ("val", params.val_shots)):
        if shots is not None:
            kept = _few(kept, split, shots, params.seed)
    return kept


def _few(targets: list[Framed], split: str, shots: int, seed: int) -> list[Framed]:
    """``targets`` with that many pictures a class in ``split``."""
    by_class = defaultdict(list)
    for f in targets:
        if f.photo.split == split:
            by_class[f.photo.class_name].append(f)
    kept = [f for f in targets if f.photo.split != split]
    for name, members in sorted(by_class.items()):
        drawn = draw_shots([f.photo.group for f in members], shots, seed_from("shots", seed, split, name))
        kept += [members[i] for i in drawn]
    return kept


def _in_split(framed: Framed, split: str) -> Framed:
    return replace(framed, photo=replace(framed.photo, split=split))


# --- checks -------------------------------------------------------------------------------------------------------


def _duplicates(params: Ingest, framed: list[Framed], faults: list[Fault]) -> list[tuple[str, str, str, int]]:
    """(name, name, exact | near, bits of HASH_BITS): every exact pair, and the near pairs across splits."""
    if not framed:
        return []
    parts = np.unique([f.photo.split for f in framed], return_inverse=True)[1]
    limit = params.near_duplicate * HASH_BITS // 64
    pairs = {(i, j): bits for i, j, bits in near_pairs(np.stack([f.thumbnail for f in framed]), parts, limit)}
    same = defaultdict(list)
    for i, f in enumerate(framed):
        same[f.pixels_sha256].append(i)
    exact = {(i, j) for twins in same.values() for n, i in enumerate(twins) for j in twins[n + 1 :]}
    pairs |= dict.fromkeys(exact, 0)
    rows = []
    for (i, j), bits in pairs.items():
        (a, b), kind = sorted((framed[i].photo, framed[j].photo), key=lambda p: p.name), "near"
        if (i, j) in exact:
            kind = "exact"
        rows.append((a.name, b.name, kind, bits))
        if params.on_duplicate == "fail" and (parts[i] != parts[j] or a.class_name != b.class_name):
            where = f"{a.class_name} {a.split} and {b.class_name} {b.split}"
            apart = "" if kind == "exact" else f", {bits} of {HASH_BITS} bits apart"
            faults.append(Fault(a.name, f"{kind} duplicate of {b.name} ({where}{apart}; ingest.on_duplicate)", True))
    if rows and params.on_duplicate == "warn":
        print(f"ingest: {len(rows)} duplicate pairs, listed in duplicates.csv")
    return sorted(rows)


def _raise(faults: list[Fault], raw: Path, keep_going: bool) -> None:
    grave = sorted({(f.name, f.reason) for f in faults if f.fatal or not keep_going})
    if not grave:
        return
    lines = [f"{name}: {reason}" for name, reason in grave[:LISTED]]
    if len(grave) > LISTED:
        lines.append(f"... and {len(grave) - LISTED} more")
    hint = "" if keep_going or all(f.fatal for f in faults) else "\n(ingest.on_bad: skip leaves bad pictures out)"
    raise UserError(f"{raw} has {len(grave)} fault(s):\n  " + "\n  ".join(lines) + hint)


# --- writing ------------------------------------------------------------------------------------------------------


def _write(framed: list[Framed], scratch: BinaryIO, real: Path, ood_out: Path, root: Path) -> list[RealRecord]:
    plan = []  # (place of the picture, place of its mask or None) of each
    for f, name in zip(framed, _ids([f.photo for f in framed]), strict=True):
        place = Path(f.photo.split, f.photo.class_name, f"{name}.png")
        target = f.photo.role == "target"
        picture = real / place if target else ood_out / OOD_FOLDERS[f.photo.role] / place
        plan.append((picture, real / "masks" / place if target and f.mask else None))
    wanted = {path for pair in plan for path in pair if path is not None}
    for out in (real, ood_out):
        _refuse_foreign(out, wanted)
    for out in (real, ood_out):
        (out / "manifest.csv").unlink(missing_ok=True)

    rows = []
    for f, (picture, mask) in zip(framed, plan, strict=True):
        if mask is not None:
            _put(mask, scratch, f.mask)
        rows.append(
            RealRecord(
                path=_name(picture, root),
                sha256=_put(picture, scratch, f.picture),
                class_name=f.photo.class_name,
                split=f.photo.split,
                role=f.photo.role,
                group=f.photo.group,
                state=f.photo.state,
                camera=f.photo.camera,
                mask="" if mask is None else _name(mask, root),
                source=f.photo.name,
                source_sha256=f.source_sha256,
                box=",".join(map(str, f.box)),
            )
        )
    for out in (real, ood_out):
        out.mkdir(parents=True, exist_ok=True)
        prune(out, wanted)
    return rows


def _put(path: Path, scratch: BinaryIO, where: tuple[int, int]) -> str:
    scratch.seek(where[0])
    data = scratch.read(where[1])
    sha256 = sha256_bytes(data)
    if not path.is_file() or sha256_file(path) != sha256:
        write_bytes_atomic(path, data)
    return sha256


def _name(path: Path, root: Path) -> str:
    return path.absolute().relative_to(root.absolute()).as_posix()


def _refuse_foreign(out: Path, wanted: set[Path]) -> None:
    """What this stage did not make might be somebody's only photographs: it is never deleted."""
    for path in sorted(out.rglob("*")):
        ours = path in wanted or path.name.endswith((".csv", ".tmp"))
        if path.is_file() and not ours and png_fingerprint(path) is None:
            raise UserError(f"{out} holds {path}, which ingest did not make: move it (ingest.path names a source)")


def _ids(photos: Sequence[Photo]) -> list[str]:
    """A file name for each picture from its own name below the class folder, with a hash where two would be alike."""
    plain = [re.sub(r"[^\w.-]+", "_", "-".join(Path(p.name).with_suffix("").parts[1:])) for p in photos]
    times = Counter((p.class_name, name.casefold()) for p, name in zip(photos, plain, strict=True))
    return [
        name if times[p.class_name, name.casefold()] == 1 and len(name) <= 100 else f"{name[:80]}-{_short_hash(p.name)}"
        for p, name in zip(photos, plain, strict=True)
    ]


def _short_hash(name: str) -> str:
    return sha256_bytes(name.encode())[:8]


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text_atomic(path, buffer.getvalue())
