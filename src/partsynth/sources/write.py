"""Framed photographs written as files, with the rows of their manifests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from partsynth.records.rows import RealRecord, Role
from partsynth.sources.base import LONGEST, Photo, cut
from partsynth.sources.frame import Framed
from partsynth.sources.scratch import Scratch, Span
from partsynth.store.files import prune, refuse_foreign, write_bytes_atomic
from partsynth.store.hashing import sha256_bytes, sha256_file
from partsynth.store.layout import MANIFEST, Layout
from partsynth.store.png import png_fingerprint

OOD_FOLDERS: dict[Role, str] = {"near_ood": "near", "far_ood": "far"}


def write(framed: Sequence[Framed], scratch: Scratch, real: Path, ood: Path, layout: Layout) -> list[RealRecord]:
    """Write images and masks below ``real`` and ``ood``, remove what is no longer wanted; the rows, in their order.

    Files that hold the same bytes already are left alone. The manifests are taken away first, since they no longer
    hold; the caller writes the new ones last.

    Raises
    ------
    UserError
        where a folder holds a file that ingest did not make. Nothing has been written then.
    """
    places = [_places(f, name, real, ood) for f, name in zip(framed, _names([f.photo for f in framed]), strict=True)]
    wanted = {path for pair in places for path in pair if path is not None}
    for folder in (real, ood):
        refuse_foreign(folder, wanted, _ours, "move them elsewhere (ingest.path names a source)")
    for folder in (real, ood):
        (folder / MANIFEST).unlink(missing_ok=True)
    rows = []
    for f, (image, mask) in zip(framed, places, strict=True):
        if mask is not None and f.mask is not None:
            _put(mask, scratch, f.mask)
        rows.append(
            RealRecord(
                path=layout.relative(image),
                sha256=_put(image, scratch, f.image),
                class_name=f.photo.class_name,
                split=f.split,
                role=f.photo.role,
                group=f.photo.group,
                state=f.photo.state,
                camera=f.photo.camera,
                mask="" if mask is None else layout.relative(mask),
                source=f.photo.name,
                source_sha256=f.source_sha256,
                box=",".join(map(str, f.box)),
            )
        )
    for folder in (real, ood):
        folder.mkdir(parents=True, exist_ok=True)
        prune(folder, wanted)
    return rows


def _places(framed: Framed, name: str, real: Path, ood: Path) -> tuple[Path, Path | None]:
    """Where the image goes, and its mask: OOD images have none."""
    place = Path(framed.split, framed.photo.class_name, f"{name}.png")
    if framed.photo.role != "target":
        return ood / OOD_FOLDERS[framed.photo.role] / place, None
    return real / place, real / "masks" / place if framed.mask else None


def _names(photos: Sequence[Photo]) -> list[str]:
    """A file name for each photograph from its own below the class folder, with a hash where two would be alike."""
    plain = [re.sub(r"[^\w.-]+", "_", "-".join(Path(p.name).with_suffix("").parts[1:])) for p in photos]
    times = Counter((p.class_name, name.casefold()) for p, name in zip(photos, plain, strict=True))
    return [
        name
        if times[p.class_name, name.casefold()] == 1 and len(name.encode()) <= LONGEST
        else f"{cut(name)}-{sha256_bytes(p.name.encode())[:8]}"
        for p, name in zip(photos, plain, strict=True)
    ]


def _put(path: Path, scratch: Scratch, span: Span) -> str:
    """Write what the scratch file holds, where it is not there already; its sha256."""
    data = scratch.get(span)
    sha256 = sha256_bytes(data)
    if not path.is_file() or sha256_file(path) != sha256:
        write_bytes_atomic(path, data)
    return sha256


def _ours(path: Path) -> bool:
    return path.name.endswith((".csv", ".tmp")) or png_fingerprint(path) is not None
