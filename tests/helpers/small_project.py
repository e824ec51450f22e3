"""A small project with the real pipeline's names, for tests of lineage: git + DVC, every stage a real command.

Pictures are drawn from seeds instead of by diffusion, so that a whole `dvc repro` takes seconds.
Run as ``python small_project.py STAGE [ARGUMENTS]`` it is the stage; imported, it makes projects and runs commands.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

DVC = [sys.executable, "-m", "dvc"]
CLASSES = ("gear_a", "gear_b")
PARAMS = {
    "diffusion": {"model": "models/base"},
    "ingest": {"seed": 0, "train": 4},
    "tokens": {"steps": 1},
    "sets": {"id": {"strength": 0.2}, "near_ood": {"strength": 0.5}},
    "select": {"real_id": {"role": "positive"}, "real_id_negatives": {"role": "negative"}},
    "matrix": {"setups": ["real", "real_id", "real_id_negatives"], "seeds": [0]},
    "train": {"temperature": 0.1, "learning_rate": 0.002},
}


def pipeline() -> dict:
    me = f"{sys.executable} pipeline.py"
    deps = ["pipeline.py"]
    setups = {
        "real": {"onto": "data/real", "manifest": "data/real/manifest.csv", "verdicts": "data/real/train"},
        "real_id": {
            "onto": "data/selected/real.csv",
            "manifest": "data/augmented/id/manifest.csv",
            "verdicts": "data/quality/id.csv",
        },
        "real_id_negatives": {
            "onto": "data/selected/real_id.csv",
            "manifest": "data/augmented/near_ood/manifest.csv",
            "verdicts": "data/quality/near_ood.csv",
        },
    }
    return {
        "stages": {
            "ingest": {
                "cmd": f"{me} ingest",  # without dependencies, as render has none in a project made by init
                "params": ["ingest"],
                "outs": [{"data/real": {"persist": True}}, {"data/ood": {"persist": True}}],
            },
            "tokens": {
                "cmd": f"{me} tokens",
                "deps": [*deps, "data/real/manifest.csv", "data/real/train", "models/base"],
                "params": ["tokens"],
                "outs": [{"models/tokens": {"persist": True}}],
            },
            "calibrate": {
                "foreach": "${sets}",
                "do": {
                    "cmd": f"{me} calibrate ${{key}}",
                    "deps": [*deps, "data/real", "models/base", "models/tokens"],
                    "params": ["sets.${key}"],
                    "outs": ["data/strengths/${key}.json"],
                },
            },
            "generate": {
                "foreach": "${sets}",
                "do": {
                    "cmd": f"{me} generate ${{key}}",
                    "deps": [
                        *deps,
                        "data/real/manifest.csv",
                        "data/real/train",
                        "data/strengths/${key}.json",
                        "models/base",
                        "models/tokens",
                    ],
                    "params": ["sets.${key}"],
                    "outs": [{"data/augmented/${key}": {"persist": True}}],
                },
            },
            "quality": {
                "foreach": "${sets}",
                "do": {
                    "cmd": f"{me} quality ${{key}}",
                    "deps": [*deps, "data/augmented/${key}"],
                    "outs": ["data/quality/${key}.csv"],
                },
            },
            "select": {
                "foreach": setups,
                "do": {
                    "cmd": f"{me} select ${{key}} ${{item.onto}} ${{item.manifest}}",
                    "deps": [*deps, "${item.onto}", "${item.manifest}", "${item.verdicts}"],
                    "outs": ["data/selected/${key}.csv"],
                },
            },
            "train": {
                "matrix": {"setup": "${matrix.setups}", "seed": "${matrix.seeds}"},
                "cmd": f"{me} train ${{item.setup}} ${{item.seed}}",
                "deps": ["data/real/manifest.csv", "data/real/val", "data/selected/${item.setup}.csv", *deps],
                "params": ["train"],
                "outs": ["models/supcon/${item.setup}/${item.seed}"],
            },
        }
    }


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_", "PARTSYNTH_", "GIT_"))}
    return kept | {
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@example.com",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@example.com",
        "DVC_NO_ANALYTICS": "1",
    }


def command(root: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(arguments, cwd=root, env=environment(), check=False, capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(arguments)} -> {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def dvc(root: Path, *arguments: str) -> str:
    """A command of DVC, its stages in this process too, but for experiments: they look for theirs."""
    if arguments[0] == "exp":
        return command(root, *DVC, *arguments).stdout
    from helpers import in_process

    done = in_process.dvc(root, *arguments)
    assert not done.code, f"dvc {' '.join(arguments)} -> {done}"
    return done.stdout


def set_params(root: Path, section: str, **values: object) -> None:
    loaded = yaml.safe_load((root / "params.yaml").read_text())
    target = loaded
    for key in section.split("."):
        target = target[key]
    target.update(values)
    (root / "params.yaml").write_text(yaml.safe_dump(loaded, sort_keys=False))


def make(root: Path, tiny_base: bool = False) -> Path:
    """A committed git + DVC project in ``root``, nothing run yet; its DVC site cache is its own.

    With ``tiny_base`` tokens and pictures come from the package's stages and a Stable Diffusion of random weights.
    """
    root.mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    (root / "dvc.yaml").write_text(yaml.safe_dump(pipeline(), sort_keys=False))
    (root / "pipeline.py").write_text(Path(__file__).read_text())
    (root / "requirements.lock").write_text("nothing==1\n")
    if tiny_base:
        from helpers import tiny_sd

        tiny_sd.build(root / "models/base")
    else:
        (root / "models/base/unet").mkdir(parents=True)
        (root / "models/base/model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
        (root / "models/base/unet/config.json").write_text("{}")
    ignored = "/data/\n/models/tokens\n/models/supcon\n/mlflow.db*\n/mlartifacts/\n__pycache__/\n.work/\n/reports/\n"
    (root / ".gitignore").write_text(ignored)
    command(root, "git", "init", "-q", "-b", "main")
    dvc(root, "init", "-q")
    dvc(root, "config", "core.analytics", "false")
    _own_site_cache(root)
    command(root, "git", "add", "-A")
    command(root, "git", "commit", "-qm", "start")
    return root


def finished(base: Path) -> Path:
    """One project a test session (all its processes), run to the end; tests that change anything take a ``copy``."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "finished-project"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            dvc(make(folder / "project"), "repro")
            (folder / "done").touch()
    return folder / "project"


def copy(root: Path, to: Path) -> Path:
    """An independent copy with its own cache; earlier runs' artifacts stay where the first project has them."""
    shutil.copytree(root, to, symlinks=True)
    _own_site_cache(to)
    return to


def _own_site_cache(root: Path) -> None:
    dvc(root, "config", "--local", "core.site_cache_dir", str(root.parent / f"{root.name}-site-cache"))


# --- the stages -----------------------------------------------------------------------------------------------------


def _picture(*identity: object, mark: str | None = None, path: Path) -> str:
    import numpy as np

    from partsynth.store.hashing import seed_from
    from partsynth.store.png import write_png

    generator = np.random.default_rng(seed_from(*identity))
    return write_png(path, generator.integers(0, 256, (16, 16, 3), dtype=np.uint8), mark)


def _base() -> str:
    from partsynth.store.base_model import locate_base

    return locate_base("models/base", None, Path())[1]


def ingest(params: dict) -> None:
    from partsynth.records.manifest import write_manifest
    from partsynth.records.rows import RealRecord
    from partsynth.store.hashing import sha256_bytes

    rows, ood = [], []
    for split, count in (("train", params["ingest"]["train"]), ("val", 2), ("test", 2), ("shifted", 2)):
        for name in CLASSES:
            for i in range(count):
                path = f"data/real/{split}/{name}/{i:02d}.png"
                source = f"{name}/{split}/{i:02d}_rgb.png"
                if sha256_bytes(source.encode()) in params["ingest"].get("taken_down", {}):
                    continue
                sha = _picture("real", params["ingest"]["seed"], split, name, i, path=Path(path))
                rows.append(
                    RealRecord(
                        path=path,
                        sha256=sha,
                        class_name=name,
                        split=split,
                        group=f"{name}-{split}-{i}",
                        source=source,
                        source_sha256=sha256_bytes(source.encode()),
                    )
                )
    for split in ("val", "test"):
        for i in range(2):
            path = f"data/ood/near/{split}/gear_{split}/{i:02d}.png"
            sha = _picture("ood", split, i, path=Path(path))
            ood.append(
                RealRecord(
                    path=path,
                    sha256=sha,
                    class_name=f"gear_{split}",
                    split=split,
                    role="near_ood",
                    group=f"ood-{split}-{i}",
                    source=f"ood/{split}/{i}.png",
                    source_sha256=sha256_bytes(f"{split}{i}".encode()),
                )
            )
    write_manifest(Path("data/real/manifest.csv"), rows, RealRecord)
    write_manifest(Path("data/ood/manifest.csv"), ood, RealRecord)


def _has_tiny_base() -> bool:
    return any(Path("models/base/unet").glob("*.safetensors"))


def tokens(params: dict) -> None:
    if _has_tiny_base():
        from partsynth.config.generation import Tokens
        from partsynth.config.models import Diffusion
        from partsynth.stages import tokens as step

        learning = Tokens(steps=1, batch_size=1, vectors=1, warmup=0)
        real, out = Path("data/real"), Path("models/tokens")
        step.run(step.Inputs(params=learning, diffusion=Diffusion(device="cpu"), real=real, out=out, root=Path()))
        return
    import numpy as np
    from safetensors.numpy import save_file

    from partsynth.records.manifest import read_manifest
    from partsynth.records.rows import RealRecord
    from partsynth.store.files import write_json
    from partsynth.store.hashing import fingerprint

    rows = [r for r in read_manifest(Path("data/real/manifest.csv"), RealRecord) if r.split == "train"]
    Path("models/tokens").mkdir(parents=True, exist_ok=True)
    made = {}
    for name in CLASSES:
        sources = [[r.path, r.sha256] for r in rows if r.class_name == name]
        mark = fingerprint([params["tokens"], sources])
        meta = {"class_name": name, "token": f"<{name}>", "fingerprint": mark, "base_sha256": _base()}
        meta["sources"] = json.dumps(sources)
        save_file({"vectors": np.zeros((1, 4), np.float32)}, f"models/tokens/{name}.safetensors", metadata=meta)
        made[name] = mark
    write_json(Path("models/tokens/manifest.json"), made)


def calibrate(params: dict, name: str) -> None:
    from partsynth.records.strengths import ClassStrength, Strengths
    from partsynth.store.files import write_json

    given = {kind: ClassStrength(strength=params["sets"][name]["strength"]) for kind in CLASSES}
    write_json(Path(f"data/strengths/{name}.json"), Strengths(set_name=name, classes=given))


def generate(params: dict, name: str) -> None:
    from partsynth.augmentation.methods.sdedit import SdeditRecord
    from partsynth.records.manifest import read_manifest, write_manifest
    from partsynth.records.rows import RealRecord
    from partsynth.store.hashing import fingerprint, sha256_file

    strength = params["sets"][name]["strength"]
    if _has_tiny_base():
        from partsynth.augmentation.methods.sdedit import SdeditSet
        from partsynth.config.generation import Generate
        from partsynth.config.models import Diffusion
        from partsynth.stages import generate as step

        step.run(
            step.Inputs(
                params=Generate(steps=4, batch_size=4),
                diffusion=Diffusion(device="cpu"),
                augmentation=SdeditSet(strength=strength),
                set_name=name,
                real=Path("data/real"),
                tokens=Path("models/tokens"),
                strengths=Path(f"data/strengths/{name}.json"),
                out=Path(f"data/augmented/{name}"),
                root=Path(),
            )
        )
        return
    rows = []
    for parent in read_manifest(Path("data/real/manifest.csv"), RealRecord):
        if parent.split != "train":
            continue
        token = sha256_file(Path(f"models/tokens/{parent.class_name}.safetensors"))
        for variant in range(2):
            path = f"data/augmented/{name}/{parent.class_name}/{Path(parent.path).stem}-{variant}.png"
            mark = fingerprint([parent.sha256, name, variant, strength, token])
            sha = _picture(mark, mark=mark, path=Path(path))
            rows.append(
                SdeditRecord(
                    path=path,
                    sha256=sha,
                    class_name=parent.class_name,
                    set_name=name,
                    source=parent.path,
                    source_sha256=parent.sha256,
                    source_group=parent.group,
                    variant=variant,
                    prompt=f"a photo of a used <{parent.class_name}>",
                    state="used",
                    seed=variant,
                    strength=strength,
                    guidance=4.0,
                    steps=25,
                    token_noise=0.0,
                    masked=False,
                    size=16,
                    token_sha256=token,
                    base_sha256=_base(),
                    fingerprint=mark,
                )
            )
    write_manifest(Path(f"data/augmented/{name}/manifest.csv"), rows, SdeditRecord)


def quality(params: dict, name: str) -> None:
    from partsynth.augmentation.methods.sdedit import SdeditRecord
    from partsynth.records.manifest import read_manifest, write_manifest
    from partsynth.records.rows import VerdictRecord

    rows = [
        VerdictRecord(
            path=r.path,
            sha256=r.sha256,
            class_name=r.class_name,
            set_name=name,
            source=r.source,
            drift=1.0,
            percentile=0.5,
            calibration_n=4,
            nearest_class=r.class_name,
            class_margin=1.0,
            sharpness=1.0,
            brightness=0.5,
            contrast=0.2,
            copy_similarity=0.1,
            verdict="accept",
            reasons="",
        )
        for r in read_manifest(Path(f"data/augmented/{name}/manifest.csv"), SdeditRecord)
    ]
    write_manifest(Path(f"data/quality/{name}.csv"), rows, VerdictRecord)


def select(params: dict, setup: str, onto: str, manifest: str) -> None:
    from partsynth.augmentation.methods.sdedit import SdeditRecord
    from partsynth.records.manifest import read_manifest, write_manifest
    from partsynth.records.rows import RealRecord, SelectedRecord

    if onto == "data/real":
        real = [r for r in read_manifest(Path(manifest), RealRecord) if r.split == "train"]
        rows = [
            SelectedRecord(
                path=r.path,
                sha256=r.sha256,
                class_name=r.class_name,
                role="positive",
                origin="real",
                source=r.path,
                group=r.group,
            )
            for r in real
        ]
    else:
        rows = read_manifest(Path(onto), SelectedRecord)
        rows += [
            SelectedRecord(
                path=r.path,
                sha256=r.sha256,
                class_name=r.class_name,
                role=params["select"][setup]["role"],
                origin=r.set_name,
                source=r.source,
                group=r.source_group,
                percentile=0.5,
            )
            for r in read_manifest(Path(manifest), SdeditRecord)
        ]
    write_manifest(Path(f"data/selected/{setup}.csv"), rows, SelectedRecord)


def train(params: dict, setup: str, seed: str) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    from partsynth.store.files import write_json
    from partsynth.store.hashing import fingerprint, sha256_file
    from partsynth.tracking.inputs import DataInput
    from partsynth.tracking.run import RunSpec, training_run

    out = Path(f"models/supcon/{setup}/{seed}")
    out.mkdir(parents=True, exist_ok=True)
    mark = fingerprint([params["train"], setup, seed, sha256_file(Path(f"data/selected/{setup}.csv"))])
    spec = RunSpec(
        stage="train",
        setup=setup,
        seed=int(seed),
        fingerprint=mark,
        params={"train": params["train"]},
        inputs=[DataInput("real", "data/real")],
    )
    with training_run(Path(), spec) as run:
        save_file(
            {"w": np.full(2, float(seed), np.float32)}, out / "encoder.safetensors", metadata={"fingerprint": mark}
        )
        run.log_metrics({"accuracy_val": 0.5}, step=1)
        run.log_model(out)
        metrics = {"val_accuracy": 0.5 + 0.1 * ("id" in setup) + 0.01 * int(seed)}
        write_json(out / "config.json", {"setup": setup, "seed": int(seed), "metrics": metrics})
        write_json(out / "run.json", run.identity)


# --- studies --------------------------------------------------------------------------------------------------------


def study_params(rule: str = "accepted", steps: int = 6, **settings: object):
    """Parameters of a study whose trials take a second or two; ``settings`` are those of section study."""
    from partsynth.config.params import Params
    from partsynth.config.study import Study
    from partsynth.config.training import SelectSetup, Train

    select = {
        "real": SelectSetup(rule="all"),
        "real_id": SelectSetup(),
        "real_id_negatives": SelectSetup(role="negative", rule=rule, band=(0.1, 0.9)),
    }
    small = Train(
        size=16,
        width=8,
        blocks=[1],
        embedding=8,
        anchors=8,
        negatives=4,
        steps=steps,
        eval_every=max(2, steps // 4),
        classifier_steps=10,
    )
    wanted = {"trials": 4, "storage": ".work/study.journal", "min_ood_auroc": 0.0, "heartbeat": 1}
    wanted |= {"retrain": 0} | settings
    return Params(select=select, train=small, study=Study(**wanted))


def study(params: dict, options: str, workers: str) -> None:
    """``partsynth study`` in a process of its own."""
    from partsynth.study.workers import run_study

    run_study(study_params(**json.loads(options)), Path(), int(workers))


if __name__ == "__main__":
    _, stage, *rest = sys.argv
    globals()[stage](yaml.safe_load(Path("params.yaml").read_text()), *rest)
