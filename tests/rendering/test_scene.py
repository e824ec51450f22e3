"""Pictures: deterministic, well exposed, with a mask that is the part's."""

import dataclasses
import json

import numpy as np
import pytest

from partsynth.rendering import catalog, corpus, scene
from partsynth.rendering.wear import Wear

FLANGE = ("flange", {"sides": 32, "holes": 4, "hub": 1})


def _shot(seed=0, ranges=catalog.NARROW):
    return catalog.draw_shots(ranges, np.random.default_rng(seed))["cam0"]


def test_same_inputs_same_bytes():
    worn = Wear("used", 0.4, "steel", 5)
    first, again, other = (scene.photograph(*FLANGE, part, worn, _shot(), 40, 4) for part in (1, 1, 2))
    assert (first[0] == again[0]).all() and (first[1] == again[1]).all()
    assert (first[0] != other[0]).any()


def test_the_mask_is_the_part():
    """A bright part on a black ground: the mask is what the two pictures of different parts' colours differ in."""
    shot = dataclasses.replace(_shot(), background="conveyor belt", fill=0.8)
    image, mask = scene.photograph(*FLANGE, 1, Wear("brand new", 0.1, "aluminium", 5), shot, 64, 16)
    assert set(np.unique(mask)) == {0, 255}
    bright = image.astype(int).sum(axis=2) > 260
    inside = mask > 0
    assert (bright & inside).sum() / inside.sum() > 0.75  # bores and side walls stay dark
    assert (bright & ~inside).sum() / bright.sum() < 0.06
    rows, columns = np.nonzero(inside)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(0.8 * 64, abs=2)  # fill
    assert abs(rows.min() + rows.max() - 63) <= 2 and abs(columns.min() + columns.max() - 63) <= 2


def test_states_can_be_told_apart_by_colour():
    def mean(state):
        image, mask = scene.photograph(*FLANGE, 1, Wear(state, 0.8, "steel", 5), _shot(), 40, 9)
        return image[mask > 0].mean(axis=0)

    new, rusty, dirty = mean("brand new"), mean("rusty"), mean("dirty")
    assert rusty[0] - rusty[2] > 40 > abs(new[0] - new[2])
    assert dirty.sum() < 0.75 * new.sum()


def test_the_lamp_never_hides_the_part():
    shot = _shot()
    facing = dataclasses.replace(shot, light_azimuth=shot.camera_azimuth, light_elevation=shot.camera_elevation)
    image, mask = scene.photograph(*FLANGE, 1, Wear("used", 0.2, "steel", 5), facing, 32, 4)
    assert image[mask > 0].mean() > 60 and (mask > 0).mean() > 0.2


def test_samples_must_be_square():
    with pytest.raises(ValueError, match="square"):
        scene.photograph(*FLANGE, 1, Wear("used", 0.2, "steel", 5), _shot(), 32, 10)


@pytest.mark.slow
def test_exposure_over_all_states_and_ranges():
    for seed in range(20):
        ranges = (catalog.NARROW, catalog.SHIFTED, catalog.CORPUS)[seed % 3]
        rng = np.random.default_rng(seed)
        image, mask = scene.photograph(*FLANGE, 1, catalog.draw_wear(ranges, rng), _shot(seed, ranges), 48, 9)
        part = image[mask > 0].mean(axis=1)
        assert 25 < part.mean() < 240 and (part > 250).mean() < 0.5, (seed, part.mean())


@pytest.mark.slow
def test_a_corpus_is_the_same_for_any_number_of_workers_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "SHARD", 4)
    one = corpus.render_corpus(tmp_path / "a", 10, 3, 1)
    two = corpus.render_corpus(tmp_path / "b", 10, 3, 2)
    assert one == two and one["shards"] == 3
    files = sorted((tmp_path / "a").glob("shard-*.npz"))
    before = [file.stat().st_mtime_ns for file in files]
    files[1].unlink()
    assert corpus.render_corpus(tmp_path / "a", 10, 3, 1) == one
    assert [file.stat().st_mtime_ns for file in files[::2]] == before[::2]
    assert json.loads((tmp_path / "a" / "corpus.json").read_text()) == one
    with np.load(files[2]) as shard:
        assert shard["images"].shape == (2, 64, 64, 3) and shard["captions"].shape == (2, 3)
        assert shard["indices"].tolist() == [8, 9]
        corpus_names = {v.name for v in catalog.corpus_variants()}
        for text in shard["variants"].tolist():
            told = json.loads(text)
            assert catalog.variant(told["family"], *told["features"].values()).name in corpus_names
