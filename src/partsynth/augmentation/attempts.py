"""A set's images as attempts: those that a class has drawn so far, one after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import Method, Order
from partsynth.records.rows import AugmentedRecord
from partsynth.store.files import prune
from partsynth.store.png import png_fingerprint, write_png


def first_attempts(
    order: Order, materials: Materials, method: Method, wanted: Mapping[str, int]
) -> list[AugmentedRecord]:
    """The rows of each class's first ``wanted[class]`` attempts, in their order.

    Each source's first variant comes before any source's second, so a class that draws more keeps what it has.
    """
    sources = Counter(source.class_name for source in order.sources)
    variants = max((-(-wanted[name] // count) for name, count in sources.items()), default=0)
    parameters = order.parameters.model_copy(update={"variants": variants})
    place = {source.path: i for i, source in enumerate(order.sources)}
    rows = method.plan(replace(order, parameters=parameters), materials)
    drawn: Counter[str] = Counter()
    taken = []
    for row in sorted(rows, key=lambda row: (row.class_name, row.variant, place[row.source])):
        if drawn[row.class_name] < wanted[row.class_name]:
            drawn[row.class_name] += 1
            taken.append(row)
    return taken


class Painted:
    """Images that stage calibrate painted to judge them, by fingerprint; generate takes them instead of painting again.

    No product: what is missing here is painted anew, with the same bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, row: AugmentedRecord) -> Path:
        return self.folder / f"{row.fingerprint}.png"

    def keep(self, row: AugmentedRecord, image: Image.Image) -> None:
        write_png(self.path(row), image, row.fingerprint)

    def image(self, row: AugmentedRecord) -> Image.Image | None:
        """The row's image, where it is here and whole."""
        if png_fingerprint(self.path(row)) != row.fingerprint:
            return None
        with Image.open(self.path(row)) as image:
            return image.copy()

    def keep_only(self, rows: Sequence[AugmentedRecord]) -> None:
        if self.folder.is_dir():
            prune(self.folder, [self.path(row) for row in rows])
