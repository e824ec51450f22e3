"""The inner region of a part exchanged for that of another photograph's: without a model, every pixel is a camera's.

Between siblings the images are negatives: the hub of one class in the rim of another, sharp, and unlike either.
Between images of one class they are positives with the same seams, so that the seams tell nobody apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import SOURCE, Method, Order, Parent, made_of
from partsynth.augmentation.relatives import siblings_by_class, turns
from partsynth.config.sets import AugmentationSet
from partsynth.errors import UserError
from partsynth.records.rows import DonorRecord, RealRecord
from partsynth.store.hashing import fingerprint, seed_from

JITTER = 0.1  # of the exchanged radius, each image's own


class ExchangeSet(AugmentationSet):
    """One augmentation set: training images whose part has the inner region of another training image's part."""

    method: Literal["exchange"] = "exchange"
    """How the set's images are made; it decides which other keys there are."""
    between: Literal["siblings", "own"] = "siblings"
    """Whose region is put in: siblings = another class's, for negatives; own = another part's of the same class, for
    positives with the same seams."""
    siblings: dict[str, str] | None = None
    """Between siblings: family of the classes whose name matches a pattern, as in {gear_*: gear}; classes of one family
    are siblings. null = all other classes are."""
    inner: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the part's radius that is exchanged, about its centre; each image's own lies within a tenth of it."""
    feather: Annotated[float, Field(ge=0)] = 1.0
    """Softness of the seam, in pixels of the source; it is four times as wide. 0 = a hard edge."""
    masks: Literal["part", "none"] = "part"
    """What says where a part lies: part = the photographs' masks; none = the largest disc in the frame."""

    @model_validator(mode="after")
    def _of_siblings(self) -> ExchangeSet:
        if self.siblings is not None and self.between != "siblings":
            raise ValueError(f"siblings are for between: siblings, while between is {self.between}")
        return self


class ExchangeRecord(DonorRecord):
    """One image of two photographs: everything needed to make it again."""

    by_model = False

    method: Literal["exchange"] = "exchange"
    between: Literal["siblings", "own"]
    inner: float  # share of the part's radius, this image's own
    feather: float  # in pixels of the source
    masks: Literal["part", "none"]

    @property
    def caption(self) -> str:
        return f"with the inside of {self.donor_class}"


class Exchange(Method[ExchangeSet, ExchangeRecord]):
    """See the module."""

    name = "exchange"
    Parameters = ExchangeSet
    Row = ExchangeRecord
    source_type = "compositeCapture"

    def plan(self, order: Order[ExchangeSet], materials: Materials) -> list[ExchangeRecord]:
        """A source's variants take donors in turn, in an order drawn by its seed: images of the source's own camera
        where there are any, never of its own group where there is another."""
        params, shared, where = order.parameters, order.shared, f"sets.{order.set_name}"
        classes = sorted({source.class_name for source in order.sources})
        lenders: Mapping[str, Sequence[str]] = {name: [name] for name in classes}
        if params.between == "siblings":
            lenders = siblings_by_class(params.siblings, classes, materials.classes, f"{where}.siblings")
        training = [row for row in materials.real.values() if row.split == "train" and row.role == "target"]
        if params.masks == "part":
            lent = {name for names in lenders.values() for name in names}
            needed = {row.path: row for row in [*order.sources, *(row for row in training if row.class_name in lent)]}
            key = f"{where}.masks: part (masks: none takes a disc in its place)"
            materials.check_masks([needed[path] for path in sorted(needed)], key)
        rows = []
        for source in order.sources:
            donors = _donors(source, training, lenders[source.class_name], where)
            drawn = turns([donor.path for donor in donors], "donor", shared.seed, order.set_name, source.sha256)
            for variant in range(params.variants):
                donor, common = materials.real[drawn[variant % len(drawn)]], order.common(source, variant)
                row = ExchangeRecord(
                    **common,
                    size=0,  # the source's own
                    between=params.between,
                    inner=_jittered(params.inner, common["seed"]),
                    feather=params.feather,
                    masks=params.masks,
                    donor=donor.path,
                    donor_sha256=donor.sha256,
                    donor_group=donor.group,
                    donor_class=donor.class_name,
                )
                rows.append(self.sealed(row, materials))
        return rows

    def paint(
        self, rows: Sequence[ExchangeRecord], materials: Materials
    ) -> Iterator[tuple[ExchangeRecord, Image.Image]]:
        from partsynth.core.images.exchange import exchanged

        for row in rows:
            source, donor = materials.source(row.source), materials.source(row.donor)
            masks = [_mask(row, path, image, materials) for path, image in ((row.source, source), (row.donor, donor))]
            yield row, exchanged(source, masks[0], donor, masks[1], row.inner, row.feather)

    def parents(self, row: ExchangeRecord) -> list[Parent]:
        donor = Parent(SOURCE, row.donor, row.donor_sha256, class_name=row.donor_class, group=row.donor_group)
        return [*super().parents(row), donor]

    def summary(self, rows: Sequence[ExchangeRecord]) -> str:
        return f"exchange between {rows[0].between}" if rows else "empty"

    def limitation(self, rows: Sequence[ExchangeRecord]) -> str:
        return (
            "No image shows a part as it was photographed: each is put together from two training images, the second "
            "named as donor. Their class is that of the first, which they need not show."
        )

    def fingerprint(self, row: ExchangeRecord, materials: Materials) -> str:
        decisive = {key: value for key, value in made_of(row).items() if key not in ("donor", "donor_group")}
        masks = [materials.mask_sha256(path) for path in (row.source, row.donor)] if row.masks == "part" else []
        return fingerprint([self.version, decisive, masks])


def _donors(source: RealRecord, training: Sequence[RealRecord], classes: Sequence[str], where: str) -> list[RealRecord]:
    """The training images of these classes that may lend to the source.

    Raises
    ------
    UserError
        where there is none.
    """
    found = [row for row in training if row.class_name in classes and row.path != source.path]
    for wanted in (lambda row: row.group != source.group, lambda row: row.camera == source.camera):
        found = [row for row in found if wanted(row)] or found
    if not found:
        raise UserError(f"{where}.between: {source.path} is the only training image of {source.class_name}")
    return found


def _jittered(inner: float, seed: int) -> float:
    turn = seed_from("inner", seed) / 2**63  # in [0, 1)
    return round(min(1.0, inner * (1 + JITTER * (2 * turn - 1))), 4)


def _mask(row: ExchangeRecord, path: str, image: Image.Image, materials: Materials) -> np.ndarray:
    """Where the part lies in one of the row's two photographs: (H, W) of bool."""
    if row.masks == "none":
        from partsynth.core.images.exchange import disc

        return disc(image.size)
    mask = np.asarray(materials.mask(path)) > 127
    if mask.shape != (image.height, image.width):
        raise UserError(f"{materials.real[path].mask} is a mask of another size than {path}: dvc repro ingest")
    if not mask.any():
        raise UserError(f"{materials.real[path].mask} has no part in it: regions cannot be exchanged by it")
    return mask


MEMBER = Exchange()
