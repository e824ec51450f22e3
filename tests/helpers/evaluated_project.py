"""A project folder as it stands before `evaluate`: drawn parts, sets, verdicts, and untrained encoders whose
classifiers are class means, so that figures are neither trivial nor hopeless and nothing takes long."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from partsynth.augmentation.methods.sdedit import SdeditRecord
from partsynth.config.training import Evaluate, Matrix, Report
from partsynth.core.backbones.narrow_resnet import MEMBER
from partsynth.core.contrastive import encoder
from partsynth.evaluation.results import Summary
from partsynth.records.manifest import write_manifest
from partsynth.records.rows import RealRecord, SelectedRecord, VerdictRecord
from partsynth.store.files import write_json
from partsynth.store.hashing import seed_from
from partsynth.store.png import write_png

if TYPE_CHECKING:
    from partsynth.stages.evaluate import Inputs

SETS = {"id": 0.2, "near_ood": 0.5, "far_ood": 0.9}
STATES = ("used", "rusty", "dirty", "broken", "brand new")


@dataclass(frozen=True)
class Project:
    """Paths are relative: tests run it with the project as the working folder."""

    root: Path
    setups: tuple[str, ...] = ("real", "real_id", "real_id_negatives")
    seeds: tuple[int, ...] = (0, 1)
    families: tuple[str, ...] = ("gear", "flange")
    teeth: tuple[int, ...] = (6, 9)
    counts: tuple[tuple[str, int], ...] = (("train", 6), ("val", 4), ("test", 6), ("shifted", 6))
    ood: bool = True
    ood_count: int = 4
    size: int = 32

    def make(self) -> Project:
        rows = [
            self._real(f"{f}_t{t}", f, t, split, i)
            for f in self.families
            for t in self.teeth
            for split, n in self.counts
            for i in range(n)
        ]
        write_manifest(self.root / "data/real/manifest.csv", rows, RealRecord)
        strange = []
        if self.ood:
            for role, parts in (
                ("near_ood", [(f, t + 2) for f in self.families for t in self.teeth]),
                ("far_ood", [("shaft", t) for t in (1, 2, 3, 4)]),
            ):
                for i, (family, teeth) in enumerate(parts):  # half of the variants for validation
                    split = ("val", "test")[i % 2]
                    strange += [
                        self._real(f"{family}_t{teeth}", family, teeth, split, n, role) for n in range(self.ood_count)
                    ]
        write_manifest(self.root / "data/ood/manifest.csv", strange, RealRecord)
        train = [r for r in rows if r.split == "train"]
        edits = {name: self._set(name, train) for name in SETS}
        self._select(train, edits)
        for setup in self.setups:
            for seed in self.seeds:
                self._model(setup, seed, train)
        return self

    def _real(self, name: str, family: str, teeth: int, split: str, index: int, role: str = "target") -> RealRecord:
        rng = np.random.default_rng(seed_from(name, split, index))
        image = draw(self.size, family, teeth, rng, hard=split == "shifted")
        folder = f"data/real/{split}" if role == "target" else f"data/ood/{role.removesuffix('_ood')}/{split}"
        path = f"{folder}/{name}/{index:03}.png"
        digest = write_png(self.root / path, image)
        return RealRecord(
            path=path,
            sha256=digest,
            class_name=name,
            split=split,
            role=role,
            group=f"{name}-{split}-{index // 2}",
            state=STATES[index % 5],
            source=path,
            source_sha256=digest,
        )

    def _set(self, name: str, train: list[RealRecord]) -> list[SdeditRecord]:
        rows, verdicts = [], []
        for source in train:
            original = np.asarray(Image.open(self.root / source.path), dtype=float)
            for variant in range(2 if name != "far_ood" else 1):
                rng = np.random.default_rng(seed_from(name, source.path, variant))
                blob = (
                    np.kron(rng.normal(size=(4, 4, 3)), np.ones((self.size // 4, self.size // 4, 1)))
                    * 160
                    * SETS[name] ** 1.5
                )
                path = f"data/augmented/{name}/{source.class_name}/{Path(source.path).stem}_{variant}.png"
                digest = write_png(self.root / path, np.clip(original + blob, 0, 255).astype(np.uint8))
                state = STATES[variant]
                rows.append(
                    SdeditRecord(
                        path=path,
                        sha256=digest,
                        class_name=source.class_name,
                        set_name=name,
                        source=source.path,
                        source_sha256=source.sha256,
                        source_group=source.group,
                        variant=variant,
                        prompt=f"a photo of a {state} <{source.class_name}>",
                        state=state,
                        seed=variant,
                        strength=SETS[name],
                        guidance=4.0,
                        steps=25,
                        token_noise=0.0,
                        masked=False,
                        size=self.size,
                        token_sha256="0",
                        base_sha256="0",
                        fingerprint=f"{name}{variant}",
                    )
                )
                drift = float(rng.normal(4 * SETS[name] - 0.8, 0.7))
                too_far = drift > 1.65
                verdicts.append(
                    VerdictRecord(
                        path=path,
                        sha256=digest,
                        class_name=source.class_name,
                        set_name=name,
                        source=source.path,
                        drift=drift,
                        percentile=min(1.0, 0.5 + 0.5 * math.erf(drift / 1.414)),
                        calibration_n=48,
                        nearest_class=source.class_name,
                        class_margin=1 - drift / 4,
                        sharpness=1.0,
                        brightness=0.5,
                        contrast=0.2,
                        copy_similarity=0.9,
                        verdict="drop" if too_far else "accept",
                        reasons="drift" if too_far else "",
                    )
                )
        write_manifest(self.root / f"data/augmented/{name}/manifest.csv", rows, SdeditRecord)
        write_manifest(self.root / f"data/quality/{name}.csv", verdicts, VerdictRecord)
        return rows

    def _select(self, train: list[RealRecord], edits: dict[str, list[SdeditRecord]]) -> None:
        def chosen(rows: list, origin: str, role: str) -> list[SelectedRecord]:
            return [
                SelectedRecord(
                    path=r.path,
                    sha256=r.sha256,
                    class_name=r.class_name,
                    role=role,
                    origin=origin,
                    source=r.path if origin == "real" else r.source,
                    group=r.group if origin == "real" else r.source_group,
                )
                for r in rows
            ]

        rows = chosen(train, "real", "positive")
        for setup, more in (
            ("real", []),
            ("real_id", chosen(edits["id"], "id", "positive")),
            ("real_id_negatives", chosen(edits["near_ood"], "near_ood", "negative")),
        ):
            rows = rows + more
            if setup in self.setups:
                write_manifest(self.root / f"data/selected/{setup}.csv", rows, SelectedRecord)

    def _model(self, setup: str, seed: int, train: list[RealRecord]) -> None:
        folder = self.root / "models/supcon" / setup / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        classes = sorted({r.class_name for r in train})
        shape = {"width": 8 * (1 + self.setups.index(setup)), "blocks": [1, 1]}
        model = encoder.Classifier(encoder.build(MEMBER, shape, 8, seed), len(classes), self.size)
        pictures = np.stack([np.asarray(Image.open(self.root / r.path)) for r in train])
        features, _ = encoder.embed(model, pictures)
        labels = np.array([classes.index(r.class_name) for r in train])
        centred = features - features.mean(dim=0)
        means = torch.stack([centred[labels == c].mean(dim=0) for c in range(len(classes))])
        precision = torch.linalg.pinv(torch.cov(centred.T) + 1e-2 * centred.var() * torch.eye(features.shape[1]))
        weight = means @ precision
        state = {
            "weight": weight.contiguous(),
            "bias": (-weight @ features.mean(dim=0) - (weight * means).sum(dim=1) / 2).contiguous(),
        }
        mark = {"fingerprint": f"{setup}{seed}"}
        weights = {k: v.contiguous() for k, v in model.encoder.state_dict().items()}
        save_file(weights, folder / "encoder.safetensors", mark)
        save_file(state, folder / "classifier.safetensors", mark)
        architecture = {**shape, "embedding": 8}
        write_json(
            folder / "config.json",
            {
                "architecture": architecture,
                "size": self.size,
                "classes": classes,
                "setup": setup,
                "seed": seed,
                "train": {"temperature": 0.1, "steps": 300, "blocks": [1, 1]},
                **mark,
            },
        )
        steps = np.arange(0, 301, 50)
        losses = 4.5 * np.exp(-steps / 90) + 1 + 0.1 * seed
        lines = [
            f"{s},{loss:.4f},0.002,{0.2 + s / 900:.4f},{0.3 + s / 600:.4f}"
            for s, loss in zip(steps, losses, strict=True)
        ]
        (folder / "history.csv").write_text(
            "\n".join(["step,loss,learning_rate,feature_variance,val_accuracy_knn", *lines]) + "\n"
        )

    def evaluate(self, params: Evaluate | None = None) -> Summary:
        """Run the stage in the current folder, which must be ``root``."""
        from partsynth.stages import evaluate

        found = evaluate.run(self.inputs(params))
        assert found is not None  # by the only process
        return found

    def inputs(self, params: Evaluate | None = None) -> Inputs:
        """Of the stage in the current folder."""
        from partsynth.stages.evaluate import Inputs

        return Inputs(
            params=params or Evaluate(k=[1, 3]),
            matrix=Matrix(setups=list(self.setups), seeds=list(self.seeds)),
            models=Path("models/supcon"),
            real=Path("data/real"),
            ood=Path("data/ood"),
            augmented=Path("data/augmented"),
            selected=Path("data/selected"),
            quality=Path("data/quality"),
            out=Path("reports/metrics"),
            plots=Path("reports/plots"),
            root=Path(),
        )

    def report(self, params: Report | None = None) -> str:
        from partsynth.reporting.inputs import Inputs
        from partsynth.stages import report as stages_report

        inputs = Inputs(
            params=params or Report(),
            root=Path(),
            metrics=Path("reports/metrics"),
            plots=Path("reports/plots"),
            quality=Path("reports/quality"),
            augmented=Path("data/augmented"),
            real=Path("data/real"),
            ood=Path("data/ood"),
            verdicts=Path("data/quality"),
            studies=Path("reports/studies"),
            review=Path("data/review"),
            adapted=Path("models/adapted"),
            card=Path("data/card.yaml"),
            out=Path("reports/index.html"),
        )
        stages_report.run(inputs)
        return inputs.out.read_text()

    def but(self, **changes: object) -> Project:
        return dataclasses.replace(self, **changes)


def draw(size: int, family: str, teeth: int, rng: np.random.Generator, hard: bool) -> Image.Image:
    """A worn part from above at four times the size, reduced."""
    big = 4 * size
    back = rng.uniform(90, 200) if not hard else rng.uniform(30, 120)
    image = Image.new("RGB", (big, big), tuple(int(back + rng.uniform(-15, 15)) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    tone = rng.uniform(60, 120) if not hard else rng.uniform(120, 220)
    hue = 0.7 * (seed_from(family) % 7) + 0.35 * teeth  # untrained features tell colours apart, not teeth
    colour = tuple(int(tone * (0.75 + 0.5 * math.sin(hue + 2.1 * c) + rng.uniform(0, 0.25))) for c in range(3))
    centre, radius, turn = (
        big / 2 + rng.uniform(-0.05, 0.05, 2) * big,
        0.36 * big * rng.uniform(0.9, 1.05),
        rng.uniform(0, 6.3),
    )

    def ring(reach: float, angle: float, dot: float, fill: tuple) -> None:
        x, y = centre + reach * radius * np.array([math.cos(angle + turn), math.sin(angle + turn)])
        pen.ellipse([x - dot * radius, y - dot * radius, x + dot * radius, y + dot * radius], fill=fill)

    if family == "shaft":
        for step in range(teeth + 1):
            wide = 0.1 + 0.06 * ((step * 7) % 4)
            x = big * (0.1 + 0.8 * step / (teeth + 1))
            pen.rectangle([x, big * (0.5 - wide), x + 0.8 * big / (teeth + 1), big * (0.5 + wide)], fill=colour)
    else:
        ring(0, 0, 0.85, colour)
        for k in range(teeth):
            ring(
                0.95 if family == "gear" else 0.6,
                2 * math.pi * k / teeth,
                0.16,
                colour if family == "gear" else (30, 30, 34),
            )
        ring(0, 0, 0.25, (30, 30, 34))
    pixels = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS), dtype=float)
    noise = rng.normal(0, 7, pixels.shape) + np.kron(rng.normal(0, 8, (4, 4, 1)), np.ones((size // 4, size // 4, 1)))
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
