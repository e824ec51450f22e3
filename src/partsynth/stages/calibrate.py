"""Stage ``calibrate``: how strongly a set edits each class, found on a few pictures before all are made.

A strength given in params.yaml is passed on, at once. For ``strength: auto`` each class's strength is bisected until the
median drift of a few edits lies in the middle of the set's target. Edits and drift are those of generate and quality
(``editing``, ``measuring``). Each round's features are kept by the edits' fingerprints: a killed search goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from partsynth.config.generation import AugmentationSet, Calibrate, Diffusion, Generate, Quality, Reference
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.records.strengths import ClassStrength, Strengths
from partsynth.store.files import write_json

if TYPE_CHECKING:
    pass
from partsynth.quality.probes import Probes
from partsynth.quality.strength_search import DIGITS, chosen, limits, search, told


def run(
    params: Calibrate,
    generate: Generate,
    diffusion: Diffusion,
    quality: Quality,
    reference: Reference,
    augmentation: AugmentationSet,
    set_name: str,
    real: Path,
    tokens: Path,
    out: Path,
    root: Path,
) -> None:
    """Write the set's strength for every class of ``real`` to ``out`` (JSON).

    Raises
    ------
    UserError
        where there is nothing to edit or to calibrate on, where the target cannot be reached by any drift, and where
        tokens, masks or models are missing.
    """
    rows = read_manifest(real / "manifest.csv", RealRecord)
    classes = sorted({row.class_name for row in rows if row.split == "train" and row.role == "target"})
    if not classes:
        raise UserError(f"{real / 'manifest.csv'} has no training pictures to edit")
    if augmentation.strength != "auto":
        given = {name: ClassStrength(strength=augmentation.strength) for name in classes}
        write_json(out, Strengths(set_name=set_name, classes=given))
        print(f"calibrate {set_name}: strength {augmentation.strength}, as given")
        return
    out.unlink(missing_ok=True)
    probes = Probes(params, generate, diffusion, quality, reference, augmentation, set_name, rows, real, tokens, root)
    near, far = limits(augmentation, set_name, probes.calibration.drift)
    aim = round((near + far) / 2, DIGITS)
    trails = search(classes, aim, params, probes.measure)
    probes.keep_only_used()
    found = {name: ClassStrength(strength=chosen(trail, aim).strength, trail=trail) for name, trail in trails.items()}
    count, ends = len(probes.calibration.drift), (round(near, DIGITS), round(far, DIGITS))
    write_json(
        out, Strengths(set_name=set_name, calibration_n=count, near=ends[0], far=ends[1], aim=aim, classes=found)
    )
    for line in told(set_name, augmentation, trails, aim, probes.ends):
        print(line)
