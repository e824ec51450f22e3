"""Stage ``calibrate``: how strongly a set edits each class, found on a few images before all are made; and of a set
with a quota, how many edits each class draws.

A strength given in params.yaml is passed on, at once, and a method that knows no strength needs none. For
``strength: auto`` each class's strength is bisected until the median drift of a few edits lies in the middle of the
set's target. Edits and drift are those of generate and quality. Each round's features are kept by the edits'
fingerprints, so a killed search goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import Order
from partsynth.augmentation.sources import drawn_sources
from partsynth.config.generation import Calibrate, Generate
from partsynth.config.models import Diffusion, Reference
from partsynth.config.quality import Quality
from partsynth.config.sets import AugmentationSet, StrengthSet
from partsynth.errors import UserError
from partsynth.quality.strength_search import DIGITS, chosen, limits, messages, search
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.records.strengths import Attempts, ClassStrength, Strengths
from partsynth.store import workers
from partsynth.store.files import write_json
from partsynth.store.layout import AUGMENTED, MANIFEST


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the stage reads, and where it writes."""

    params: Calibrate
    generate: Generate
    diffusion: Diffusion
    quality: Quality
    reference: Reference
    augmentation: AugmentationSet
    set_name: str
    real: Path
    """Folder written by ingest."""
    tokens: Path
    """Folder written by tokens."""
    out: Path
    """The set's strengths (JSON)."""
    root: Path


def run(inputs: Inputs) -> None:
    """Write the set's strength for every class of ``real`` to ``out``, and the attempts that its quota takes.

    Several processes make and measure the edits together, and each searches alike; the first one writes.

    Raises
    ------
    UserError
        where there is nothing to edit or to calibrate on, where the target cannot be reached by any drift, and where
        tokens, masks or models are missing.
    """
    rows = read_manifest(inputs.real / MANIFEST, RealRecord)
    strengths = _strengths(inputs, rows)
    if inputs.augmentation.quota is not None:
        inputs.out.unlink(missing_ok=True)
        strengths = strengths.model_copy(update={"attempts": _attempts(inputs, rows, strengths)})
    if workers.here().first:
        write_json(inputs.out, strengths)


def _strengths(inputs: Inputs, rows: Sequence[RealRecord]) -> Strengths:
    augmentation, name, out = inputs.augmentation, inputs.set_name, inputs.out
    classes = sorted({row.class_name for row in rows if row.split == "train" and row.role == "target"})
    if not classes:
        raise UserError(f"{inputs.real / MANIFEST} has no training images to edit")
    if not isinstance(augmentation, StrengthSet):
        print(f"calibrate {name}: method {augmentation.method} has no strengths")
        return Strengths(set_name=name, classes={})
    if augmentation.strength != "auto":
        given = {kind: ClassStrength(strength=augmentation.strength) for kind in classes}
        print(f"calibrate {name}: strength {augmentation.strength}, as given")
        return Strengths(set_name=name, classes=given)
    out.unlink(missing_ok=True)
    from partsynth.quality.probes import Probes  # torch: a strength that is given needs none of it

    probes = Probes(
        count=inputs.params.sources,
        generate=inputs.generate,
        diffusion=inputs.diffusion,
        quality=inputs.quality,
        reference=inputs.reference,
        augmentation=augmentation,
        set_name=name,
        rows=rows,
        real=inputs.real,
        tokens=inputs.tokens,
        root=inputs.root,
    )
    near, far = limits(augmentation, name, probes.tolerated)
    aim = round((near + far) / 2, DIGITS)
    trails = search(classes, aim, inputs.params, probes.measure)
    probes.keep_only_used()
    for line in messages(name, trails, aim, probes.ends):
        print(line)
    return Strengths(
        set_name=name,
        calibration_n=len(probes.calibration.drift),
        near=round(near, DIGITS),
        far=round(far, DIGITS),
        aim=aim,
        classes={kind: ClassStrength(strength=chosen(t, aim).strength, trail=t) for kind, t in trails.items()},
    )


def _attempts(inputs: Inputs, rows: Sequence[RealRecord], strengths: Strengths) -> dict[str, Attempts]:
    from partsynth.quality.quota import drawn_for_quota

    found = drawn_for_quota(
        order=Order(
            set_name=inputs.set_name,
            parameters=inputs.augmentation,
            shared=inputs.generate,
            sources=drawn_sources(rows, inputs.generate.seed, inputs.generate.max_sources),
            strengths={name: one.strength for name, one in strengths.classes.items()},
            folder=f"{AUGMENTED}/{inputs.set_name}",
        ),
        materials=Materials(real=rows, tokens=inputs.tokens, diffusion=inputs.diffusion, root=inputs.root),
        params=inputs.quality,
        reference=inputs.reference,
        real=inputs.real,
        root=inputs.root,
    )
    for name, one in sorted(found.items()):
        told = f"calibrate {inputs.set_name}: {name}: {one.accepted} of {one.attempts} attempts accepted"
        print(told if one.accepted >= one.quota else f"{told}; warning: short of its quota of {one.quota}")
    return found
