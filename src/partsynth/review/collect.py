"""What a person needs to judge the images of one set: those that the gate flagged and a sample of the others, each with
its source and the nearest real images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partsynth.config.models import Reference
from partsynth.errors import UserError
from partsynth.quality.features import Encoder
from partsynth.quality.measure import measure
from partsynth.quality.real_parts import real_parts
from partsynth.records.augmented import read_augmented
from partsynth.records.manifest import read_manifest
from partsynth.records.review import ReviewRecord, decided, image_of, read_review
from partsynth.records.rows import AugmentedRecord, RealRecord, VerdictRecord
from partsynth.store.hashing import seed_from, sha256_file
from partsynth.store.layout import MANIFEST, Layout

OWN, OTHERS = 3, 2  # nearest real training images that are shown of the image's class, and of all others
VERSION = 12  # hexadecimal digits of the manifest's hash


@dataclass(frozen=True)
class Shown:
    """One generated image of a page."""

    row: AugmentedRecord
    verdict: VerdictRecord
    own: list[RealRecord]  # nearest of its class but its source, the nearest first
    others: list[RealRecord]  # nearest of other classes
    earlier: ReviewRecord | None  # the decision that counts so far


@dataclass(frozen=True)
class Page:
    """What the page of a set shows."""

    set_name: str
    version: str  # of the set: decisions in a browser belong to it
    shown: list[Shown]
    sources: dict[str, RealRecord]  # the training images by path
    classes: list[str]  # that an image may show: trained and held-out ones
    images: int  # of the set
    flagged: int
    accepted: int  # in the set; ``shown`` has a sample of them

    @property
    def sampled(self) -> int:
        """Accepted images that are shown."""
        return sum(not one.verdict.reasons for one in self.shown)


def collect(root: Path, set_name: str, reference: Reference, accepted: int, seed: int = 0) -> Page:
    """The flagged images of a set, and a sample of the others that depends on the images and the seed alone: a larger
    sample holds a smaller one.

    Parameters
    ----------
    reference : section reference of params.yaml; what the quality stage measured with it is used again
    accepted : accepted images at most

    Raises
    ------
    UserError
        where the set or its verdicts are missing, or of different images.
    """
    layout = Layout(root)
    manifest, table = layout.augmentation_set(set_name) / MANIFEST, layout.verdicts(set_name)
    rows, verdicts = read_augmented(manifest), {v.path: v for v in read_manifest(table, VerdictRecord)}
    stale = [r.path for r in rows if r.path not in verdicts or verdicts[r.path].sha256 != r.sha256]
    if stale:
        raise UserError(f"{table} has no verdict for {len(stale)} images, such as {stale[0]}: dvc repro quality")
    wanted = sample(rows, verdicts, accepted, seed)
    real = real_parts(layout.real)
    train = [row for row in real if row.split == "train"]
    own, others = _nearest(root, set_name, reference, rows, wanted, real)
    review = layout.review(set_name)
    final = decided(read_review(review)) if review.is_file() else {}
    return Page(
        set_name=set_name,
        version=sha256_file(manifest)[:VERSION],
        shown=[
            Shown(row, verdicts[row.path], own[row.path], others[row.path], final.get(image_of(row))) for row in wanted
        ],
        sources={row.path: row for row in train},
        classes=known_classes(layout),
        images=len(rows),
        flagged=sum(bool(verdicts[row.path].reasons) for row in rows),
        accepted=sum(not verdicts[row.path].reasons for row in rows),
    )


def known_classes(layout: Layout) -> list[str]:
    """The classes that an image may be said to show: trained ones first, then held-out ones; each part by name."""
    trained = {row.class_name for row in read_manifest(layout.real_manifest, RealRecord)}
    ood = layout.ood / MANIFEST
    unseen = {row.class_name for row in read_manifest(ood, RealRecord)} if ood.is_file() else set()
    return [*sorted(trained), *sorted(unseen - trained)]


def sample(
    rows: Sequence[AugmentedRecord], verdicts: Mapping[str, VerdictRecord], accepted: int, seed: int
) -> list[AugmentedRecord]:
    """All flagged images and ``accepted`` of the others, in the order of ``rows``."""
    passed = [row for row in rows if not verdicts[row.path].reasons]
    passed.sort(key=lambda row: (seed_from("review", seed, row.sha256), row.path))
    drawn = {row.path for row in passed[:accepted]}
    return [row for row in rows if verdicts[row.path].reasons or row.path in drawn]


def _nearest(
    root: Path,
    set_name: str,
    reference: Reference,
    rows: Sequence[AugmentedRecord],
    wanted: Sequence[AugmentedRecord],
    real: Sequence[RealRecord],
) -> tuple[dict[str, list[RealRecord]], dict[str, list[RealRecord]]]:
    """Path of each wanted image -> the nearest training images of its class, and of the others.

    By cosine distance in the reference features that drift is measured in. All ``rows`` of the set and of ``real`` are
    looked up, as the quality stage keeps them.
    """
    if not wanted:
        return {}, {}
    embed = Encoder(reference, root)
    features = measure(
        rows, root, embed, reference.batch_size, embed.folder / f"{set_name}.safetensors", real
    ).features  # (N, D)
    measured = measure(real, root, embed, reference.batch_size, embed.folder / "real.safetensors")
    training = [i for i, row in enumerate(real) if row.split == "train"]
    train = [real[i] for i in training]
    bank = measured.features[training].astype(np.float64)  # (M, D)
    kinds = np.array([row.class_name for row in train])  # (M,)
    paths = np.array([row.path for row in train])
    place = {row.path: i for i, row in enumerate(rows)}
    own, others = {}, {}
    for row in wanted:
        distance = 1 - bank @ features[place[row.path]].astype(np.float64)  # (M,)
        order = np.argsort(distance, kind="stable")
        same = kinds[order] == row.class_name
        own[row.path] = [train[i] for i in order[same & (paths[order] != row.origin_path)][:OWN]]
        others[row.path] = [train[i] for i in order[~same][:OTHERS]]
    return own, others
