"""What real negatives of other variants would bring: the most that generated ones could.

Renders photographs of unseen variants of the targets' families, gives each class a number of them as negatives on top
of a finished project's training table, trains as the project does, and compares near-OOD AUROC and accuracy with that
table alone. The variants are neither targets nor near-OOD ones, and lie at least MARGIN feature steps from each
near-OOD variant. Each project is a replicate, a benchmark's or a demo's; a second start goes on.

    python benchmarks/upper_bound.py --projects .work/benchmark/benchmark/all-seed* --amounts 2 8 32

writes reports/upper-bound.json and .md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import repository

ORIGIN = "other_variants"  # of these negatives in training tables
PARTS = ("train", "val", "test", "shifted", "near_val", "near_test", "far_val", "far_test")
WORK = ".work/upper_bound"  # of a project: what is made in it
SHOWN = ("near_ood_auroc", "accuracy_test", "accuracy_shifted")


def variants_for(class_name: str) -> list[Any]:
    """The catalogue's variants that are negatives of this class, the nearest first; of those as near, by name."""
    from partsynth.rendering import catalog

    target = next(v for v in catalog.TARGETS if v.name == class_name)
    near_ood = [v for variants in catalog.NEAR_OOD.values() for v in variants]
    found = [
        v
        for v in catalog.all_variants(target.family)
        if v not in catalog.TARGETS and all(catalog.distance(v, other) >= catalog.MARGIN for other in near_ood)
    ]
    return sorted(found, key=lambda v: (catalog.distance(v, target), v.name))


def photograph(class_name: str, number: int, seed: int, params: Any, out: Path) -> tuple[str, str]:
    """Render one negative as ingest frames photographs, unless it is there; its variant and its state."""
    import numpy as np
    from PIL import Image

    from partsynth.core.images import framing
    from partsynth.rendering import catalog, scene
    from partsynth.store.hashing import seed_from
    from partsynth.store.png import write_png

    others = variants_for(class_name)
    variant = others[number % min(len(others), 8)]
    rng = np.random.default_rng(seed_from("upper bound", seed, class_name, number))
    worn = catalog.draw_wear(catalog.NARROW, rng, catalog.DEMO_MATERIAL[variant.family])
    shot = catalog.draw_shots(catalog.NARROW, rng)[catalog.CAMERAS[number % 2]]
    if not out.is_file():
        size = params.render.size
        taken = scene.photograph(
            variant.family, variant.values, int(rng.integers(2**31)), worn, shot, size, params.render.samples
        )
        box = framing.roi_box(taken[1], framing.dilation_pixels(params.ingest.dilation, (size, size)))
        framed = framing.crop_resize(Image.fromarray(taken[0]), box, params.ingest.size, Image.Resampling.LANCZOS)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_png(out, np.asarray(framed), f"upper bound {seed} {class_name} {number}")
    return variant.name, worn.state


def negatives(root: Path, params: Any, classes: Sequence[str], amount: int) -> list[Any]:
    """Rows of ``amount`` negatives per class, as a training table has them; the fewer are the first of the more."""
    from partsynth.records.rows import SelectedRecord
    from partsynth.store.hashing import sha256_file

    rows = []
    for class_name in classes:
        for number in range(amount):
            path = f"{WORK}/images/{class_name}/{number:03d}.png"
            variant, state = photograph(class_name, number, params.render.seed, params, root / path)
            rows.append(
                SelectedRecord(
                    path=path,
                    sha256=sha256_file(root / path),
                    class_name=class_name,
                    role="negative",
                    origin=ORIGIN,
                    source=path,
                    group=f"{variant}/{class_name}/{number}",
                    state=state,
                    rule="all",
                )
            )
    return rows


def train(root: Path, params: Any, rows: list[Any], name: str, seed: int, work: str = WORK) -> Path:
    """The folder below ``work`` of the model of this table, trained unless it is there."""
    from partsynth.records.manifest import read_manifest
    from partsynth.records.rows import RealRecord
    from partsynth.store.hashing import fingerprint
    from partsynth.store.layout import MANIFEST, REAL
    from partsynth.store.tensors import safetensors_metadata
    from partsynth.training import classifier
    from partsynth.training.fit import fit
    from partsynth.training.images import load_images

    out = root / work / "models" / name / str(seed)
    classes = {row.class_name for row in rows}
    mark = fingerprint([params.train.model_dump(mode="json"), seed, [[r.path, r.sha256, r.role] for r in rows]])
    if (safetensors_metadata(out / classifier.ENCODER) or {}).get("fingerprint") == mark:
        return out
    val = [r for r in read_manifest(root / REAL / MANIFEST, RealRecord) if r.split == "val" and r.class_name in classes]
    images = load_images(rows, val, params.train.size, root)
    fitted = fit(images, params.train, seed, root=root)
    config = {
        "architecture": classifier.architecture(params.train, fitted.model.encoder),
        "classes": images.classes,
        "setup": name,
        "seed": seed,
        "train": params.train.model_dump(mode="json"),
        "metrics": {k: v for k, v in fitted.metrics.items() if v == v},
    }
    classifier.save(fitted.model, config, mark, out)
    return out


def replicate(root: Path, onto: str, amounts: Sequence[int], changed: dict[str, Any], seeds: int) -> Any:
    """Predictions of the table ``onto`` alone and with each amount of negatives; every one is trained here, so that all
    differ in their negatives alone."""
    from partsynth.config.load import load_all
    from partsynth.evaluation.runs import ModelRun
    from partsynth.records.manifest import read_manifest
    from partsynth.records.rows import SelectedRecord
    from partsynth.store.layout import SELECTED

    params = load_all(root / "params.yaml")
    params = params.model_copy(update={"train": params.select[onto].training(params.train).model_copy(update=changed)})
    rows = read_manifest(root / SELECTED / f"{onto}.csv", SelectedRecord)
    classes = sorted({row.class_name for row in rows})
    tables = {onto: rows}
    for amount in amounts:
        tables[f"{onto}_{amount}"] = [*rows, *negatives(root, params, classes, amount)]
    runs = []
    for number in range(seeds):
        seed = params.matrix.seeds[0] + number
        for name, table in tables.items():
            print(f"{root.name}: {name}, seed {seed}", flush=True)
            runs.append(ModelRun(name, seed, train(root, params, table, name, seed)))
    runs.sort(key=lambda run: (list(tables).index(run.setup), run.seed))
    return predictions(root, params, runs)


def predictions(root: Path, params: Any, runs: Sequence[Any]) -> Any:
    """What the runs' models make of the project's images, as a table."""
    import io

    from partsynth.evaluation.predict import predict
    from partsynth.evaluation.predictions import read_predictions, to_csv
    from partsynth.evaluation.runs import read_parts

    parts = read_parts(root / "data/real", root / "data/ood", root / WORK / "none")
    wanted = params.evaluate.model_copy(update={"saliency": 0})
    found = predict(wanted, runs, {name: parts[name] for name in PARTS if name in parts}, root)
    return read_predictions(io.StringIO(to_csv(found.rows)))


def joined(projects: Sequence[Path], args: argparse.Namespace) -> Any:
    """All projects' predictions, those of initialisations within a project under seeds of their own."""
    import pandas as pd

    changed = {"negative_scope": args.scope, "negative_weight": args.weight, "negatives": args.negatives}
    if args.use_weight is not None:
        changed |= {"negative_use_weight": args.use_weight}
    if args.steps:
        changed |= {"steps": args.steps, "eval_every": args.steps}
    tables = []
    for place, root in enumerate(projects):
        table = replicate(root.resolve(), args.onto, args.amounts, changed, args.initialisations)
        table["seed"] += 1000 * place
        table.insert(2, "shots", 0)
        table.insert(3, "against", [args.onto if setup != args.onto else "" for setup in table.setup])
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def page(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    use = "" if found["use_weight"] is None else f", weight of their use {found['use_weight']:g}"
    lines = [
        "# Upper bound: real photographs of other variants as negatives",
        "",
        f"    {found['command']}",
        "",
        f"Commit {found['git_commit']}; {found['projects']} projects, {found['initialisations']} initialisation(s) "
        f"of each. Added to `{found['onto']}`: photographs of variants that are neither targets nor near-OOD ones, at "
        f"least {found['margin']} feature steps from each near-OOD variant, in the same light and wear; scope "
        f"{found['scope']}, lambda {found['weight']:g}{use}, {found['negatives']} a step. Points, 95 % intervals "
        "crossed over trainings and, at the same time, over the parts or unseen variants.",
        "",
        "| negatives per class | near-OOD AUROC | accuracy, test | accuracy, shifted |",
        "|---|---|---|---|",
    ]
    for amount in found["amounts"]:
        cells = [found["differences"][str(amount)][name] for name in SHOWN]
        lines.append(f"| {amount} | " + " | ".join(points(cell) for cell in cells) + " |")
    base = found["base"]
    told = ", ".join(f"{name.replace('_', ' ')} {100 * base[name]:.1f}" for name in SHOWN)
    few = "" if found["trainings"] >= 5 else f" {found['trainings']} trainings of each are too few to tell."
    return "\n".join([*lines, "", f"`{found['onto']}` alone: {told} (per cent).{few}", ""])


def points(cell: dict[str, float | None]) -> str:
    if cell["low"] is None or cell["high"] is None:
        return f"{100 * (cell['mean'] or 0):+.1f}"
    return f"{100 * (cell['mean'] or 0):+.1f} ({100 * cell['low']:+.1f} to {100 * cell['high']:+.1f})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--projects", type=Path, nargs="+", required=True, help="finished projects of rendered parts")
    parser.add_argument("--onto", default="real_id", help="the setup whose table the negatives are added to")
    parser.add_argument("--amounts", type=int, nargs="+", default=[2, 8, 32], help="negatives per class")
    parser.add_argument("--scope", default="all", choices=["all", "own"])
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--use-weight", type=float, help="train.negative_use_weight, where ONTO has such a use")
    parser.add_argument("--negatives", type=int, default=24, help="of them in each step")
    parser.add_argument("--initialisations", type=int, default=1, help="trainings of each table in each project")
    parser.add_argument("--steps", type=int, default=0, help="of training; 0 = the project's")
    parser.add_argument("--out", type=Path, default=Path("reports/upper-bound"), help="without suffix")
    args = parser.parse_args(arguments)

    from partsynth.config.load import load_all
    from partsynth.evaluation.summary import summarise_replicates
    from partsynth.rendering import catalog
    from partsynth.store.files import write_json, write_text_atomic

    table = joined(args.projects, args)
    params = load_all(args.projects[0] / "params.yaml")
    summary = summarise_replicates(table, params.evaluate)

    def told(one: Any) -> dict[str, float | None]:
        return {"mean": one.mean, "low": one.low, "high": one.high}

    found = {
        "command": shlex.join(["python", os.path.relpath(__file__), *(arguments or sys.argv[1:])]),
        "git_commit": repository.commit(repository.WHOLE),
        "projects": len(args.projects),
        "initialisations": args.initialisations,
        "trainings": len(summary.seeds[args.onto]),
        "onto": args.onto,
        "amounts": args.amounts,
        "scope": args.scope,
        "weight": args.weight,
        "use_weight": args.use_weight,
        "negatives": args.negatives,
        "margin": catalog.MARGIN,
        "variants": {v.name: [o.name for o in variants_for(v.name)[:8]] for v in catalog.TARGETS},
        "base": {name: summary.setups[args.onto][name].mean for name in SHOWN},
        "differences": {
            str(amount): {
                name: told(difference)
                for name in SHOWN
                if (difference := summary.difference(f"{args.onto}_{amount}", args.onto, name))
            }
            for amount in args.amounts
        },
    }
    write_json(args.out.with_suffix(".json"), found)
    write_text_atomic(args.out.with_suffix(".md"), page(found))
    print(page(found))


if __name__ == "__main__":
    main()
