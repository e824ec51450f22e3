import numpy as np
import pytest

from partsynth.core.contrastive.batches import Batches, Mix

CLASSES = 4


def table(real=5, synthetic=2, negatives=3, only_real=()):
    """labels, is_negative, is_synthetic, source: ``synthetic`` augmentations of each real picture."""
    rows = [(c, False, False, None) for c in range(CLASSES) for _ in range(real)]
    for index in range(CLASSES * real):
        c = rows[index][0]
        rows += [(c, False, True, index)] * (0 if c in only_real else synthetic)
    rows += [(c, True, True, c * real) for c in range(CLASSES) for _ in range(negatives)]
    labels, is_negative, is_synthetic, source = zip(*rows, strict=True)
    source = [i if s is None else s for i, s in enumerate(source)]
    return np.array(labels), np.array(is_negative), np.array(is_synthetic), np.array(source)


def batches(mix, seed=0, **kwargs):
    facts = table(**kwargs)
    return Batches(*facts, mix, seed), facts


@pytest.mark.parametrize("batch_size", [8, 10, 3])
def test_a_batch_is_balanced_and_negatives_are_added(batch_size):
    made, (labels, is_negative, _, _) = batches(Mix(batch_size, negatives=6))
    for k in range(10):
        step = made.step(k)
        assert len(step) == batch_size + 6 and step.is_negative.sum() == 6
        np.testing.assert_array_equal(step.is_negative, is_negative[step.first])
        np.testing.assert_array_equal(step.labels, labels[step.first])
        for part, total in ((~step.is_negative, batch_size), (step.is_negative, 6)):
            counts = np.bincount(step.labels[part], minlength=CLASSES)
            assert counts.sum() == total and counts.max() - counts.min() <= 1


def test_defect_11_every_setup_takes_the_same_anchors():
    """Without negatives or synthetic pictures a step has as many anchors as with them."""
    sizes = [
        [int((~batches(Mix(12, 0.5, 4), **what)[0].step(k).is_negative).sum()) for k in range(5)]
        for what in ({"synthetic": 0, "negatives": 0}, {"negatives": 0}, {})
    ]
    assert sizes == [[12] * 5] * 3


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_synthetic_share_holds_on_average(share):
    made, (_, _, is_synthetic, _) = batches(Mix(12, share))
    drawn = np.concatenate([is_synthetic[made.step(k).first] for k in range(200)])
    assert drawn.mean() == pytest.approx(share, abs=0.03)


def test_two_sets_of_positives_are_drawn_by_their_numbers():
    """Images of one set are no more wanted than those of another: shares are those of the counts per class."""
    labels, is_negative, is_synthetic, source = table(synthetic=4, negatives=0)
    second = is_synthetic & (np.arange(len(labels)) % 4 == 0)  # every fourth edit is of another set
    made = Batches(labels, is_negative, is_synthetic, source, Mix(12, 0.5), 0)
    drawn = np.concatenate([made.step(k).first for k in range(1500)])
    drawn = drawn[is_synthetic[drawn]]
    for c in range(CLASSES):
        own, among = drawn[labels[drawn] == c], is_synthetic & (labels == c)
        assert second[own].mean() == pytest.approx(second[among].mean(), abs=0.04)


def test_a_class_without_synthetic_pictures_uses_real_ones():
    made, (labels, _, is_synthetic, _) = batches(Mix(16, 0.5), only_real=(1,))
    drawn = np.concatenate([made.step(k).first for k in range(50)])
    assert is_synthetic[drawn[labels[drawn] == 1]].mean() == 0
    assert is_synthetic[drawn[labels[drawn] == 2]].mean() == pytest.approx(0.5, abs=0.1)


def test_no_picture_twice_in_a_step_while_others_wait():
    made, _ = batches(Mix(CLASSES * 5, 0.0))
    for k in range(5):
        assert len(set(made.step(k).first)) == CLASSES * 5


def test_more_anchors_than_pictures():
    made, _ = batches(Mix(CLASSES * 12, 0.0))
    counts = np.bincount(made.step(0).first)[: CLASSES * 5]
    assert counts.min() >= 2 and counts.max() <= 3


def test_a_step_is_a_function_of_seed_and_number():
    first, _ = batches(Mix(12, 0.5, 4, 0.3, "augmentation"))
    again, _ = batches(Mix(12, 0.5, 4, 0.3, "augmentation"))
    [first.step(k) for k in range(3)]
    for name in ("first", "second", "labels", "is_negative"):
        np.testing.assert_array_equal(getattr(first.step(7), name), getattr(again.step(7), name))
    other, _ = batches(Mix(12, 0.5, 4, 0.3, "augmentation"), seed=1)
    assert not np.array_equal(first.step(7).first, other.step(7).first)
    assert not np.array_equal(first.step(7).first, first.step(8).first)


def test_crops_show_one_picture_twice():
    made, _ = batches(Mix(12, 0.5, 4))
    np.testing.assert_array_equal(made.step(0).first, made.step(0).second)


def test_augmentation_views_are_the_parts_own():
    made, (_, is_negative, is_synthetic, source) = batches(Mix(20, 0.0, 4, views="augmentation"))
    step = made.step(0)
    real = ~step.is_negative
    assert is_synthetic[step.second[real]].all() and not is_negative[step.second[real]].any()
    np.testing.assert_array_equal(source[step.second[real]], step.first[real])
    np.testing.assert_array_equal(step.first[~real], step.second[~real])


def test_augmentation_views_fall_back_to_the_picture():
    made, _ = batches(Mix(20, 0.0, views="augmentation"), synthetic=0)
    np.testing.assert_array_equal(made.step(0).first, made.step(0).second)


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_replacing_keeps_class_and_count(probability):
    made, (labels, is_negative, is_synthetic, _) = batches(Mix(20, 0.0, replace_probability=probability))
    steps = [made.step(k) for k in range(50)]
    drawn = np.concatenate([s.first for s in steps])
    assert is_synthetic[drawn].mean() == pytest.approx(probability, abs=0.05) and not is_negative[drawn].any()
    for s in steps:
        assert set(np.bincount(s.labels)) == {5}
        np.testing.assert_array_equal(s.labels, labels[s.first])


def test_parts_of_processes_make_up_the_step():
    made, _ = batches(Mix(12, 0.5, 4))
    step = made.step(3)
    parts = [step.part(rank, 2) for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate([p.first for p in parts]), step.first)
    np.testing.assert_array_equal(np.concatenate([p.is_negative for p in parts]), step.is_negative)
