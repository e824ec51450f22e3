"""One image made again from its manifest's row, for audits."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import ADAPTATION, BASE, SOURCE, TOKEN, Method, Parent
from partsynth.config.models import Adapt, Diffusion
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.seams import METHODS
from partsynth.store.base_model import without_adaptation
from partsynth.store.files import inside
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import MANIFEST
from partsynth.store.png import png_bytes


def regenerate(row: AugmentedRecord, diffusion: Diffusion, real: Path, tokens: Path, root: Path) -> Image.Image:
    """The row's image: on the machine that made it, ``encodings`` has the file's bytes.

    Raises
    ------
    UserError
        where something that it was made from is missing, or is not what it was made from.
    """
    method: Method = METHODS[row.method]
    manifest = real / MANIFEST
    tuned = any(parent.kind == ADAPTATION for parent in method.parents(row))  # whatever params.yaml says by now
    diffusion = diffusion.model_copy(update={"adapt": (diffusion.adapt or Adapt()) if tuned else None})
    materials = Materials(real=read_manifest(manifest, RealRecord), tokens=tokens, diffusion=diffusion, root=root)
    if row.source not in materials.real:
        raise UserError(f"{row.path}: its source {row.source} is not in {manifest}")
    faults = [
        f"{parent.kind} {parent.sha256}, here is {here}"
        for parent in method.parents(row)
        if (here := _here(parent, materials)) != parent.sha256
    ]
    if row.fingerprint != method.fingerprint(row, materials):
        faults.append("another fingerprint than its row and this version of partsynth give")
    if faults:
        raise UserError(f"{row.path} was made with " + "; ".join(faults))
    return next(iter(method.paint([row], materials)))[1]


def encodings(image: Image.Image, row: AugmentedRecord) -> tuple[bytes, bytes]:
    """The PNG of the row's image: with IPTC's mark, as it is written now, and without, as it was before."""
    kind = METHODS[row.method].source_type
    return png_bytes(image, row.fingerprint, kind), png_bytes(image, row.fingerprint)


def _here(parent: Parent, materials: Materials) -> str:
    """The hash of what stands in the parent's place now."""
    if parent.kind == SOURCE:
        if parent.path not in materials.real:
            raise UserError(f"{parent.path} is not in data/real's manifest: an image was made from it")
        return materials.real[parent.path].sha256
    if parent.kind == TOKEN:
        name = Path(parent.path).stem
        return materials.tokens([name])[name].sha256
    if parent.kind == BASE:
        return without_adaptation(materials.base.identity)[0]
    try:
        return sha256_file(inside(materials.root, parent.path))
    except FileNotFoundError:
        raise UserError(f"{parent.path} is missing: an image was made from it") from None
