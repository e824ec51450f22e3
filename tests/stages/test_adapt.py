from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import tiny_sd
from safetensors.torch import load_file

from partsynth.audit.runs import all_runs
from partsynth.augmentation.again import encodings, regenerate
from partsynth.augmentation.methods.sdedit import SdeditSet
from partsynth.config.generation import Generate, Tokens
from partsynth.config.models import Adapt, Diffusion
from partsynth.errors import UserError
from partsynth.records.augmented import read_augmented
from partsynth.stages import adapt, generate, tokens
from partsynth.store.hashing import sha256_file
from partsynth.store.tensors import safetensors_metadata
from partsynth.tracking.query import find_runs
from partsynth.tracking.run import RunSpec

SETTINGS = {"vae_steps": 6, "unet_steps": 6, "every": 3, "batch_size": 2, "rank": 2}
FILES = ["adaptation.safetensors", "manifest.json", "reconstruction.png"]


@pytest.fixture(autouse=True)
def logged(monkeypatch) -> list[dict[str, float]]:
    """What goes to MLflow; a store of its own takes longer than all else here."""
    figures: list[dict[str, float]] = []

    @contextlib.contextmanager
    def run(root: Path, spec: RunSpec) -> Iterator[Any]:
        yield SimpleNamespace(
            log_metrics=lambda values, step=None: figures.append(values), log_artifact=lambda *_: None
        )

    monkeypatch.setattr(adapt, "training_run", run)
    return figures


@pytest.fixture
def project(tmp_path) -> Path:
    tiny_sd.build(tmp_path / "models/base")
    tiny_sd.write_real(tmp_path)
    return tmp_path


def diffusion(**changes: Any) -> Diffusion:
    return Diffusion(device="cpu", adapt=Adapt(**SETTINGS | changes))


def run(root: Path, settings: Diffusion) -> dict[str, str]:
    out = root / "models/adapted"
    adapt.run(adapt.Inputs(diffusion=settings, real=root / "data/real", out=out, root=root))
    return {p.name: sha256_file(p) for p in sorted(out.iterdir())}


def test_off_leaves_the_model_as_it_is(project) -> None:
    run(project, diffusion())
    assert list(run(project, Diffusion(device="cpu"))) == ["manifest.json"]
    assert json.loads((project / "models/adapted/manifest.json").read_text()) == {"adapted": False}
    assert Diffusion().model_dump() == {k: v for k, v in Diffusion().model_dump().items() if k != "adapt"}


@pytest.mark.slow
def test_its_figures_are_in_mlflow_where_no_audit_takes_it_for_a_training(project, monkeypatch) -> None:
    monkeypatch.undo()
    run(project, diffusion())
    (found,) = find_runs(project, experiment="partsynth-adapt")
    figures = json.loads((project / "models/adapted/manifest.json").read_text())["figures"]
    assert found.metrics["val_psnr_before"] == figures["psnr"]["before"]
    assert found.metrics["val_psnr_after"] == figures["psnr"]["after"]
    assert all_runs(project) == []


def test_validation_images_come_back_better_and_the_product_says_by_how_much(project, logged) -> None:
    assert list(run(project, diffusion(vae_steps=30, every=10))) == FILES
    figures = json.loads((project / "models/adapted/manifest.json").read_text())["figures"]
    assert figures["psnr"]["after"] > figures["psnr"]["before"] + 0.5
    assert figures["denoising_error"]["after"] <= figures["denoising_error"]["before"]
    assert logged[-1]["val_psnr_after"] == figures["psnr"]["after"]
    metadata = safetensors_metadata(project / "models/adapted/adaptation.safetensors")
    assert json.loads(metadata["figures"]) == figures
    shown = json.loads(metadata["shown"])
    assert len(shown) == 6 and all(path.startswith("data/real/val/") for path, _ in shown)
    learned = json.loads(metadata["sources"])
    assert learned and all(path.startswith("data/real/train/") for path, _ in learned)
    assert all(sha256_file(project / path) == sha256 for path, sha256 in learned)
    assert not list((project / ".work").rglob("*.safetensors"))


def test_what_is_current_is_kept_and_a_change_is_learned(project, monkeypatch) -> None:
    files = run(project, diffusion())
    assert run(project, diffusion(seed=1)) != files
    assert run(project, diffusion()) == files
    monkeypatch.setattr("partsynth.core.diffusion.loading.load", lambda *a: pytest.fail("loaded the model"))
    assert run(project, diffusion()) == files


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(project, tmp_path) -> None:
    settings = {"vae_steps": 14, "unet_steps": 2, "every": 2, "batch_size": 2, "rank": 2}
    wanted = run(project, diffusion(**settings))
    (project / "models/adapted/adaptation.safetensors").unlink()
    code = (
        "import sys; from pathlib import Path; from partsynth.stages import adapt;"
        "from partsynth.config.models import Adapt, Diffusion; root = Path(sys.argv[1]);"
        f"adapt.run(adapt.Inputs(diffusion=Diffusion(device='cpu', adapt=Adapt(**{settings})), real=root / 'data/real',"
        "out=root / 'models/adapted', root=root))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(project)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "vae, step 4 of" in line:
            break
    deadline = time.monotonic() + 30
    while not list((project / ".work/adapt").glob("*-vae.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list((project / ".work/adapt").glob("*-vae.safetensors"))
    assert not (project / "models/adapted/adaptation.safetensors").exists()
    assert run(project, diffusion(**settings)) == wanted


def test_tokens_and_edits_are_made_with_the_tuned_model_and_name_it(project) -> None:
    settings = diffusion(vae_learning_rate=3e-3)

    def edits(used: Diffusion) -> tuple[Path, list]:
        learning = Tokens(steps=2, batch_size=2, vectors=2, warmup=1)
        tokens.run(
            tokens.Inputs(
                params=learning, diffusion=used, real=project / "data/real", out=project / "models/tokens", root=project
            )
        )
        out = project / "data/augmented/id"
        generate.run(
            generate.Inputs(
                params=Generate(steps=2, batch_size=4),
                diffusion=used,
                augmentation=SdeditSet(strength=0.2, variants=1, restore=0.0),
                set_name="id",
                real=project / "data/real",
                tokens=project / "models/tokens",
                strengths=project / "none.json",
                out=out,
                root=project,
            )
        )
        return out, read_augmented(out / "manifest.csv")

    plain = edits(Diffusion(device="cpu"))[1]
    with pytest.raises(UserError, match=r"diffusion\.adapt: .*adaptation\.safetensors is missing"):
        edits(settings)
    run(project, settings)
    rows = edits(settings)[1]
    tuned = sha256_file(project / "models/adapted/adaptation.safetensors")
    assert {row.base_sha256 for row in rows} == {f"{plain[0].base_sha256}+{tuned}"}
    assert {row.sha256 for row in rows}.isdisjoint(row.sha256 for row in plain)
    # whatever params.yaml says by then
    image = regenerate(rows[0], Diffusion(device="cpu"), project / "data/real", project / "models/tokens", project)
    assert (project / rows[0].path).read_bytes() in encodings(image, rows[0])
    run(project, diffusion(seed=3))
    with pytest.raises(UserError, match="was learned with base"):
        regenerate(rows[0], settings, project / "data/real", project / "models/tokens", project)


def test_only_one_part_is_tuned_where_the_other_has_no_steps(project) -> None:
    run(project, diffusion(unet_steps=0))
    names = load_file(project / "models/adapted/adaptation.safetensors")
    assert names and all(name.startswith("vae.") for name in names)
    run(project, diffusion(vae_steps=0))
    names = load_file(project / "models/adapted/adaptation.safetensors")
    assert names and all(name.startswith("unet.") and ".lora_" in name for name in names)


def test_faults_name_what_to_mend(project) -> None:
    with pytest.raises(UserError, match=r"diffusion\.adapt\.template: .* tokens long"):
        run(project, diffusion(template="a photo of " + "a very " * 40 + "{class}"))
    picture = project / "data/real/val/gear_t12/gear_t12_0.png"
    picture.write_bytes(picture.read_bytes() + b"x")
    with pytest.raises(UserError, match="differs from its manifest"):
        run(project, diffusion())
    manifest = project / "data/real/manifest.csv"
    manifest.write_text("".join(line for line in manifest.read_text().splitlines(True) if "/val/" not in line))
    with pytest.raises(UserError, match=r"diffusion\.adapt: .* has no images of split val"):
        run(project, diffusion())
    assert not (project / "models/adapted/manifest.json").exists()
