"""The rows of manifests: what travels between stages."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from partsynth.store.layout import AUGMENTED, OOD, REAL
from partsynth.store.shards import as_file

Split = Literal["train", "val", "test", "shifted"]
Role = Literal["target", "near_ood", "far_ood"]  # what a photograph is to the classifiers
UseRole = Literal["positive", "negative"]  # what an image is to the loss
BY_CLASS = tuple(f"{folder}/" for folder in (REAL, OOD, AUGMENTED))  # below them each class has its folders
VerdictName = Literal["accept", "warn", "drop"]


def _below(value: str) -> str:
    pure = PurePosixPath(value)
    if pure.is_absolute() or ".." in pure.parts or not value or "\\" in value:
        raise ValueError(f"{value!r} is not a path with slashes below its manifest")
    return value


def _below_or_none(value: str) -> str:
    return _below(value) if value else value


Finite = Annotated[float, Field(allow_inf_nan=False)]
ImagePath = Annotated[str, AfterValidator(_below_or_none)]  # of an image or mask of the project; empty where none


class Record(BaseModel):
    """One row of a manifest. Paths are relative to the folder that holds dvc.yaml, with slashes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str
    class_name: str

    @property
    def key(self) -> tuple[str, ...]:
        """What a manifest holds once."""
        return (self.path,)

    @classmethod
    def columns(cls) -> list[str]:
        """Of the manifest, in order."""
        return list(cls.model_fields)

    @field_validator("path")
    @classmethod
    def _relative(cls, value: str) -> str:
        return _below(value)

    @property
    def misplaced(self) -> str:
        """What is wrong with its path, in words; empty where nothing is.

        Below ``BY_CLASS`` an image's folder has its class's name: a class that was changed in a row shows in no hash.
        """
        folder = PurePosixPath(as_file(self.path)).parent
        if not self.path.startswith(BY_CLASS) or folder.as_posix().endswith(f"/{PurePosixPath(self.class_name)}"):
            return ""
        return f"{self.path} lies in the folder of {folder.name!r}, its class_name is {self.class_name!r}"


class ImageRecord(Record):
    """A real image, or one made from it: each goes back to one real image and its group."""

    @property
    def origin_path(self) -> str:
        """Of the real image it goes back to: of a real one its own."""
        raise NotImplementedError

    @property
    def origin_group(self) -> str:
        """The physical part or spot of that real image."""
        raise NotImplementedError

    @property
    def further_path(self) -> str:
        """Of a second real image that it holds something of; empty where there is none."""
        return ""

    @property
    def further_group(self) -> str:
        """The physical part or spot of that second image."""
        return ""


class RealRecord(ImageRecord):
    """A framed real photograph (data/real, data/ood). Paths are relative to the repository's root."""

    split: Split
    role: Role = "target"
    group: str  # images of one physical part or spot; never in two splits
    state: str = ""  # wear word where the source knows it
    camera: str = ""
    mask: ImagePath = ""  # path of the framed mask, empty where there is none
    source: str  # the original photograph, relative to the source folder
    source_sha256: str
    box: str = ""  # ROI crop in the original's pixels: "left,top,right,bottom"

    @property
    def origin_path(self) -> str:
        return self.path

    @property
    def origin_group(self) -> str:
        return self.group


class AugmentedRecord(ImageRecord):
    """One image of an augmentation set: what all methods tell of theirs.

    A method's own row adds what its images are made from; the row must hold everything needed to make the image again.
    Where that is a second real image, the row is a ``DonorRecord``: takedowns look for it by its columns. A file's rows
    are typed by ``augmentation.manifest``.
    """

    by_model: ClassVar[bool] = True
    """Whether a trained generative model took part in making the images."""

    method: str
    set_name: str
    source: ImagePath  # path of the real training image, relative to the repository's root
    source_sha256: str
    source_group: str
    variant: int
    state: str = ""
    seed: int
    size: int  # pixels a side the method works at
    fingerprint: str  # of everything the image is made from; the image carries it

    @property
    def origin_path(self) -> str:
        return self.source

    @property
    def origin_group(self) -> str:
        return self.source_group

    @property
    def caption(self) -> str:
        """What it was made to show, in a few words, for pages of images."""
        return self.state


class DonorRecord(AugmentedRecord):
    """One image that holds something of a second training image too."""

    donor: ImagePath  # path of that image, relative to the repository's root
    donor_sha256: str
    donor_group: str
    donor_class: str

    @property
    def further_path(self) -> str:
        return self.donor

    @property
    def further_group(self) -> str:
        return self.donor_group


class VerdictRecord(Record):
    """What the quality stage says of one image (data/quality/<set>.csv)."""

    set_name: str
    source: ImagePath = ""
    drift: float  # class-standardised distance from the real parts of its class, own source's group left out
    percentile: Finite  # conformal (r + 1) / (n + 1) of drift among real images of the class, in (0, 1]
    calibration_n: int
    nearest_class: str
    class_margin: float  # distance to the nearest other class minus that to its own; > 0 where its own is nearest
    sharpness: float
    brightness: float
    contrast: float
    copy_similarity: float  # to its own source, in [-1, 1]; 1 = a copy
    verdict: VerdictName
    reasons: str  # semicolon-separated names of the failed checks, empty where none failed
    tolerated: float | None = None  # the percentile of drift less ``quality.tolerance``, where there is a tolerance
    least_drift: float | None = None  # of the standardised drifts from all classes, with ``quality.all_classes``
    nobody: float | None = None  # its percentile among those of real images, in (0, 1]: high = of no class

    @property
    def judged(self) -> float:
        """The percentile that thresholds on drift apply to, in (0, 1]."""
        return self.percentile if self.tolerated is None else self.tolerated

    @classmethod
    def columns(cls) -> list[str]:
        return [name for name in super().columns() if name not in ("tolerated", "least_drift", "nobody")]


class SelectedRecord(Record):
    """One training image of one setup (data/selected/<setup>.csv). Paths are relative to the repository's root."""

    role: UseRole
    origin: str  # "real" or the augmentation set's name
    source: Annotated[str, AfterValidator(_below)]  # the real training image it goes back to (itself for a real one)
    group: str
    state: str = ""
    percentile: float = float("nan")
    rule: str = ""  # of section select, that took it (a member of seams.RULES)
    donor: ImagePath = ""  # a second real training image that it holds something of
    donor_group: str = ""

    @classmethod
    def columns(cls) -> list[str]:
        return [name for name in super().columns() if name not in ("donor", "donor_group")]

    @property
    def key(self) -> tuple[str, ...]:
        """A real image may be a positive of its class and a negative of the others."""
        return (self.path, self.role)
