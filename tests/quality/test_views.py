from __future__ import annotations

import numpy as np
from helpers.parts import edges, part
from helpers.rows import real_row

from partsynth.quality.views import in_views, seen_in_views
from partsynth.store.png import write_png


def test_a_view_depends_on_its_name_alone():
    images = [part("gear", i) for i in range(3)]
    seen = in_views(images, ["a", "b", "c"])
    assert [s.size for s in seen] == [(48, 48)] * 3
    assert all(np.array_equal(s, in_views([i], [n])[0]) for s, i, n in zip(seen, images, "abc", strict=True))
    assert not np.array_equal(seen[0], in_views(images[:1], ["b"])[0])
    assert not np.array_equal(seen[0], images[0])


def test_features_are_kept_until_the_images_change(tmp_path):
    plain = [real_row(f"gear/{i}", "val", f"g{i}") for i in range(3)]
    rows = [
        row.model_copy(update={"sha256": write_png(tmp_path / row.path, part("gear", i))})
        for i, row in enumerate(plain)
    ]
    calls = []
    embed = lambda images: calls.append(len(images)) or edges(images)  # noqa: E731 - counts
    first = seen_in_views(rows, tmp_path, embed, 2, tmp_path / "kept")
    expected = edges(in_views([part("gear", i) for i in range(3)], [row.sha256 for row in rows]))
    np.testing.assert_allclose(first, expected, atol=1e-6)
    assert calls == [2, 2]
    assert np.array_equal(seen_in_views(rows, tmp_path, embed, 2, tmp_path / "kept"), first) and calls == [2, 2]
    (kept,) = (tmp_path / "kept").iterdir()
    fewer = seen_in_views(rows[:2], tmp_path, embed, 2, tmp_path / "kept")
    assert np.array_equal(fewer, first[:2]) and calls == [2, 2, 2]
    assert not kept.exists() and len(list((tmp_path / "kept").iterdir())) == 1
