"""Edits that are none of their class: under other words, with a sibling's vectors, and matched with an edit that is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import tiny_sd
from PIL import Image
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from partsynth.augmentation.again import encodings, regenerate
from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import BASE, SOURCE, TOKEN
from partsynth.augmentation.methods.sdedit import MEMBER, SdeditRecord, SdeditSet
from partsynth.config.generation import Generate, Lora, Tokens
from partsynth.config.models import Diffusion
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.store.hashing import sha256_bytes
from partsynth.store.reading import read_tensors
from partsynth.store.tensors import safetensors_metadata, write_safetensors

SETTINGS = Generate(steps=4, batch_size=3, max_sources=1)
WORDS = {"gear_t12": ["gear with 24 teeth", "flange"], "gear_*": ["bracket"]}
TONE = {"restore": 1.0, "restore_sigma": 2.0, "guidance": 2.0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return tiny_sd.make_learned(tmp_path_factory.mktemp("project"))


@pytest.fixture
def project(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "project"))


def make(root: Path, name: str = "near", **given) -> list[SdeditRecord]:
    augmentation = SdeditSet(**{"strength": 0.9, "states": ["rusty", "used"]} | given)
    out = tiny_sd.make_set(root, name, SETTINGS, augmentation)
    return read_manifest(out / "manifest.csv", SdeditRecord)


def pixels(root: Path, rows: list[SdeditRecord]) -> np.ndarray:
    """Of the rows' files (N, H, W, 3), 0 to 255."""
    return np.stack([np.asarray(Image.open(root / row.path).convert("RGB"), float) for row in rows])


def materials(root: Path) -> Materials:
    real = read_manifest(root / "data/real/manifest.csv", RealRecord)
    return Materials(real=real, tokens=root / "models/tokens", diffusion=Diffusion(device="cpu"), root=root)


def painted(root: Path, rows: list[SdeditRecord]) -> np.ndarray:
    made = {row.path: np.asarray(image, float) for row, image in MEMBER.paint(rows, materials(root))}
    return np.stack([made[row.path] for row in rows])


def low(images: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(images, (0, sigma, sigma, 0), mode="reflect")


def assert_made_again(root: Path, rows: list[SdeditRecord]) -> None:
    for row in (rows[0], rows[-1]):
        again = regenerate(row, Diffusion(device="cpu"), root / "data/real", root / "models/tokens", root)
        assert sha256_bytes(encodings(again, row)[0]) == row.sha256


def test_phrases_stand_in_turn_in_the_tokens_place_and_no_token_is_needed(project) -> None:
    shutil.rmtree(project / "models/tokens")
    rows = make(project, concept="words", words=WORDS, variants=4)
    by_class = {name: {(r.state, r.prompt) for r in rows if r.class_name == name} for name in ("gear_t12", "gear_t24")}
    assert by_class["gear_t12"] == {
        (state, f"a photo of a {state} {phrase}")
        for state in ("rusty", "used")
        for phrase in ("gear with 24 teeth", "flange")
    }
    assert by_class["gear_t24"] == {(state, f"a photo of a {state} bracket") for state in ("rusty", "used")}
    assert {(r.concept, r.token_sha256, r.sibling) for r in rows} == {("words", "", "")}
    assert {parent.kind for row in rows for parent in MEMBER.parents(row)} == {SOURCE, BASE}
    assert_made_again(project, rows)


def test_a_siblings_vectors_are_mixed_in_by_their_share(project) -> None:
    rows = make(project, concept="siblings", mix=0.3)
    assert {(r.class_name, r.sibling, r.mix) for r in rows} == {
        ("gear_t12", "gear_t24", 0.3),
        ("gear_t24", "gear_t12", 0.3),
    }
    held = {parent.path: parent for parent in MEMBER.parents(rows[0]) if parent.kind == TOKEN}
    other = held[f"models/tokens/{rows[0].sibling}.safetensors"]
    assert (other.sha256, other.class_name) == (rows[0].sibling_sha256, rows[0].sibling)
    assert held[f"models/tokens/{rows[0].class_name}.safetensors"].class_name == ""
    assert_made_again(project, rows)
    # of the sibling alone: as under the sibling's own token; nearly nothing of it: as under the own one
    whole = [row.model_copy(update={"mix": 1.0}) for row in rows]
    plain = {"concept": "token", "sibling": "", "sibling_sha256": "", "mix": 0.0}
    theirs = [
        row.model_copy(
            update=plain | {"class_name": row.sibling, "prompt": row.prompt.replace(row.class_name, row.sibling)}
        )
        for row in rows
    ]
    own = [row.model_copy(update=plain) for row in rows]
    assert np.array_equal(painted(project, whole), painted(project, theirs))
    assert not np.array_equal(painted(project, whole), painted(project, rows))
    little = [row.model_copy(update={"mix": 1e-7}) for row in rows]
    assert np.abs(painted(project, little) - painted(project, own)).max() <= 1


def test_token_noise_displaces_what_is_mixed(project) -> None:
    rows = make(project, concept="siblings", token_noise=0.3)
    assert_made_again(project, rows)
    assert not np.array_equal(pixels(project, rows), pixels(project, make(project, concept="siblings")))


def assert_matched(found: np.ndarray, form: np.ndarray, light: np.ndarray) -> None:
    """In luma; files are rounded, and some of their pixels clipped, which edits are not when they are taken apart."""
    found, form, light = (images @ np.array([[0.299], [0.587], [0.114]]) for images in (found, form, light))
    wanted = form - low(form, 6) + low(light, 6)
    assert np.abs(found - wanted).mean() < 0.6
    assert min(np.abs(whole - wanted).mean() for whole in (form, light)) > 1.5


def test_matched_edits_have_the_form_of_one_and_the_light_of_the_own_tokens(project) -> None:
    concept, plain = {"concept": "words", "words": WORDS}, {"guidance": 8.0}
    rows = make(project, **concept, **plain, match_sigma=6.0)
    assert {row.match_prompt for row in rows} == {
        f"a photo of a {state} <{name}>" for state in ("rusty", "used") for name in ("gear_t12", "gear_t24")
    }
    assert all(row.token_sha256 for row in rows)
    found = pixels(project, rows)
    light = pixels(project, make(project, **plain))  # the same seeds: the set has the same name
    form = pixels(project, make(project, **concept, **plain))
    assert_matched(found, form, light)


def test_wear_may_come_from_the_own_tokens_edit_alone(project) -> None:
    given = {"concept": "words", "words": WORDS, "match_sigma": 6.0, "states": ["dirty"], "variants": 1}
    known = {row.path: row.state for row in read_manifest(project / "data/real/manifest.csv", RealRecord)}
    rows = make(project, **given, match_state="source")
    assert all(row.prompt.startswith(f"a photo of a {known[row.source]} ") for row in rows)
    assert all(row.state == "dirty" and " dirty <" in row.match_prompt for row in rows)
    assert all(" dirty " in row.prompt for row in make(project, **given))
    mixed = make(project, concept="siblings", match_sigma=6.0, match_state="source", states=["dirty"])
    assert all(row.prompt == f"a photo of a {known[row.source]} <{row.class_name}>" for row in mixed)


def test_matched_edits_are_the_same_bytes_alone_and_in_any_batch(project) -> None:
    rows = make(project, concept="words", words=WORDS, **TONE, match_sigma=6.0, variants=2)
    assert len(rows) == 4  # of batches of three
    assert_made_again(project, rows)
    assert np.array_equal(painted(project, rows[::-1]), pixels(project, rows[::-1]))


def test_words_leave_adapters_aside_and_what_they_are_matched_with_uses_them(project) -> None:
    given = {"concept": "words", "words": WORDS}
    before = [row.sha256 for row in make(project, **given)]
    tiny_sd.learn_tokens(project, Tokens(method="lora", lora=Lora(rank=2, steps=2, batch_size=1, learning_rate=0.5)))
    assert [row.sha256 for row in make(project, **given)] == before
    rows = make(project, **given, match_sigma=6.0)
    assert {row.match_prompt for row in rows} == {"a photo of a rusty part", "a photo of a used part"}
    found, light = pixels(project, rows), pixels(project, make(project))
    form = pixels(project, make(project, **given))
    assert_matched(found, form, light)
    with pytest.raises(UserError, match=r"concept: siblings mixes learned vectors, and tokens.method lora learns none"):
        make(project, concept="siblings")


def test_tokens_of_other_lengths_are_not_mixed(project) -> None:
    path = project / "models/tokens/gear_t24.safetensors"
    told = safetensors_metadata(path)
    write_safetensors(path, {"vectors": read_tensors(path)["vectors"][:1].contiguous()}, told)
    with pytest.raises(UserError, match=r"sets.near.siblings: the tokens of \w+ and \w+ have \d and \d vectors"):
        make(project, concept="siblings")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"concept": "words"}, "concept words needs words"),
        ({"words": WORDS}, "words are for concept words, while concept is token"),
        ({"concept": "words", "words": {"gear_*": []}}, "'gear_*' has no phrase"),
        ({"concept": "words", "words": {"gear_*": ["x", " "]}}, "' ' is no phrase"),
        ({"concept": "words", "words": {"gear_*": ["a <gear_t12>"]}}, "'a <gear_t12>' is no phrase"),
        ({"concept": "words", "words": WORDS, "token_noise": 0.1}, "concept words uses none"),
        ({"mix": 0.2}, "siblings and mix are for concept siblings, while concept is token"),
        ({"concept": "words", "words": WORDS, "siblings": {}}, "siblings and mix are for concept siblings"),
        ({"match_sigma": 6.0}, "match_sigma is for the concepts words and siblings"),
        ({"concept": "siblings", "match_state": "source"}, "match_state is for edits with a match_sigma"),
        ({"concept": "siblings", "mix": 0}, "greater than 0"),
        ({"concept": "siblings", "match_sigma": 0}, "greater than 0"),
    ],
)
def test_keys_that_cannot_be_are_told(given, told) -> None:
    with pytest.raises(ValidationError, match=re.escape(told)):
        SdeditSet(strength=0.5, **given)


def test_a_prompt_that_the_model_does_not_take_names_the_words(project) -> None:
    with pytest.raises(UserError, match=r"sets.near.words: .* tokens long"):
        make(project, concept="words", words={"*": ["gear " * 40]})


def test_what_is_left_at_its_default_is_told_nowhere(project) -> None:
    younger = {"concept", "words", "siblings", "mix", "match_sigma", "match_state"}
    assert not younger & SdeditSet(strength=0.5).model_dump().keys()
    make(project)
    head = (project / "data/augmented/near/manifest.csv").read_text().splitlines()[0].split(",")
    assert not {"concept", "sibling", "sibling_sha256", "mix", "match_sigma", "match_prompt"} & set(head)
    told = yaml.safe_load("{strength: 0.5, concept: siblings, siblings: {gear_*: gear}, mix: 0.4, match_sigma: 6.0}")
    assert SdeditSet(**told).model_dump(exclude_defaults=True) == told
