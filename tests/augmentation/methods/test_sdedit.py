"""What is SDEdit's own and needs no model; its images are tested with stage generate."""

from __future__ import annotations

from pathlib import Path

from helpers.rows import augmented

from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import BASE, SOURCE, TOKEN, Parent
from partsynth.augmentation.methods.sdedit import MEMBER, SdeditRecord
from partsynth.config.models import Diffusion
from partsynth.records.rows import RealRecord

REAL = RealRecord(
    path="data/real/train/a/1.png", sha256="1", class_name="a", split="train", group="g", source="x", source_sha256="0"
)


def row(**changes: object) -> SdeditRecord:
    told = {"prompt": "a photo of a rusty <a>", "seed": 7, "restore": 1.0, "token_sha256": "t", "base_sha256": "b"}
    told |= {"strength": 0.2, "guidance": 4.0, "steps": 25, "token_noise": 0.0, "masked": False, "size": 48}
    return augmented(REAL, "1-v0", **(told | changes))


def test_a_fingerprint_is_the_one_of_before_there_were_methods(tmp_path: Path) -> None:
    """Images carry it: another one would have every set of every project made anew."""
    materials = Materials(real=[REAL], tokens=tmp_path, diffusion=Diffusion(), root=tmp_path)
    before = "f0ef482e53a9e29beaf7f034c73757e4c8010f64ed6c478235ec76d6c07fbb92"
    assert MEMBER.fingerprint(row(), materials) == MEMBER.fingerprint(row(set_name="other"), materials) == before
    assert MEMBER.fingerprint(row(strength=0.3), materials) != before


def test_parents_are_source_token_and_base() -> None:
    token = Parent(TOKEN, "models/tokens/a.safetensors", "t")
    assert MEMBER.parents(row()) == [Parent(SOURCE, REAL.path, "1"), token, Parent(BASE, "", "b")]


def test_a_set_in_a_few_words() -> None:
    assert row().caption == "a photo of a rusty <a>"
    assert MEMBER.summary([row(strength=s) for s in (0.5, 0.2, 0.5)]) == "strength 0.2, 0.5"
    assert MEMBER.summary([row(strength=s / 10) for s in range(1, 8)]) == "strength 0.1 to 0.7"
    assert MEMBER.summary([]) == "empty"
    other = row(concept="words", match_sigma=6.0)
    assert MEMBER.summary([other]) == "strength 0.2, in other words, matched"
    assert "No image shows a part that was not photographed" in MEMBER.limitation([row()])
    assert "parts that do not exist" in MEMBER.limitation([other])
