"""Which images are asked about, and what is told of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from partsynth.core.contrastive import encoder as encoders
from partsynth.core.contrastive.encoder import Classifier
from partsynth.errors import UserError
from partsynth.evaluation.looks import Look, heat_of, saliency_csv
from partsynth.evaluation.runs import ModelRun
from partsynth.evaluation.saliency import drawn_images, looks
from partsynth.records.rows import RealRecord
from partsynth.seams import BACKBONES


def rows(count: int, mask: str = "") -> list[RealRecord]:
    return [
        RealRecord(
            path=f"data/real/test/{name}/{i}.png",
            sha256=f"{name}{i}",
            class_name=name,
            split="test",
            group=f"{name}{i}",
            mask=mask,
            source="x",
            source_sha256="0",
        )
        for name in ("a", "b")
        for i in range(count)
    ]


@settings(max_examples=50, deadline=None)
@given(right=st.lists(st.booleans(), min_size=12, max_size=12), count=st.integers(1, 7))
def test_every_model_is_asked_about_the_same_images_and_each_class_shows_a_mistake(
    right: list[bool], count: int
) -> None:
    real = rows(6)
    chosen = drawn_images(real, right, count)
    counted = [i for i, drawn in chosen if drawn]
    assert counted == [i for i, drawn in drawn_images(real, [True] * 12, count) if drawn]
    assert len({i for i, _ in chosen}) == len(chosen) and len(counted) == 2 * min(count, 6)
    for name in ("a", "b"):
        wrong = [i for i, row in enumerate(real) if row.class_name == name and not right[i]]
        assert not wrong or any(i in wrong for i, _ in chosen)
    assert all(not right[i] for i, drawn in chosen if not drawn)


def ask(root: Path, real: list[RealRecord], count: int = 2) -> list[Look]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = encoders.build(BACKBONES["narrow_resnet"], {"width": 8, "blocks": [1]}, 8, 0)
        model = Classifier(encoder, 2, 32).eval()
    images = np.random.default_rng(0).integers(0, 256, (len(real), 32, 32, 3), dtype=np.uint8)
    _, logits = encoders.embed(model, images)
    return looks(ModelRun("real", 3, root), model, ["a", "b"], real, images, logits.numpy(), count, root)


def test_of_images_with_masks_it_is_told_how_much_lies_on_the_part(tmp_path: Path) -> None:
    left = Image.new("L", (48, 48))
    left.paste(255, (0, 0, 24, 48))
    left.save(tmp_path / "mask.png")
    found = [look for look in ask(tmp_path, rows(4, "mask.png")) if look.drawn]
    assert len(found) == 4 and {(look.setup, look.seed, look.area) for look in found} == {("real", 3, 0.5)}
    for look in found:
        heat = heat_of(look.levels, look.side)
        assert heat.shape == (look.side, look.side) and heat.max() == 1 and heat.min() >= 0
        assert float(look.on_part) == pytest.approx(heat[:, : look.side // 2].sum() / heat.sum(), abs=0.1)
    assert found == [look for look in ask(tmp_path, rows(4, "mask.png")) if look.drawn]
    (tmp_path / "mask.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"mask.png: not a readable mask"):
        ask(tmp_path, rows(4, "mask.png"))


def test_without_masks_there_are_maps_alone_and_none_where_none_are_wanted(tmp_path: Path) -> None:
    found = ask(tmp_path, rows(4))
    assert found and {(look.on_part, look.area) for look in found} == {("", "")}
    header, first, *_ = saliency_csv(found).splitlines()
    assert header == "setup,seed,path,class_name,predicted,drawn,on_part,area,side,levels"
    assert first.startswith("real,3,data/real/test/a/") and len(first.split(",")[-1].split()) == found[0].side ** 2
    assert ask(tmp_path, rows(4), count=0) == []
