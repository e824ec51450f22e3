"""The export's texts for people: model card and README."""

from __future__ import annotations

from collections import Counter

from partsynth.audit.bundle.gather import Gathered
from partsynth.evaluation.champion import card
from partsynth.records.card import QUESTIONS
from partsynth.tracking.query import RunView


def model_card(found: Gathered) -> str:
    """The registry's model card, with the data card and the data's composition."""
    lines = [
        card(_view(found), "the run that this export is of", found.metrics, found.run.run_id, found.card).rstrip(),
        "",
    ]
    lines += ["## Composition", "", "| data set | images | classes |", "|---|---|---|"]
    parts = Counter((f"real, {row.split}", row.class_name) for row in found.real)
    parts += Counter((f"{row.role}, {row.split}", row.class_name) for row in found.ood)
    for name in found.sets:
        parts += Counter((f"generated, set {name}", row.class_name) for row in found.augmented(name))
    for part in sorted({part for part, _ in parts}):
        counts = {name: count for (p, name), count in sorted(parts.items()) if p == part}
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        lines.append(f"| {part} | {sum(counts.values())} | {told} |")
    lines += ["", "## Weights", "", *(f"- `{name}`: sha256 `{sha}`" for name, sha in sorted(found.weights.items()))]
    return "\n".join(lines) + "\n"


def _view(found: Gathered) -> RunView:
    """The run as MLflow has it, else what its record says."""
    if found.view is not None:
        return found.view
    run = found.run
    return RunView(
        run_id=run.run_id,
        name=run.name,
        status="FINISHED",
        experiment="",
        start_time=0,
        end_time=None,
        artifact_uri="",
        tags=run.tags,
        params={},
        metrics={},
        inputs=run.inputs,
    )


def readme(found: Gathered, images: bool, signed: bool) -> str:
    """What lies in the export, how it is checked, and what is not in it."""
    included = "are included" if images else "are not included: manifests name each by path and sha256"
    signature = (
        "`model.sig` signs every file but `SHA256SUMS` and itself (OpenSSF model signing, the key `model.pub`; compare "
        "that with the key you know):\n\n    model_signing verify key . --signature model.sig --public_key model.pub"
        if signed
        else "The export is not signed: no key was given (`partsynth audit export --key FILE`)."
    )
    absent = [
        f"- {line}"
        for line in [
            *found.absent,
            *(
                f"data card: {name} is not stated ({QUESTIONS[name][0].lower()}{QUESTIONS[name][1:]})"
                for name in found.card.missing
            ),
        ]
    ]
    return README.format(
        run=found.run.name,
        run_id=found.run.run_id,
        commit=found.run.commit or "unknown",
        images=included,
        signature=signature,
        absent="\n".join(absent) or "- nothing",
    )


README = """\
# Evidence on run {run} ({run_id})

Written by `partsynth audit export` from git commit `{commit}` and DVC's objects. It is checked without partsynth:

    python verify.py

needs Python 3.9 or newer alone: every file against `SHA256SUMS`, and the links between the tables (each generated
image's source is a training image, each has its verdict, each row of the training table is one of those images, no part
in two splits). Take `verify.py` from a place you trust where you do not trust this folder. `SHA256SUMS` is in the form
of `sha256sum -c`; who noted its own sha256 at the export needs no signature: `python verify.py --sums SHA256`.

{signature}

| file | holds |
|---|---|
| `run.json` | the run, its commit, DVC's md5 of all its data, figures |
| `model_card.md` | what the model is, made of, worth, and not for |
| `bom.cdx.json` | CycloneDX 1.6 ML-BOM: model, data sets, base model, tokens, packages, with hashes and licences |
| `croissant-*.json` | each data set in Croissant with RAI fields |
| `data/` | manifests (one row per image), verdicts, people's decisions, training tables; the data card as it is now |
| `model/`, `models/` | the model's weights and configuration; learned tokens |
| `lineage/` | the resolved graph of stages with all hashes, params.yaml, dvc.yaml, uncommitted changes |
| `evaluation/` | predictions of each test and OOD image |
| `requirements.lock` | the run's environment |

The images {images}.

Not in it:

{absent}
"""
