"""Stage ``calibrate``: how strongly a set edits each class, found on a few images before all are made.

A strength given in params.yaml is passed on, at once, and a method that knows no strength needs none. For
``strength: auto`` each class's strength is bisected until the median drift of a few edits lies in the middle of the
set's target. Edits and drift are those of generate and quality. Each round's features are kept by the edits'
fingerprints, so a killed search goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from partsynth.config.generation import Calibrate, Generate
from partsynth.config.models import Diffusion, Reference
from partsynth.config.quality import Quality
from partsynth.config.sets import AugmentationSet, StrengthSet
from partsynth.errors import UserError
from partsynth.quality.strength_search import DIGITS, chosen, limits, messages, search
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.records.strengths import ClassStrength, Strengths
from partsynth.store.files import write_json
from partsynth.store.layout import MANIFEST


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
    """Write the set's strength for every class of ``real`` to ``out``.

    Raises
    ------
    UserError
        where there is nothing to edit or to calibrate on, where the target cannot be reached by any drift, and where
        tokens, masks or models are missing.
    """
    augmentation, name, out = inputs.augmentation, inputs.set_name, inputs.out
    rows = read_manifest(inputs.real / MANIFEST, RealRecord)
    classes = sorted({row.class_name for row in rows if row.split == "train" and row.role == "target"})
    if not classes:
        raise UserError(f"{inputs.real / MANIFEST} has no training images to edit")
    if not isinstance(augmentation, StrengthSet):
        write_json(out, Strengths(set_name=name, classes={}))
        print(f"calibrate {name}: method {augmentation.method} has no strengths")
        return
    if augmentation.strength != "auto":
        given = {kind: ClassStrength(strength=augmentation.strength) for kind in classes}
        write_json(out, Strengths(set_name=name, classes=given))
        print(f"calibrate {name}: strength {augmentation.strength}, as given")
        return
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
    near, far = limits(augmentation, name, probes.calibration.drift)
    aim = round((near + far) / 2, DIGITS)
    trails = search(classes, aim, inputs.params, probes.measure)
    probes.keep_only_used()
    strengths = Strengths(
        set_name=name,
        calibration_n=len(probes.calibration.drift),
        near=round(near, DIGITS),
        far=round(far, DIGITS),
        aim=aim,
        classes={kind: ClassStrength(strength=chosen(t, aim).strength, trail=t) for kind, t in trails.items()},
    )
    write_json(out, strengths)
    for line in messages(name, trails, aim, probes.ends):
        print(line)
