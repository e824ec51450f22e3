from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import tiny_sd
from safetensors.torch import load_file

from partsynth.augmentation.again import encodings, regenerate
from partsynth.augmentation.concepts import textual_inversion
from partsynth.augmentation.methods.sdedit import SdeditSet
from partsynth.config.generation import Generate, Lora, Tokens
from partsynth.config.models import Diffusion
from partsynth.errors import UserError
from partsynth.records.augmented import read_augmented
from partsynth.store.hashing import sha256_file
from partsynth.store.tensors import safetensors_metadata, write_safetensors

SETTINGS = Tokens(steps=6, batch_size=2, vectors=2, warmup=1, learning_rate=0.02)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_sd.build(tmp_path_factory.mktemp("base"))


@pytest.fixture
def project(tmp_path) -> Path:
    tiny_sd.write_real(tmp_path)
    return tmp_path


def learn(root: Path, base: Path, settings: Tokens = SETTINGS) -> dict[str, str]:
    out = tiny_sd.learn_tokens(root, settings, str(base))
    return {p.name: sha256_file(p) for p in sorted(out.iterdir())}


def test_one_file_a_class_with_its_provenance(project, base) -> None:
    files = learn(project, base)
    assert list(files) == ["gear_t12.safetensors", "gear_t24.safetensors", "manifest.json"]
    path = project / "models/tokens/gear_t12.safetensors"
    found = load_file(path)
    assert list(found) == ["vectors"] and found["vectors"].shape == (2, 32)
    metadata = safetensors_metadata(path)
    assert metadata["class_name"] == "gear_t12" and metadata["token"] == "<gear_t12>"
    sources = json.loads(metadata["sources"])
    assert [s[0] for s in sources] == [f"data/real/train/gear_t12/gear_t12_{i}.png" for i in range(3)]
    assert all(sha256_file(project / p) == sha for p, sha in sources)
    assert float(metadata["final_loss"]) > 0 and len(json.loads(metadata["loss_curve"])) == 6
    manifest = json.loads((project / "models/tokens/manifest.json").read_text())
    assert manifest["base_sha256"] == metadata["base_sha256"]
    assert manifest["tokens"]["gear_t12"]["sha256"] == files["gear_t12.safetensors"]
    assert manifest["tokens"]["gear_t12"]["path"] == "models/tokens/gear_t12.safetensors"
    assert not list((project / ".work").rglob("*.safetensors"))


def test_what_is_current_is_kept_without_loading_the_model(project, base, monkeypatch) -> None:
    files = learn(project, base)
    (project / "models/tokens/stranger.safetensors").write_bytes(b"x")
    monkeypatch.setattr("partsynth.core.diffusion.loading.load", lambda *a: pytest.fail("loaded the model"))
    assert learn(project, base) == files


def test_one_more_class_trains_one_token_and_leaves_the_others_bytes(project, base, monkeypatch) -> None:
    files = learn(project, base)
    tiny_sd.write_real(project, ("gear_t12", "gear_t24", "flange_h4"))
    trained = []
    prepare = textual_inversion.prepare
    monkeypatch.setattr(textual_inversion, "prepare", lambda *a: trained.extend(a[3]) or prepare(*a))
    more = learn(project, base)
    assert trained == ["flange_h4"]
    assert all(more[name] == sha for name, sha in files.items() if name != "manifest.json")
    tiny_sd.write_real(project, ("gear_t24",))
    assert list(learn(project, base)) == ["gear_t24.safetensors", "manifest.json"]


@pytest.mark.parametrize("change", ["steps", "picture", "base", "torn", "tensors"])
def test_what_changed_is_learned_again(project, base, change, tmp_path_factory) -> None:
    files = learn(project, base)
    settings = SETTINGS
    if change == "steps":
        settings = SETTINGS.model_copy(update={"steps": 5})
    elif change == "picture":
        tiny_sd.write_real(project, pictures=2)
    elif change == "base":
        base = tiny_sd.build(tmp_path_factory.mktemp("other"), seed=1)
    elif change == "torn":
        torn = project / "models/tokens/gear_t12.safetensors"
        torn.write_bytes(torn.read_bytes()[:-10])
    else:  # behind the fingerprint
        file = project / "models/tokens/gear_t12.safetensors"
        write_safetensors(file, {"vectors": 2 * load_file(file)["vectors"]}, safetensors_metadata(file))
    again = learn(project, base, settings)
    same = change in ("torn", "tensors")  # learned from the same things
    assert (again["gear_t12.safetensors"] == files["gear_t12.safetensors"]) == same


def test_classes_start_from_their_own_words_and_another_class_s_word_is_none_of_their_business(project, base) -> None:
    files = learn(project, base)
    worded = learn(project, base, SETTINGS.model_copy(update={"init_words": {"gear_t2?": "gear", "gear_*": "part"}}))
    assert worded["gear_t12.safetensors"] == files["gear_t12.safetensors"]  # "part" is the default
    assert worded["gear_t24.safetensors"] != files["gear_t24.safetensors"]
    metadata = safetensors_metadata(project / "models/tokens/gear_t24.safetensors")
    assert metadata["init_word"] == "gear"


def test_a_model_card_beside_the_weights_changes_nothing(project, tmp_path, monkeypatch) -> None:
    base = tiny_sd.build(tmp_path / "models/base")
    files = learn(project, Path("models/base"))
    (base / "README.md").write_text("a model card")
    (base / "reference_encoder").mkdir()
    (base / "reference_encoder/config.json").write_text("{}")
    monkeypatch.setattr("partsynth.core.diffusion.loading.load", lambda *a: pytest.fail("loaded the model"))
    assert learn(project, Path("models/base")) == files


def test_sd15s_layout_takes_the_same_way(project, tmp_path) -> None:
    base = tiny_sd.build(tmp_path / "sd15", sd15=True)
    learn(project, base, SETTINGS.model_copy(update={"vectors": 16, "steps": 2}))
    assert load_file(project / "models/tokens/gear_t24.safetensors")["vectors"].shape == (16, 32)


@pytest.mark.parametrize("method", ["textual_inversion", "lora"])
def test_sdxl_takes_the_same_way_up_to_images_made_again(project, method) -> None:
    tiny_sd.build_xl(project / "models/base")
    learn(project, Path("models/base"), SETTINGS.model_copy(update={"method": method, "lora": Lora(steps=2, rank=2)}))
    tensors = load_file(project / "models/tokens/gear_t24.safetensors")
    if method == "textual_inversion":
        assert {name: tuple(value.shape) for name, value in tensors.items()} == {"clip_l": (2, 32), "clip_g": (2, 24)}
    out = tiny_sd.make_set(project, "id", Generate(steps=2, batch_size=4), SdeditSet(strength=0.5, variants=1))
    row = read_augmented(out / "manifest.csv")[-1]
    image = regenerate(row, Diffusion(device="cpu"), project / "data/real", project / "models/tokens", project)
    assert (project / row.path).read_bytes() in encodings(image, row)


def test_faults_name_what_to_mend(project, base, tmp_path) -> None:
    with pytest.raises(UserError, match=r"diffusion.model: .*nowhere does not exist"):
        learn(project, tmp_path / "nowhere")
    with pytest.raises(UserError, match="models/base does not exist"):
        (project / "models").mkdir(exist_ok=True)
        learn(project, Path("models/base"))
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match=r"model\.safetensors is a single file.* as diffusion\.config"):
        learn(project, tmp_path / "model.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no model_index.json"):
        learn(project, tmp_path / "empty")
    with pytest.raises(UserError, match=r"32 tokens|takes 32"):
        learn(project, base, SETTINGS.model_copy(update={"vectors": 32}))
    with pytest.raises(UserError, match="does not know the word"):
        learn(project, base, SETTINGS.model_copy(update={"init_word": " "}))
    with pytest.raises(UserError, match=r"tokens.init_words: 'pump_\*' matches no class; there are gear_t12, gear_t24"):
        learn(project, base, SETTINGS.model_copy(update={"init_words": {"pump_*": "pump"}}))
    picture = project / "data/real/train/gear_t12/gear_t12_0.png"
    picture.write_bytes(picture.read_bytes() + b"x")
    with pytest.raises(UserError, match="differs from its manifest"):
        learn(project, base)
    assert not (project / "models/tokens/manifest.json").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(project, base, tmp_path_factory) -> None:
    settings = SETTINGS.model_copy(update={"steps": 40})
    other = tmp_path_factory.mktemp("whole")
    tiny_sd.write_real(other)
    whole = learn(other, base, settings)
    code = (
        "from pathlib import Path; from helpers import tiny_sd\n"
        "from partsynth.augmentation import learning; from partsynth.config.generation import Tokens\n"
        "learning.CHECKPOINT_SECONDS = 0\n"
        f"settings = Tokens.model_validate_json({settings.model_dump_json()!r})\n"
        f"tiny_sd.learn_tokens(Path.cwd(), settings, {str(base)!r})"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(tiny_sd.__file__).parents[1])}
    command = {"args": [sys.executable, "-c", code], "cwd": project, "env": environment}
    process = subprocess.Popen(**command)
    deadline = time.monotonic() + 120
    while not list((project / ".work/tokens").glob("*.safetensors")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (project / "models/tokens/manifest.json").exists()
    done = int(load_file(next((project / ".work/tokens").glob("*.safetensors")))["done"])
    assert 0 < done < 40
    output = subprocess.run(**command, capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    assert "going on from step" in output.stdout
    names = [p.name for p in sorted((project / "models/tokens").iterdir())]
    assert {n: sha256_file(project / "models/tokens" / n) for n in names} == whole
