"""An adaptation of the base model in audits: learned from training images alone, traced, and taken down."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.rows import augmented, real_row
from safetensors.numpy import save

from partsynth.audit.parents import parent_faults
from partsynth.audit.takedown_search import Traces, taught_by
from partsynth.audit.tokens import LearnedToken, read_adaptation, source_faults
from partsynth.errors import UserError
from partsynth.store.layout import ADAPTATION

TRAIN, VAL = real_row("a1", "train", "g1"), real_row("a2", "val", "g2")


def file(sources: list, shown: list) -> bytes:
    told = {"sources": json.dumps(sources), "shown": json.dumps(shown), "base_sha256": "b", "figures": "{}"}
    return save({"x": np.zeros(1, np.float32)}, metadata=told)


def test_only_training_images_may_teach_it() -> None:
    rows = {row.path: row for row in (TRAIN, VAL)}
    good = read_adaptation(file([[TRAIN.path, TRAIN.sha256]], []), "x")
    assert good.class_name is None and list(source_faults(good, rows.get)) == []
    bad = read_adaptation(file([[VAL.path, VAL.sha256], [TRAIN.path, "other"]], []), "x")
    first, second = source_faults(bad, rows.get)
    assert "an image of split val" in first and "is not in data/real/manifest.csv as it was" in second
    with pytest.raises(UserError, match="is not an adaptation with provenance"):
        read_adaptation(b"torn", "x")


class Holder:
    """The data as one image's chain sees it."""

    def __init__(self, adaptation: str | None, token_base: str) -> None:
        self.adaptation, self.token_base = adaptation, token_base

    def real_image(self, path: str):
        return TRAIN

    def sha256(self, path: str) -> str | None:
        return self.adaptation if path == ADAPTATION else "t"

    def token(self, path: str) -> LearnedToken:
        return LearnedToken(TRAIN.class_name, self.token_base, (), {})


def test_an_image_s_chain_has_the_adaptation_and_the_token_must_be_of_it() -> None:
    sha256 = hashlib.sha256(b"x").hexdigest()
    row = augmented(TRAIN, "1-v0", token_sha256="t", base_sha256=f"b+{sha256}")
    assert list(parent_faults(row, Holder(sha256, f"b+{sha256}"))) == []
    (fault,) = parent_faults(row, Holder("0" * 64, f"b+{sha256}"))
    assert fault == f"the adaptation it was made with ({sha256}) is another one now: {ADAPTATION}"
    assert "is missing" in next(parent_faults(row, Holder(None, f"b+{sha256}")))
    (fault,) = parent_faults(row, Holder(sha256, "b"))
    assert fault == f"its base b+{sha256} is not its token's b"


def test_a_takedown_takes_what_was_tuned_on_it_or_shows_it() -> None:
    traces = Traces("p", framed={TRAIN.sha256: TRAIN.path})
    name = Path(ADAPTATION).name
    assert taught_by(file([[TRAIN.path, TRAIN.sha256]], []), name, traces)
    assert taught_by(file([], [[TRAIN.path, TRAIN.sha256]]), name, traces)
    assert not taught_by(file([[VAL.path, VAL.sha256]], []), name, traces)
