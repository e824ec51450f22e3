"""What a method of augmentation is: one file in ``methods`` with a subclass's object as ``MEMBER``.

A set is made in two steps: planned as rows of its manifest, then painted from rows alone. What a row does not hold
cannot be in its image, so a killed run goes on where it was, and any image can be made again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from PIL import Image

from partsynth.augmentation.materials import Materials
from partsynth.config.generation import Generate
from partsynth.config.sets import AugmentationSet
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.records.strengths import Strength
from partsynth.store.base_model import without_adaptation
from partsynth.store.hashing import fingerprint, seed_from
from partsynth.store.layout import ADAPTATION as ADAPTATION_FILE
from partsynth.store.png import SourceType

P = TypeVar("P", bound=AugmentationSet)
R = TypeVar("R", bound=AugmentedRecord)
SOURCE, TOKEN, BASE, ADAPTATION = "source", "token", "base model", "adaptation"  # parents that an audit follows further


@dataclass(frozen=True)
class Parent:
    """Something an image was made from, by content."""

    kind: str
    """SOURCE, TOKEN, BASE, ADAPTATION, or the method's own word for a file."""
    path: str
    """Relative to the root; empty for a base model, which params.yaml locates."""
    sha256: str
    class_name: str = ""
    """Of a further source or token: the class it is of; empty = the image's own."""
    group: str = ""
    """Of a further source: its group; empty = the image's own."""


def base_parents(identity: str) -> list[Parent]:
    """A base model, and the adaptation that tuned it where its identity names one."""
    base, adaptation = without_adaptation(identity)
    return [Parent(BASE, "", base), *([Parent(ADAPTATION, ADAPTATION_FILE, adaptation)] if adaptation else [])]


@dataclass(frozen=True, kw_only=True)
class Order(Generic[P]):
    """An augmentation set as it is wanted."""

    set_name: str
    parameters: P
    shared: Generate
    """What all sets share."""
    sources: Sequence[RealRecord]
    """The training images that are edited."""
    strengths: Mapping[str, Strength] = field(default_factory=dict)
    """Each class's strength, or several in turn; empty where the method has none."""
    folder: str
    """Of the images, relative to the root, with slashes."""

    def common(self, source: RealRecord, variant: int) -> dict[str, Any]:
        """The columns that are the same for every method; the seed is the image's own."""
        return {
            "path": f"{self.folder}/{source.class_name}/{Path(source.path).stem}-v{variant}.png",
            "sha256": "",
            "class_name": source.class_name,
            "set_name": self.set_name,
            "source": source.path,
            "source_sha256": source.sha256,
            "source_group": source.group,
            "variant": variant,
            "seed": seed_from("generate", self.shared.seed, self.set_name, source.sha256, variant),
            "fingerprint": "",
        }


class Method(ABC, Generic[P, R]):
    """A method of augmentation."""

    name: str
    """As ``sets.<name>.method`` and the manifest's column have it."""
    Parameters: type[P]
    """An entry of ``sets``: a subclass of AugmentationSet with ``method: Literal[name] = name`` and docstrings.

    Where it is a StrengthSet, stage calibrate gives each class a strength, or searches for it (``strength: auto``).
    """
    Row: type[R]
    """A row of the manifest: a subclass of AugmentedRecord with ``method: Literal[name] = name``."""
    version = 1
    """Raised when the same row gives another image."""
    source_type: SourceType = "compositeWithTrainedAlgorithmicMedia"
    """IPTC's term for its images, written into each: a photograph edited by a generative model, at strength 0 (the
    VAE's round trip alone) too. A method whose images hold nothing of a photograph says ``trainedAlgorithmicMedia``,
    one that puts photographs together without a model ``compositeCapture``."""

    @abstractmethod
    def plan(self, order: Order[P], materials: Materials) -> list[R]:
        """The set's rows, each ``sealed``; ``sha256`` is still empty.

        Raises
        ------
        UserError
            where something is missing that the images would be made from.
        """

    @abstractmethod
    def paint(self, rows: Sequence[R], materials: Materials) -> Iterator[tuple[R, Image.Image]]:
        """The rows' images, each of its source's size. An image's bytes depend on its row alone.

        Raises
        ------
        UserError
            where a source is no training image or differs from its manifest.
        """

    def together(self, rows: Sequence[R], materials: Materials) -> list[list[R]]:
        """All rows of a set, in groups that ``paint`` makes in one piece, in an order that is theirs alone.

        On a GPU the last bit of a value can depend on the place in its batch. So processes share out groups, and what a
        killed run left of one is made again with the rest of it: the set's bytes stay the same.
        """
        return [[row] for row in rows]

    def paint_probes(self, rows: Sequence[R], materials: Materials) -> Iterator[tuple[R, Image.Image]]:
        """As ``paint``, for a few images at many strengths; a method may make them in another way that is faster."""
        return self.paint(rows, materials)

    def parents(self, row: R) -> list[Parent]:
        """What the row's image was made from: its source, and all else by which a row of the same settings differs."""
        return [Parent(SOURCE, row.source, row.source_sha256)]

    def summary(self, rows: Sequence[R]) -> str:
        """The set in a few words, for the heads of pages."""
        return self.name

    def limitation(self, rows: Sequence[R]) -> str:
        """What the set's images cannot be taken for, in a sentence, for descriptions of the data."""
        return "No image shows a part that was not photographed: each is an edit of one training image."

    def fingerprint(self, row: R, materials: Materials) -> str:
        """Of everything the image is made from."""
        return fingerprint([self.version, made_of(row)])

    def sealed(self, row: R, materials: Materials) -> R:
        """The row with its fingerprint."""
        return row.model_copy(update={"fingerprint": self.fingerprint(row, materials)})


def made_of(row: AugmentedRecord) -> dict[str, Any]:
    """The columns that decide on the image's pixels: the same image may stand at another path, in another set."""
    return row.model_dump(exclude={"path", "sha256", "set_name", "source", "source_group", "variant", "fingerprint"})
