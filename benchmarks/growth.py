"""What 10 times as many images cost: time and memory of each step, as files and as tar shards.

    python benchmarks/growth.py [--sizes 1000 10000 100000] [--storage files shards] [--work .work/growth] [--cpu]

Makes projects of 12 classes whose one augmentation set holds that many generated images of 32 x 32 pixels (noise over
a class's own pattern, no diffusion: what is measured is what comes after), and runs each step in a fresh process:

* write: the set's images and manifest (``records.image_set``); of shards, files first, then packed
* ingest: the stage, on as many photographs of 48 x 48 pixels (of files alone: photographs are never kept as shards)
* commit, push, checkout: DVC's, into its cache, to a folder as remote, and back after the set was deleted
* quality, select: the stages, the first with a reference encoder of four thin layers
* load: a training table's images as training holds them (uint8)
* features: those images through a narrow ResNet, as stage evaluate does
* verify, look-up: `partsynth audit verify`, and one image's chain by the end of its hash and by its path

A step that was measured is not measured again (``--work`` keeps the results; ``--fresh`` deletes them), so it goes on
after a stop. Writes reports/growth.json and docs/growth.md: seconds, the peak of resident memory, what ten times as
many images cost, and from the line through the two largest sizes what 1,000,000 would take. Goal: at most 10.5 times
the time. ``--cpu``: seconds of CPU (user and system) instead of the clock's, where the machine does other things too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import repository
from repository import ROOT

STEPS = ("write", "ingest", "commit", "push", "quality", "select", "load", "features", "verify", "lookup", "checkout")
STORAGES = ("files", "shards")
CLASSES = [f"part_{i:02}" for i in range(12)]
SIDE, TRAIN, VAL = 32, 12, 12  # pixels; real images per class and split
PHOTOGRAPH = 48  # pixels
SHARD = 16  # MB: small, so that the smaller sizes have several too
GOAL, MILLION = 10.5, 1_000_000
DVC_YAML = """stages:
  ingest:
    cmd: "true"
    outs: [data/real]
  tokens:
    cmd: "true"
    deps: [data/real]
    outs: [models/tokens]
  generate:
    foreach: [id]
    do:
      cmd: "true ${item}"
      deps: [data/real, models/tokens]
      outs: ["data/augmented/${item}"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--storage", nargs="+", choices=STORAGES, default=list(STORAGES))
    parser.add_argument("--work", type=Path, default=ROOT / ".work/growth")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--json", type=Path, default=ROOT / "reports/growth.json")
    parser.add_argument("--table", type=Path, default=ROOT / "docs/growth.md")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        run_step(given.step, given.work, given.storage[0], given.sizes[0])
        return
    if given.fresh:
        shutil.rmtree(given.work, ignore_errors=True)
    results = [
        measured(given.work, step, storage, size)
        for size in sorted(given.sizes)
        for storage in given.storage
        for step in STEPS
        if step != "ingest" or storage == "files"
    ]
    clock = "cpu_seconds" if given.cpu else "seconds"
    told = {
        "command": f"python benchmarks/growth.py --sizes {' '.join(map(str, sorted(given.sizes)))}"
        + (" --cpu" if given.cpu else ""),
        "commit": ", ".join(sorted({row["commit"] for row in results})),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}",
        "clock": clock,
        "goal": GOAL,
        "results": results,
        "growth": growth(results, clock),
    }
    given.json.write_text(json.dumps(told, indent=1) + "\n")
    given.table.write_text(table(told))
    print(table(told))


def measured(work: Path, step: str, storage: str, size: int) -> dict[str, Any]:
    """A step's seconds and peak memory in a fresh process; kept, and read where it is there."""
    kept = work / f"{storage}-{size}" / f"{step}.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    project = kept.parent / "project"
    if step == STEPS[0]:
        shutil.rmtree(project, ignore_errors=True)
    command = [sys.executable, __file__, "--step", step, "--sizes", str(size), "--storage", storage]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    prepared = subprocess.run([*command, "--work", str(project / "..")], env=environment | {"PREPARE": "1"})
    if prepared.returncode:
        sys.exit(f"{storage}, {size}: {step} cannot be prepared")
    start = time.monotonic()
    process = subprocess.Popen([*command, "--work", str(project / "..")], env=environment, stdout=subprocess.PIPE)
    _, status, used = os.wait4(process.pid, 0)  # of this process and those that it started and waited for
    if status:
        sys.exit(f"{storage}, {size}: {step} failed")
    seconds = time.monotonic() - start
    assert process.stdout is not None
    inside = json.loads(process.stdout.read().splitlines()[-1])
    found = {
        "step": step,
        "storage": storage,
        "images": size,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": round(used.ru_maxrss / 1024),
        "commit": repository.commit(repository.MARKED),
        **inside,
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found) + "\n")
    print(f"{storage} {size} {step}: {found['seconds']} s ({found['cpu_seconds']} s CPU), {found['peak_mb']} MB")
    return found


def growth(results: list[dict[str, Any]], clock: str) -> list[dict[str, Any]]:
    """Of each step and way of keeping: the ratio from each size to the next, scaled to ten times, and 1 M on paper."""
    found = []
    for storage in STORAGES:
        for step in STEPS:
            rows = [row for row in results if (row["step"], row["storage"]) == (step, storage)]  # by size
            for one, other in itertools.pairwise(rows):
                factor = other["images"] / one["images"]
                ratio = other[clock] / max(one[clock], 1e-9) * 10 / factor
                last = other is rows[-1]
                slope = (other[clock] - one[clock]) / (other["images"] - one["images"])
                found.append(
                    {
                        "step": step,
                        "storage": storage,
                        "from": one["images"],
                        "to": other["images"],
                        "time_for_10x": round(ratio, 2),
                        "memory": round(other["peak_mb"] / one["peak_mb"], 2),
                        "met": ratio <= GOAL,
                        "million_seconds": round(other[clock] + slope * (MILLION - other["images"])) if last else None,
                    }
                )
    return found


def table(told: dict[str, Any]) -> str:
    unit = "s CPU" if told["clock"] == "cpu_seconds" else "s"
    sizes = sorted({row["images"] for row in told["results"]})
    lines = [
        "# Growth: files against shards",
        "",
        f"`{told['command']}`, commit {told['commit']}, {told['machine']}. Each step in a fresh process, its imports "
        f"included: {unit} / peak MB. Images of {SIDE} x {SIDE} pixels, shards of {SHARD} MB.",
        "",
        "| step | kept as | " + " | ".join(f"{size:,}" for size in sizes) + " | 10 x images | 1,000,000, on paper |",
        "|---|---|" + "---:|" * (len(sizes) + 2),
    ]
    for step in STEPS:
        for storage in STORAGES:
            cells = {r["images"]: r for r in told["results"] if (r["step"], r["storage"]) == (step, storage)}
            if not cells:
                continue
            grown = [g for g in told["growth"] if (g["step"], g["storage"]) == (step, storage)]
            cost = f"{grown[-1]['time_for_10x']} x time, {grown[-1]['memory']} x memory" if grown else "-"
            million = f"{grown[-1]['million_seconds']:,} {unit}" if grown else "-"
            shown = [f"{cells[n][told['clock']]} / {cells[n]['peak_mb']}" if n in cells else "-" for n in sizes]
            lines.append(f"| {step} | {storage} | " + " | ".join(shown) + f" | {cost} | {million} |")
    bytes_of = {(r["storage"], r["images"]): r for r in told["results"] if r["step"] == "commit"}
    lines += ["", "| set | files that DVC keeps | MB |", "|---|---:|---:|"]
    for (storage, size), row in sorted(bytes_of.items(), key=lambda item: (item[0][1], item[0][0])):
        lines.append(f"| {size:,} as {storage} | {row['files']:,} | {row['set_mb']} |")
    return "\n".join(lines) + "\n"


def run_step(step: str, work: Path, storage: str, size: int) -> None:
    """In a process of its own: the step, or with PREPARE in the environment what must be there before its time runs."""
    root = (work / "project").resolve()
    if os.environ.get("PREPARE"):
        if step == "write":
            make_project(root)
        elif step == "ingest":
            make_photographs(root / "photographs", size)
        elif step == "commit":  # what ingest read and wrote is needed no more
            for name in ("photographs", "ingested"):
                shutil.rmtree(root / name, ignore_errors=True)
        elif step == "checkout":
            shutil.rmtree(root / "data/augmented/id")
        return
    os.chdir(root)
    told = globals()[f"_{step}"](root, storage, size) or {}
    print(json.dumps(told))


def _pixels(kind: int, seed: int) -> Any:
    import numpy as np

    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    pattern = 127 + 90 * np.sin(across * (1 + kind % 4) / 3 + down * (kind // 4) / 3)  # (S, S)
    noise = np.random.default_rng(seed).normal(0, 12, (SIDE, SIDE, 3))
    return np.clip(pattern[:, :, None] + noise, 0, 255).astype(np.uint8)


def make_project(root: Path) -> None:
    """Real images, a token per class, a reference encoder, DVC with a remote; no set yet."""
    import torch

    from partsynth.core.drift import reference
    from partsynth.records.manifest import write_manifest
    from partsynth.records.rows import RealRecord
    from partsynth.store.layout import Layout
    from partsynth.store.png import write_png
    from partsynth.store.tensors import write_safetensors

    layout = Layout(root)
    rows = []
    for kind, name in enumerate(CLASSES):
        for i in range(TRAIN + VAL):
            split = "train" if i < TRAIN else "val"
            path = f"data/real/{split}/{name}/{i:02}.png"
            sha256 = write_png(root / path, _pixels(kind, seed=kind * 1000 + i))
            about = {"path": path, "sha256": sha256, "source": path, "source_sha256": sha256}
            about |= {"class_name": name, "split": split, "group": f"{name}-{i}"}
            rows.append(RealRecord.model_validate(about))
    write_manifest(layout.real_manifest, rows, RealRecord)
    for name in CLASSES:
        learned = [[r.path, r.sha256] for r in rows if r.class_name == name and r.split == "train"]
        meta = {"class_name": name, "token": f"<{name}>", "sources": json.dumps(learned), "base_sha256": BASE}
        write_safetensors(layout.tokens / f"{name}.safetensors", {"vectors": torch.zeros(1, 8)}, meta)
    torch.manual_seed(0)
    reference.save(reference.ReferenceNet((8, 8, 16, 16), 16), root / "models/reference", SIDE)
    (root / "dvc.yaml").write_text(DVC_YAML)
    layout.params.write_text("{}\n")
    dvc = [sys.executable, "-m", "dvc"]
    remote = str(root.parent / "remote")
    shutil.rmtree(remote, ignore_errors=True)
    for command in (["init", "--no-scm", "-q"], ["remote", "add", "-d", "here", remote, "-q"]):
        subprocess.run([*dvc, *command], cwd=root, check=True)


def make_photographs(folder: Path, count: int) -> None:
    """No two alike: ``count`` of them, in a folder per class."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(5)
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        path = folder / CLASSES[i % len(CLASSES)] / f"{i:06}.png"
        coarse.resize((PHOTOGRAPH, PHOTOGRAPH), Image.Resampling.BICUBIC).save(path, compress_level=1)


BASE = "b" * 64


def _planned(root: Path, size: int) -> list[Any]:
    from partsynth.augmentation.methods.sdedit import SdeditRecord
    from partsynth.records.manifest import read_manifest
    from partsynth.records.rows import RealRecord
    from partsynth.store.hashing import fingerprint, sha256_file
    from partsynth.store.layout import Layout

    layout = Layout(root)
    sources = [row for row in read_manifest(layout.real_manifest, RealRecord) if row.split == "train"]
    tokens = {name: sha256_file(layout.tokens / f"{name}.safetensors") for name in CLASSES}
    rows = []
    for i in range(size):
        source, variant = sources[i % len(sources)], i // len(sources)
        rows.append(
            SdeditRecord(
                path=f"data/augmented/id/{source.class_name}/{Path(source.path).stem}-v{variant}.png",
                sha256="",
                class_name=source.class_name,
                set_name="id",
                source=source.path,
                source_sha256=source.sha256,
                source_group=source.group,
                variant=variant,
                prompt=f"a photo of a used <{source.class_name}>",
                state="used",
                seed=i,
                strength=0.3,
                guidance=4.0,
                steps=25,
                token_noise=0.0,
                masked=False,
                size=SIDE,
                token_sha256=tokens[source.class_name],
                base_sha256=BASE,
                fingerprint=fingerprint(["growth", i]),
            )
        )
    return rows


def _write(root: Path, storage: str, size: int) -> None:
    from partsynth.augmentation.methods.sdedit import SdeditRecord
    from partsynth.records.image_set import ImageSet
    from partsynth.store.png import write_png

    images = ImageSet(root, root / "data/augmented/id", storage, SHARD)
    rows = _planned(root, size)
    for row in rows:
        write_png(images.file(row), _pixels(CLASSES.index(row.class_name), 1_000_000 + row.seed), row.fingerprint)
    images.finish(rows, SdeditRecord)


def _ingest(root: Path, storage: str, size: int) -> None:
    from partsynth.config.data import Ingest, Ood
    from partsynth.stages import ingest

    raw, out = root / "photographs", root / "ingested"
    params = Ingest(source="folder", path=str(raw), masks="none", size=SIDE)
    places = {"raw": raw, "real": out / "real", "ood": out / "ood", "root": root}
    ingest.run(ingest.Inputs(params=params, ood_params=Ood(), **places))


def _dvc(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments, "-q"], check=True)


def _commit(root: Path, storage: str, size: int) -> dict[str, Any]:
    _dvc("commit", "-f")
    files = [path for path in (root / "data/augmented/id").rglob("*") if path.is_file()]
    return {"files": len(files), "set_mb": round(sum(path.stat().st_size for path in files) / 1e6, 1)}


def _push(root: Path, storage: str, size: int) -> None:
    _dvc("push")


def _checkout(root: Path, storage: str, size: int) -> None:
    _dvc("checkout", "data/augmented/id")


def _quality(root: Path, storage: str, size: int) -> None:
    from partsynth.config.models import Reference
    from partsynth.config.quality import Quality
    from partsynth.stages import quality
    from partsynth.store.layout import Layout

    layout = Layout(root)
    quality.run(
        quality.Inputs(
            params=Quality(on_flagged="warn"),
            reference=Reference(model="models/reference", device="cpu"),
            set_name="id",
            images=layout.augmentation_set("id"),
            real=layout.real,
            out=layout.verdicts("id"),
            page=root / "reports/quality/id",
            root=root,
        )
    )


def _select(root: Path, storage: str, size: int) -> None:
    from partsynth.config.training import SelectSetup
    from partsynth.stages import select
    from partsynth.store.layout import Layout

    layout = Layout(root)
    made = layout.augmentation_set("id") / "manifest.csv"
    for setup, onto, manifest, verdicts, params in (
        ("real", None, layout.real_manifest, None, SelectSetup(rule="all")),
        ("real_id", layout.training_table("real"), made, layout.verdicts("id"), SelectSetup(rule="all")),
    ):
        select.run(
            select.Inputs(
                params=params,
                setup=setup,
                onto=onto,
                manifest=manifest,
                verdicts=verdicts,
                real=layout.real_manifest,
                out=layout.training_table(setup),
            )
        )


def _images(root: Path) -> Any:
    from partsynth.records.manifest import read_manifest
    from partsynth.records.rows import RealRecord, SelectedRecord
    from partsynth.store.layout import Layout
    from partsynth.training.images import load_images

    layout = Layout(root)
    rows = read_manifest(layout.training_table("real_id"), SelectedRecord)
    val = [row for row in read_manifest(layout.real_manifest, RealRecord) if row.split == "val"]
    return load_images(rows, val, SIDE, root)


def _load(root: Path, storage: str, size: int) -> dict[str, Any]:
    return {"images_held": len(_images(root).images)}


def _features(root: Path, storage: str, size: int) -> None:
    from partsynth.core.contrastive.encoder import Classifier, build, embed
    from partsynth.seams import BACKBONES

    backbone = BACKBONES["narrow_resnet"]
    encoder = build(backbone, {"width": 8, "blocks": [1, 1, 1, 1]}, 16, seed=0)
    embed(Classifier(encoder, len(CLASSES), SIDE).eval(), _images(root).images)


def _verify(root: Path, storage: str, size: int) -> None:
    from partsynth.audit.verify import verify

    result = verify(root)
    if result.faults:
        sys.exit(f"audit verify found {len(result.faults)} faults: {result.faults[:3]}")


def _lookup(root: Path, storage: str, size: int) -> dict[str, Any]:
    """A chain by hash and by path; how long each took after start-up."""
    from partsynth.audit.lookup import find_image
    from partsynth.lineage.objects import Objects
    from partsynth.store.layout import Layout

    with open(Layout(root).augmentation_set("id") / "manifest.csv", "rb") as file:
        last = file.read().rstrip(b"\n").rpartition(b"\n")[2].decode().split(",")
    taken = []
    with Objects(root) as objects:
        for what in (last[1], last[0]):
            start = time.perf_counter()
            assert find_image(root, objects, [], what).row.path == last[0]
            taken.append(round(time.perf_counter() - start, 3))
    return {"by_hash": taken[0], "by_path": taken[1]}


if __name__ == "__main__":
    main()
