"""Where everything lies, once: relative names as dvc.yaml and manifests have them, and absolute paths of a project."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from partsynth.errors import UserError

RAW, REAL, OOD = "data/raw", "data/real", "data/ood"
STRENGTHS, AUGMENTED, QUALITY, SELECTED = "data/strengths", "data/augmented", "data/quality", "data/selected"
BASE_MODEL, TOKENS, CLASSIFIERS, RUNS = "models/base", "models/tokens", "models/supcon", "models/runs"
ADAPTED, ADAPTATION = "models/adapted", "models/adapted/adaptation.safetensors"
METRICS, PLOTS, PAGES, STUDIES = "reports/metrics", "reports/plots", "reports/quality", "reports/studies"
REPORT, SUMMARY, PREDICTIONS = "reports/index.html", "reports/metrics/summary.json", "reports/metrics/predictions.csv"
MANIFEST, CARD = "manifest.csv", "data/card.yaml"
REVIEW, NO_REVIEW = "data/review", "data/review/none.csv"  # the second: of sets that nobody reviewed


@dataclass(frozen=True)
class Layout:
    """The paths of the project in ``root``, the folder that holds dvc.yaml."""

    root: Path

    def path(self, name: str) -> Path:
        """Of a relative name with slashes."""
        return self.root / name

    def relative(self, path: Path) -> str:
        """The name of a path below the root, as manifests have it; links are not followed.

        Raises
        ------
        UserError
            where it lies elsewhere.
        """
        root, full = self.root.absolute(), Path(os.path.abspath(path))
        if not full.is_relative_to(root):
            raise UserError(f"{path} lies outside the project {root}: manifests and runs name files in it alone")
        return full.relative_to(root).as_posix()

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def work(self) -> Path:
        """Caches and checkpoints; git and DVC ignore it."""
        return self.root / ".work"

    @property
    def features(self) -> Path:
        """Numbers measured of images, kept under the hash of what they were measured of."""
        return self.work / "features"

    @property
    def packing(self) -> Path:
        """Images of sets in shards, as files until they are packed."""
        return self.work / "packing"

    @property
    def real(self) -> Path:
        return self.root / REAL

    @property
    def real_manifest(self) -> Path:
        return self.root / REAL / MANIFEST

    @property
    def ood(self) -> Path:
        return self.root / OOD

    @property
    def tokens(self) -> Path:
        return self.root / TOKENS

    @property
    def base_model(self) -> Path:
        return self.root / BASE_MODEL

    @property
    def augmented(self) -> Path:
        return self.root / AUGMENTED

    @property
    def quality(self) -> Path:
        return self.root / QUALITY

    @property
    def selected(self) -> Path:
        return self.root / SELECTED

    @property
    def classifiers(self) -> Path:
        return self.root / CLASSIFIERS

    @property
    def summary(self) -> Path:
        return self.root / SUMMARY

    @property
    def predictions(self) -> Path:
        return self.root / PREDICTIONS

    @property
    def studies(self) -> Path:
        return self.root / STUDIES

    @property
    def report(self) -> Path:
        return self.root / REPORT

    def strengths(self, set_name: str) -> Path:
        return self.root / STRENGTHS / f"{set_name}.json"

    def attempts(self, set_name: str) -> Path:
        """Images that were painted to be judged, for stage generate to take."""
        return self.work / "attempts" / set_name

    def augmentation_set(self, set_name: str) -> Path:
        return self.root / AUGMENTED / set_name

    def verdicts(self, set_name: str) -> Path:
        return self.root / QUALITY / f"{set_name}.csv"

    def review(self, set_name: str) -> Path:
        return self.root / REVIEW / f"{set_name}.csv"

    def training_table(self, setup: str) -> Path:
        return self.root / SELECTED / f"{setup}.csv"

    def classifier(self, setup: str, seed: int) -> Path:
        return self.root / CLASSIFIERS / setup / str(seed)

    def run_record(self, setup: str, seed: int) -> Path:
        """run.json of a training: apart from its model, whose bytes are the same in every run; once beside it."""
        beside = self.classifier(setup, seed) / "run.json"
        return beside if beside.is_file() else self.root / RUNS / setup / f"{seed}.json"
