from __future__ import annotations

import numpy as np
import pytest
from helpers.parts import edges, part
from helpers.rows import augmented, real_row

from partsynth.config.quality import Quality
from partsynth.errors import UserError
from partsynth.quality.real_parts import calibrated, columns, real_parts
from partsynth.records.manifest import write_manifest
from partsynth.records.rows import RealRecord

ROWS = [
    real_row(f"{kind}/{i}", split, f"{kind}-{split}-{i}")
    for kind in ("disc", "gear")
    for split in ("train", "val")
    for i in range(4)
]


def test_training_and_validation_images_alone(tmp_path):
    others = [real_row("gear/9", split, f"g-{split}") for split in ("test", "shifted")]
    write_manifest(tmp_path / "manifest.csv", [*ROWS, *others], RealRecord)
    assert {r.path for r in real_parts(tmp_path)} == {r.path for r in ROWS}
    write_manifest(tmp_path / "manifest.csv", [r for r in ROWS if r.split == "train"], RealRecord)
    with pytest.raises(UserError, match=r"manifest\.csv has no validation images: drift cannot be calibrated"):
        real_parts(tmp_path)


def test_an_edit_stands_in_its_sources_group():
    edit = augmented(ROWS[0], "0_0")
    names, classes, groups = columns([ROWS[0], edit])
    assert list(names) == [ROWS[0].path] * 2 and list(groups) == [ROWS[0].group] * 2 and list(classes) == ["disc"] * 2


def test_training_images_are_the_bank_and_validation_images_the_calibration():
    features = edges([part(r.class_name, i) for i, r in enumerate(ROWS)])
    old = Quality(calibration="pictures")
    bank, plain = calibrated(ROWS, features, old, None)
    assert list(bank.names) == [r.path for r in ROWS if r.split == "train"]
    assert len(plain.drift) == len(plain.strangeness) == 8
    held_out = np.array([r.split == "val" for r in ROWS])
    _, same = calibrated(ROWS, features, old, features[held_out])
    np.testing.assert_array_equal(same.drift, plain.drift)
    _, seen = calibrated(ROWS, features, old, features[held_out][::-1])  # other features of the views
    assert not np.array_equal(seen.drift, plain.drift)
    np.testing.assert_array_equal(seen.strangeness, plain.strangeness)  # of the images as they are
