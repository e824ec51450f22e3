"""A training scored on validation images: their accuracy, and how well OOD validation images are told from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from partsynth.config.params import Params
from partsynth.config.training import Train
from partsynth.core.contrastive import encoder
from partsynth.evaluation import scoring
from partsynth.records.images import read_image
from partsynth.records.rows import SelectedRecord
from partsynth.study.space import Data
from partsynth.training import fit
from partsynth.training.devices import make_accelerator
from partsynth.training.frozen import FrozenFeatures
from partsynth.training.images import load_images
from partsynth.training.result import Measurement


class ValidatedTraining:
    """Trainings of one study; ``threads`` is this worker's share of the cores."""

    def __init__(self, params: Params, root: Path, data: Data, threads: int) -> None:
        self.params, self.root, self.data, self.threads = params, root, data, threads
        self._ood: dict[int, dict[str, np.ndarray]] = {}  # by pixels a side, which a setup may have of its own

    def __call__(
        self, train: Train, rows: Sequence[SelectedRecord], on_measure: Callable[[Measurement], None], seed: int
    ) -> dict[str, float]:
        """``val_accuracy``, and ``near_ood_auroc`` and ``far_ood_auroc`` (NaN where there are no such images).

        Raises
        ------
        NonFinite
            where the loss becomes no number.
        """
        images = load_images(rows, self.data.validation, train.size, self.root)
        accelerator = make_accelerator(train)
        torch.set_num_threads(self.threads)
        root = self.root
        fitted = fit.fit(images, train, seed, accelerator=accelerator, on_measure=on_measure, root=root)
        evaluate, real = self.params.evaluate, np.flatnonzero(images.is_real)
        shown = {"train": images.images.numpy()[real], "val": images.val_images.numpy(), **self._unknown(train.size)}
        seen = scoring.embed(fitted.model, shown, evaluate.batch_size)
        if isinstance(kept := fitted.model.encoder.memory, FrozenFeatures):
            kept.keep()  # for the next trial
        known, _ = scoring.fit(evaluate, fitted.model, seen, images.labels[real], images.val_labels, images.classes)
        return {"val_accuracy": fitted.metrics["val_accuracy"]} | scoring.validation_auroc(evaluate, known, seen)

    def _unknown(self, size: int) -> dict[str, np.ndarray]:
        """OOD validation images by part, uint8 (n, size, size, 3)."""
        if size not in self._ood:
            parts = {"near_val": self.data.near, "far_val": self.data.far}
            self._ood[size] = {
                part: np.stack([np.asarray(encoder.resize(read_image(self.root, row), size)) for row in rows])
                for part, rows in parts.items()
                if rows
            }
        return self._ood[size]
