from __future__ import annotations

from collections import Counter

import numpy as np
from helpers.clouds import cloud, unit

from partsynth.core.drift import leave_out
from partsynth.core.drift.distances import Bank


def test_every_training_image_of_the_class_is_drawn_as_often():
    bank = cloud(np.random.default_rng(0), kinds=2, groups=3, each=2)
    names = [f"real/{i}.png" for i in range(3000)]
    drawn, groups = leave_out.drawn(names, np.full(3000, "class1"), bank)
    counts = Counter(drawn.tolist())
    assert sorted(counts) == [name for name in bank.names if name.startswith("class1")]
    assert max(abs(n - 500) for n in counts.values()) < 4 * np.sqrt(500)
    assert all(name.rsplit("/", 1)[0] == group for name, group in zip(drawn, groups, strict=True))


def test_a_draw_is_the_image_s_own():
    """It depends neither on the other images nor on what it looks like."""
    bank = cloud(np.random.default_rng(0))
    kinds = np.array(["class0", "class1", "class2"])
    together, _ = leave_out.drawn(["a", "b", "c"], kinds, bank)
    alone = [leave_out.drawn([name], kinds[[i]], bank)[0][0] for i, name in enumerate("abc")]
    other = Bank(unit(-bank.features), bank.names, bank.classes, bank.groups)
    assert list(together) == alone == list(leave_out.drawn(["a", "b", "c"], kinds, other)[0])


def test_the_nearest_training_image_of_the_own_class():
    bank = cloud(np.random.default_rng(5))
    shifted = unit(bank.features + 1e-3 * np.random.default_rng(6).normal(size=bank.features.shape))
    names, groups = leave_out.nearest(shifted, bank.classes, bank)
    np.testing.assert_array_equal(names, bank.names)
    np.testing.assert_array_equal(groups, bank.groups)
    wrong = np.roll(bank.classes, 12)
    assert all(
        name.startswith(kind) for name, kind in zip(leave_out.nearest(shifted, wrong, bank)[0], wrong, strict=True)
    )
