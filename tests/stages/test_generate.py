from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_sd
from PIL import Image
from scipy.ndimage import gaussian_filter

from partsynth.augmentation import materials
from partsynth.augmentation.again import encodings, regenerate
from partsynth.augmentation.methods.sdedit import SdeditRecord, SdeditSet
from partsynth.config.generation import Generate, Tokens
from partsynth.config.models import Diffusion
from partsynth.core.diffusion.images import to_images, to_tensor
from partsynth.core.diffusion.loading import load
from partsynth.core.diffusion.model import StableDiffusion
from partsynth.errors import UserError
from partsynth.records.images import read_image
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.parquet import parquet_faults
from partsynth.records.rows import RealRecord
from partsynth.records.strengths import ClassStrength, Strengths
from partsynth.stages import generate
from partsynth.store import shards, workers
from partsynth.store.files import write_json
from partsynth.store.hashing import sha256_bytes, sha256_file
from partsynth.store.png import TERMS, XMP_KEY, png_fingerprint, write_png

SETTINGS = Generate(steps=6, batch_size=4)
COMPILED = Diffusion(compile=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A project with a base, a real set and learned tokens."""
    return tiny_sd.make_learned(tmp_path_factory.mktemp("project"))


@pytest.fixture
def project(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "project"))


def give(root: Path, name: str, strengths: dict) -> Path:
    """The file that calibrate writes."""
    path = root / f"data/strengths/{name}.json"
    write_json(path, Strengths(set_name=name, classes={c: ClassStrength(strength=s) for c, s in strengths.items()}))
    return path


def make(
    root: Path, name: str = "id", settings: Generate = SETTINGS, diffusion: Diffusion | None = None, **augmentation
) -> dict[str, SdeditRecord]:
    out = tiny_sd.make_set(root, name, settings, SdeditSet(**{"strength": 0.5} | augmentation), diffusion)
    return {Path(row.path).name: row for row in read_manifest(out / "manifest.csv", SdeditRecord)}


def shas(rows: dict[str, SdeditRecord]) -> dict[str, str]:
    return {name: row.sha256 for name, row in rows.items()}


def test_a_row_says_everything_about_its_picture(project) -> None:
    rows = make(project)
    assert len(rows) == 2 * 3 * 2
    real = {r.path: r for r in read_manifest(project / "data/real/manifest.csv", RealRecord)}
    for name, row in rows.items():
        source = real[row.source]
        assert row.path == f"data/augmented/id/{row.class_name}/{name}" and name.startswith(Path(row.source).stem)
        assert source.split == "train" and source.class_name == row.class_name and source.group == row.source_group
        assert sha256_file(project / row.path) == row.sha256 and row.source_sha256 == source.sha256
        assert png_fingerprint(project / row.path) == row.fingerprint
        assert row.prompt == f"a photo of a {row.state} <{row.class_name}>"
        assert row.token_sha256 == sha256_file(project / f"models/tokens/{row.class_name}.safetensors")
        assert Image.open(project / row.path).size == (64, 64)
    assert len({r.seed for r in rows.values()}) == len({r.sha256 for r in rows.values()}) == len(rows)
    assert len({r.base_sha256 for r in rows.values()}) == 1


def test_states_differ_between_a_sources_variants_and_between_sources(project) -> None:
    rows = make(project, variants=5, strength=0).values()
    orders = {}
    for row in sorted(rows, key=lambda r: (r.source, r.variant)):
        orders.setdefault(row.source, []).append(row.state)
    assert all(sorted(o) == sorted(SdeditSet(strength=0).states) for o in orders.values())
    assert len({tuple(o) for o in orders.values()}) > 3


class Share(workers.Workers):
    """One of three processes, to which nothing is there yet."""

    def __init__(self, rank: int) -> None:
        super().__init__(rank, 3)

    def gather(self, value: bytes) -> list[bytes]:
        return [bytes(18)]


def test_a_batch_holds_the_same_images_at_the_same_places_however_many_make_them(project, monkeypatch) -> None:
    """On a GPU that decides on the last bit: bytes stay the same after a kill and among processes."""
    batches: list[tuple[int, ...]] = []
    edit = StableDiffusion.sdedit

    def spied(self, latents, contexts, seeds, *rest):
        batches.append(tuple(seeds))
        return edit(self, latents, contexts, seeds, *rest)

    monkeypatch.setattr(StableDiffusion, "sdedit", spied)
    wanted = {"strength": [0.9, 0.2], "variants": 3}  # 12 and 6 images: the last batch is not full
    rows = make(project, **wanted)
    whole, batches[:] = set(batches), []
    assert len(rows) == 18 and len(whole) == 5

    lost = [rows[name] for name in sorted(rows)[:2]]
    for row in lost:
        (project / row.path).unlink()
    assert shas(make(project, **wanted)) == shas(rows)
    assert set(batches) == {batch for batch in whole if {row.seed for row in lost} & {*batch}} and len(batches) < 5

    batches[:] = []
    for rank in (1, 2, 0):  # the first process, which wants all, comes last
        share = Share(rank)
        monkeypatch.setattr(workers, "here", lambda share=share: share)
        with contextlib.suppress(UserError) if rank else contextlib.nullcontext():
            make(project, **wanted)
    assert len(batches) == 5 and set(batches) == whole


def test_a_list_of_strengths_is_taken_in_turn(project) -> None:
    rows = make(project, strength=[0.9, 0.2], variants=3).values()
    assert {(r.variant, r.strength) for r in rows} == {(0, 0.9), (1, 0.2), (2, 0.9)}


def test_each_class_has_the_strength_that_calibrate_found(project) -> None:
    give(project, "auto", {"gear_t12": 0.3, "gear_t24": 0.6})
    rows = list(make(project, "auto", strength="auto").values())
    assert {(r.class_name, r.strength) for r in rows} == {("gear_t12", 0.3), ("gear_t24", 0.6)}
    where = (project / "data/real", project / "models/tokens", project)
    again = regenerate(rows[0], Diffusion(device="cpu"), *where)
    assert sha256_bytes(encodings(again, rows[0])[0]) == rows[0].sha256
    give(project, "auto", {"gear_t12": 0.3})
    with pytest.raises(UserError, match="no strength for gear_t24: dvc repro calibrate@auto"):
        make(project, "auto", strength="auto")
    (project / "data/strengths/auto.json").unlink()
    with pytest.raises(UserError, match=r"auto.json is missing"):
        make(project, "auto", strength="auto")
    assert {r.strength for r in make(project, "auto", strength=0.5).values()} == {0.5}  # params.yaml says it all


@pytest.mark.parametrize(
    "augmentation",
    [
        {},
        {"token_noise": 0.3, "strength": [0.2, 1.0]},
        {"masked": True},
        {"restore": 0.7},
        {"restore": 1, "restore_sigma": 3},
        {"edit": "context", "feather": 2},
    ],
)
def test_a_picture_is_made_again_from_its_row_alone(project, augmentation) -> None:
    rows = make(project, **augmentation)
    base = Diffusion(device="cpu")
    for name in random.Random(0).sample(sorted(rows), 3):
        picture = regenerate(rows[name], base, project / "data/real", project / "models/tokens", project)
        assert sha256_bytes(encodings(picture, rows[name])[0]) == rows[name].sha256


def test_what_is_missing_is_remade_with_the_same_bytes_whatever_came_before(project, monkeypatch) -> None:
    rows = make(project)
    folder = project / "data/augmented/id"
    gone = random.Random(1).sample(sorted(rows), 5)
    (folder / rows[gone[0]].class_name / gone[0]).write_bytes(b"\x89PNG torn")
    Image.new("RGB", (64, 64)).save(project / rows[gone[1]].path)  # readable, but not ours
    for name in gone[2:]:
        (project / rows[name].path).unlink()
    (folder / "gear_t12/stranger.png").write_bytes(b"x")
    kept = {name: (project / row.path).stat() for name, row in rows.items() if name not in gone}
    written = []
    monkeypatch.setattr(generate, "write_png", lambda path, *rest: written.append(path.name) or write_png(path, *rest))
    again = make(project)
    assert sorted(written) == sorted(gone)
    assert {name: (project / rows[name].path).stat().st_mtime_ns for name in kept} == {
        name: was.st_mtime_ns for name, was in kept.items()
    }
    assert again == rows and not (folder / "gear_t12/stranger.png").exists()


@pytest.mark.parametrize("augmentation", [{}, {"strength": 0}, {"masked": True}])
def test_every_picture_says_that_a_model_edited_it(project, augmentation) -> None:
    rows = make(project, **augmentation)
    for row in rows.values():
        xmp = Image.open(project / row.path).info[XMP_KEY]
        assert f'"{TERMS}compositeWithTrainedAlgorithmicMedia"' in xmp


def test_pictures_from_before_the_mark_are_made_again_with_the_same_pixels(project) -> None:
    """Also their fingerprints stay, so that an audit makes those of earlier runs again."""
    rows = make(project)
    pixels = {name: Image.open(project / row.path).tobytes() for name, row in rows.items()}
    older = {
        name: write_png(project / row.path, Image.open(project / row.path), row.fingerprint)
        for name, row in rows.items()
    }
    name, row = next(iter(rows.items()))
    again = regenerate(row, Diffusion(device="cpu"), project / "data/real", project / "models/tokens", project)
    assert sha256_bytes(encodings(again, row)[1]) == older[name] != row.sha256
    assert make(project) == rows
    assert {name: Image.open(project / row.path).tobytes() for name, row in rows.items()} == pixels


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_unet_makes_the_same_images_but_for_their_last_bits(project) -> None:
    plain = make(project)
    before = {name: np.asarray(read_image(project, row), float) for name, row in plain.items()}
    compiled = make(project, diffusion=COMPILED)
    for name, row in compiled.items():
        assert row.compiled and row.fingerprint != plain[name].fingerprint
        assert np.abs(np.asarray(read_image(project, row), float) - before[name]).max() <= 2
    assert shas(make(project, diffusion=COMPILED)) == shas(compiled)


def test_a_unet_that_cannot_be_compiled_is_a_fault_of_the_parameter(project, monkeypatch) -> None:
    def broken(*_: object) -> None:
        from torch._inductor.exc import InvalidCxxCompiler

        raise InvalidCxxCompiler

    monkeypatch.setattr(StableDiffusion, "sdedit", broken)
    with pytest.raises(UserError, match=r"diffusion\.compile: no U-Net can be compiled here .*: set it to false"):
        make(project, diffusion=COMPILED)


def test_nothing_to_do_loads_no_model(project, monkeypatch) -> None:
    rows = make(project)
    monkeypatch.setattr(materials, "load_model", lambda *a: pytest.fail("loaded the model"))
    assert make(project) == rows


def test_a_change_remakes_what_it_touches(project) -> None:
    rows = make(project)
    assert not set(shas(make(project, strength=0.6)).values()) & set(shas(rows).values())
    assert shas(make(project, guidance=1.0)) != shas(rows)
    assert shas(make(project, token_noise=0.1)) != shas(rows)
    assert shas(make(project, name="other")) != shas(rows)  # a set of its own draws its own noise
    more = make(project, variants=3)
    assert shas(more).items() > shas(make(project)).items() == shas(rows).items()
    learning = Tokens(steps=3, batch_size=2, vectors=2, warmup=1)
    tiny_sd.learn_tokens(project, learning)
    assert not set(shas(make(project)).values()) & set(shas(rows).values())


def test_strength_zero_is_the_vae_round_trip(project) -> None:
    model = load(project / "models/base")
    for row in make(project, strength=0, variants=1).values():
        source = Image.open(project / row.source)
        trip = to_images(model.decode(model.encode(to_tensor([source], 64))))[0]
        assert trip.tobytes() == Image.open(project / row.path).tobytes()


def test_masked_edits_keep_every_pixel_outside_the_part(project) -> None:
    real = {r.path: r for r in read_manifest(project / "data/real/manifest.csv", RealRecord)}
    for row in make(project, masked=True, strength=0.8).values():
        picture, source = (np.asarray(Image.open(project / p).convert("RGB")) for p in (row.path, row.source))
        outside = np.asarray(Image.open(project / real[row.source].mask)) <= 127
        assert np.array_equal(picture[outside], source[outside])
        assert np.abs(picture[~outside].astype(int) - source[~outside]).mean() > 5


@pytest.mark.parametrize("edit", ["part", "context"])
@pytest.mark.parametrize("feather", [0.0, 3.0])
def test_edits_of_the_context_keep_the_part_and_the_reverse(project, edit, feather) -> None:
    real = {r.path: r for r in read_manifest(project / "data/real/manifest.csv", RealRecord)}
    rows = make(project, edit=edit, feather=feather, strength=0.8, restore=1, restore_sigma=2).values()
    for row in rows:
        picture, source = (np.asarray(Image.open(project / p).convert("RGB"), int) for p in (row.path, row.source))
        part = np.asarray(Image.open(project / real[row.source].mask)) > 127
        edited = part if edit == "part" else ~part
        assert np.array_equal(picture[~edited], source[~edited])
        changed = np.abs(picture - source).mean(2)
        assert changed[edited].mean() > 3
        deep = gaussian_filter(edited.astype(float), 3) > 0.95
        rim = edited & (gaussian_filter(edited.astype(float), 3) < 0.6)
        if feather:
            assert changed[rim].mean() < 0.3 * changed[deep].mean()


def test_masked_is_the_older_word_for_edit_part(project) -> None:
    def pixels(**given) -> dict[str, bytes]:
        rows = make(project, strength=0.8, variants=1, **given)
        return {name: Image.open(project / row.path).tobytes() for name, row in rows.items()}

    assert pixels(masked=True) == pixels(edit="part")
    assert "feather" not in (project / "data/augmented/id/manifest.csv").read_text().splitlines()[0]


def test_restoring_puts_back_what_the_vae_loses(project) -> None:
    def apart(restore: float) -> float:
        rows = make(project, strength=0.0, restore=restore).values()
        pairs = [[np.asarray(Image.open(project / p).convert("RGB"), float) for p in (r.path, r.source)] for r in rows]
        return float(np.mean([np.abs(made - source).mean() for made, source in pairs]))

    without, half = apart(0.0), apart(0.5)
    assert without > 5  # the tiny VAE is random
    assert 0.4 * without < half < 0.6 * without + 3  # less exact where a channel is clipped
    assert apart(1.0) <= 0.5  # rounding alone


def test_pictures_have_their_sources_size_whatever_size_the_model_works_at(project) -> None:
    shutil.rmtree(project / "data/real")
    tiny_sd.write_real(project, size=48)
    for row in make(project, masked=True).values():
        assert Image.open(project / row.path).size == (48, 48) and row.size == 64


def test_with_a_cut_off_photographs_of_any_size_keep_their_own_detail(project) -> None:
    """The model works at 64 px; a photograph of 160 px is edited at 160 px."""
    shutil.rmtree(project / "data/real")
    tiny_sd.write_real(project, size=160)

    def made(**cut_off) -> list[tuple[np.ndarray, np.ndarray]]:
        rows = make(project, strength=0.5, variants=1, **cut_off).values()
        return [
            tuple(np.asarray(Image.open(project / p).convert("RGB"), float) for p in (r.path, r.source)) for r in rows
        ]

    def alike(pairs) -> float:
        """Mean correlation of what is finer than two pixels."""
        fine = [[(x - np.roll(x, 1, 0)).ravel() for x in pair] for pair in pairs]
        return float(np.mean([np.corrcoef(*pair)[0, 1] for pair in fine]))

    kept, lost = made(restore=1, restore_sigma=8), made(restore=1)
    assert all(edit.shape == source.shape == (160, 160, 3) for edit, source in kept)
    assert alike(kept) > 0.8 > 0.3 > alike(lost)
    assert all(np.abs(edit - source).mean() > 3 for edit, source in kept)


def test_a_cut_off_is_told_where_it_was_given_alone(project) -> None:
    plain = make(project, restore=1)
    header = (project / "data/augmented/id/manifest.csv").read_text().splitlines()[0]
    assert "restore_sigma" not in header and {r.restore_sigma for r in plain.values()} == {None}
    cut = make(project, restore=1, restore_sigma=2)
    assert {r.restore_sigma for r in cut.values()} == {2.0}
    before = {name: Image.open(project / row.path).tobytes() for name, row in make(project, restore=1).items()}
    zero = make(project, restore=1, restore_sigma=0)  # at the model's own size: as without one
    assert {name: Image.open(project / row.path).tobytes() for name, row in zero.items()} == before
    assert not set(shas(zero).values()) & set(shas(plain).values())  # other rows, other fingerprints


def test_few_sources_are_drawn_a_class_and_no_variant_is_an_empty_set(project) -> None:
    few = make(project, settings=SETTINGS.model_copy(update={"max_sources": 1}))
    assert sorted(r.class_name for r in few.values()) == ["gear_t12", "gear_t12", "gear_t24", "gear_t24"]
    assert make(project, variants=0) == {}
    assert (project / "data/augmented/id/manifest.csv").is_file()


def test_missing_and_foreign_tokens_are_named_all_at_once(project) -> None:
    folder = project / "models/tokens"
    (folder / "gear_t12.safetensors").rename(folder / "gear_t24.safetensors")
    with pytest.raises(UserError) as error:
        make(project)
    assert "class gear_t12 has no learned token" in str(error.value)
    assert "gear_t24.safetensors holds the token of class 'gear_t12'" in str(error.value)
    assert not (project / "data/augmented/id/manifest.csv").exists()


def test_a_token_of_another_base_is_refused(project) -> None:
    shutil.rmtree(project / "models/base")
    tiny_sd.build(project / "models/base", seed=5)
    with pytest.raises(UserError, match="was learned with base"):
        make(project)


def test_only_training_pictures_with_their_own_bytes_are_edited(project) -> None:
    rows = make(project)
    row = next(iter(rows.values()))
    real = read_manifest(project / "data/real/manifest.csv", RealRecord)
    moved = [r.model_copy(update={"split": "test"}) if r.path == row.source else r for r in real]
    write_manifest(project / "data/real/manifest.csv", moved, RealRecord)
    where = (Diffusion(device="cpu"), project / "data/real", project / "models/tokens", project)
    with pytest.raises(UserError, match="only training images are edited"):
        regenerate(row, *where)
    with pytest.raises(UserError, match="token 000, here is"):
        regenerate(row.model_copy(update={"token_sha256": "000"}), *where)
    with pytest.raises(UserError, match="another fingerprint"):
        regenerate(row.model_copy(update={"prompt": "a photo of a clean <gear_t12>"}), *where)
    other = next(r for r in rows.values() if r.source != row.source)
    (project / other.source).write_bytes(b"x")
    with pytest.raises(UserError, match="differs from its manifest"):
        regenerate(other, *where)


def test_masked_sets_need_masks_and_the_prompt_must_fit(project) -> None:
    (project / "data/real/masks/train/gear_t12/gear_t12_1.png").unlink()
    with pytest.raises(UserError, match=r"no mask:\n  data/real/train/gear_t12/gear_t12_1.png"):
        make(project, masked=True)
    with pytest.raises(UserError, match=r"sets.id.edit: context edits by masks, but these have no mask:"):
        make(project, edit="context")
    with pytest.raises(UserError, match=r"generate.template: .* takes 32"):
        make(project, settings=SETTINGS.model_copy(update={"template": "part " * 40 + "{token}"}))


@pytest.mark.slow
def test_a_killed_run_goes_on_and_gives_the_same_set(project, tmp_path) -> None:
    whole = make(Path(shutil.copytree(project, tmp_path / "whole")), variants=8)
    code = (
        "from pathlib import Path; from helpers import tiny_sd\n"
        "from partsynth.augmentation.methods.sdedit import SdeditSet\n"
        "from partsynth.config.generation import Generate\n"
        "given = SdeditSet(strength=0.5, variants=8)\n"
        "tiny_sd.make_set(Path.cwd(), 'id', Generate(steps=6, batch_size=4), given)"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(tiny_sd.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=project, env=environment)
    folder, deadline = project / "data/augmented/id", time.monotonic() + 120
    while len(list(folder.rglob("*.png"))) < 5 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "manifest.csv").exists()
    kept = {p: p.stat().st_mtime_ns for p in folder.rglob("*-v*.png") if not p.name.startswith(".")}
    assert 5 <= len(kept) < len(whole)
    assert shas(make(project, variants=8)) == shas(whole)
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items())
    assert len([p for p in folder.rglob("*") if p.is_file()]) == len(whole) + 1


def test_a_set_in_shards_has_the_same_images_and_goes_from_files_to_shards_and_back(project, monkeypatch) -> None:
    in_shards = Generate(steps=6, batch_size=4, storage="shards")
    whole = make(project)
    plain = {p.name: p.read_bytes() for p in (project / "data/augmented/id").rglob("*.png")}
    monkeypatch.setattr(materials, "load_model", lambda *a, **k: pytest.fail("an image was made again"))
    packed = make(project, settings=in_shards)
    out = project / "data/augmented/id"
    assert sorted(p.name for p in out.iterdir()) == ["manifest.csv", "manifest.parquet", "shard-00000.tar"]
    assert not (project / ".work/packing/id").exists()
    assert shas(packed) == shas(whole)
    for name, row in packed.items():
        assert row.path == f"data/augmented/id/shard-00000.tar/{row.class_name}/{name}"
        assert shards.as_file(row.path) == whole[name].path and row.fingerprint == whole[name].fingerprint
        assert shards.read(project, row.path) == plain[name]
        assert read_image(project, row).size == (64, 64)
        told = json.loads(shards.read(project, row.path.replace(".png", ".json")))
        assert SdeditRecord.model_validate(told | {"path": row.path}) == row
    first = {p.name: p.read_bytes() for p in out.iterdir()}
    rows = read_manifest(out / "manifest.csv", SdeditRecord)
    assert parquet_faults(out / "manifest.parquet", rows) == []
    assert parquet_faults(out / "manifest.parquet", [rows[0].model_copy(update={"seed": 1}), *rows[1:]])

    make(project, settings=in_shards)  # again, with nothing to do
    assert {p.name: p.read_bytes() for p in out.iterdir()} == first
    assert make(project) == whole
    assert {p.name: p.read_bytes() for p in out.rglob("*.png")} == plain
    assert not list(out.glob("*.tar")) and not (out / "manifest.parquet").exists()
