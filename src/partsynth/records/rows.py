"""The rows of manifests: what travels between stages."""

from __future__ import annotations

from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, field_validator


class Record(BaseModel):
    """One row of a manifest. Paths are relative to the repository root (the folder that holds dvc.yaml), with slashes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str
    class_name: str

    @property
    def key(self) -> tuple[str, ...]:
        """What a manifest holds once."""
        return (self.path,)

    @field_validator("path")
    @classmethod
    def _relative(cls, value: str) -> str:
        pure = PurePosixPath(value)
        if pure.is_absolute() or ".." in pure.parts or not value:
            raise ValueError(f"{value!r} is not a path below its manifest")
        return value


class RealRecord(Record):
    """A framed real photograph (data/real, data/ood). Paths are relative to the repository's root."""

    split: str  # train | val | test | shifted
    role: str = "target"  # target | near_ood | far_ood
    group: str  # pictures of one physical part or spot; never in two splits
    state: str = ""  # wear word where the source knows it
    camera: str = ""
    mask: str = ""  # path of the framed mask, empty where there is none
    source: str  # the original photograph, relative to the source folder
    source_sha256: str
    box: str = ""  # ROI crop in the original's pixels: "left,top,right,bottom"


class AugmentedRecord(Record):
    """One SDEdit picture: everything needed to make it again."""

    set_name: str
    source: str  # path of the real training picture, relative to the repository's root
    source_sha256: str
    source_group: str
    variant: int
    prompt: str
    state: str
    seed: int
    strength: float
    guidance: float
    steps: int
    token_noise: float
    masked: bool
    restore: float = 0.0  # share of the source's detail, lost in the VAE, that was put back
    size: int
    token_sha256: str
    base_sha256: str
    batch_size: int = 32  # of the fixed-shape batch it was made in: another shape rounds differently
    dtype: str = "float32"  # the U-Net's
    fingerprint: str


class VerdictRecord(Record):
    """What the quality stage says of one picture (data/quality/<set>.csv)."""

    set_name: str
    source: str = ""
    drift: float  # class-standardised distance from the real parts of its class, own source's group left out
    percentile: float  # conformal (r + 1) / (n + 1) of drift among real validation pictures, in (0, 1]
    calibration_n: int
    nearest_class: str
    class_margin: float  # distance to the nearest other class less that to its own; > 0 where its own is nearest
    sharpness: float
    brightness: float
    contrast: float
    copy_similarity: float  # to its own source, in [-1, 1]; 1 = a copy
    verdict: str  # accept | warn | drop
    reasons: str  # semicolon-separated names of the failed checks, empty where none failed


class SelectedRecord(Record):
    """One training picture of one setup (data/selected/<setup>.csv). Paths are relative to the repository's root."""

    role: str  # positive | negative
    origin: str  # "real" or the augmentation set's name
    source: str  # the real training picture it goes back to (itself for a real one)
    group: str
    state: str = ""
    percentile: float = float("nan")
    rule: str = ""  # of section select, that took it

    @property
    def key(self) -> tuple[str, ...]:
        """A real picture may be a positive of its class and a negative of the others."""
        return (self.path, self.role)
