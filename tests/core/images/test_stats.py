import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from partsynth.core.images import stats


def picture(seed: int = 0, low: int = 40, high: int = 200) -> Image.Image:
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(low, high, (24, 24, 3), np.uint8))
    return noise.resize((48, 48), Image.Resampling.BICUBIC)


def measured(*images: Image.Image) -> stats.ImageStats:
    return stats.stacked([stats.measure(image) for image in images])


def test_sharpness_against_a_loop():
    image = picture()
    y = np.asarray(image.convert("L"), float) / 255
    laplacian = [
        y[r - 1, c] + y[r + 1, c] + y[r, c - 1] + y[r, c + 1] - 4 * y[r, c] for r in range(1, 47) for c in range(1, 47)
    ]
    assert stats.measure(image)[0] == pytest.approx(np.var(laplacian), rel=1e-4)


def test_blur_lowers_and_noise_raises_sharpness():
    image = picture()
    noisy = Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8))
    blurred, plain, noise = measured(image.filter(ImageFilter.GaussianBlur(2)), image, noisy).sharpness
    assert blurred < plain / 10 and noise > 3 * plain


def test_brightness_contrast_and_exposure():
    found = measured(Image.new("RGB", (20, 20), (128,) * 3), picture(0, 0, 60), picture(0, 190, 255))
    flat, dark, light = found.brightness
    assert dark < flat < light
    assert flat == pytest.approx(128 / 255)
    assert found.contrast[0] == 0 and found.sharpness[0] == 0
    assert (np.diff(measured(picture()).exposure[0]) >= 0).all()


def test_similarity_of_copies_negatives_and_others():
    a, b = picture(0), picture(1)
    others = [a, ImageOps.invert(a), b, Image.new("RGB", (48, 48))]
    same, negative, other, flat = (stats.measure(image, stats.thumbnail(a))[4] for image in others)
    assert same == pytest.approx(1) and negative == pytest.approx(-1, abs=1e-3)
    assert abs(other) < 0.5 and flat == 0


def test_brighter_copies_are_still_copies():
    image = picture()
    lighter = Image.eval(image, lambda v: min(255, v + 30))
    assert stats.similarity(stats.thumbnail(image), stats.thumbnail(lighter)) > 0.999
    assert stats.thumbnail(image).shape == (64, 64, 3)


def test_without_a_source_there_is_no_similarity():
    assert np.isnan(measured(picture()).similarity).all()


def test_a_negative_is_nearer_upside_down():
    dark = [picture(i, 10, 90) for i in range(6)]
    real = measured(*dark).exposure.mean(0, keepdims=True)
    upright = measured(picture(9, 10, 90))
    negative = measured(ImageOps.invert(picture(9, 10, 90)))
    assert stats.inversion(upright.exposure, real)[0] < -0.1
    assert stats.inversion(negative.exposure, real)[0] > 0.1
    assert stats.inversion(upright.exposure, real)[0] == pytest.approx(
        -stats.inversion(negative.exposure, real)[0], abs=0.02
    )


def test_from_median_takes_the_class_away():
    real, kinds = np.array([1.0, 2, 3, 10, 20]), np.array(["a", "a", "a", "b", "b"])
    np.testing.assert_allclose(stats.from_median(np.array([5.0, 5.0]), np.array(["b", "a"]), real, kinds), [-10, 3])


def test_rows_are_stacked_and_taken():
    found = measured(picture(0), picture(1), picture(2))
    few = found.take([2, 0])
    for name in stats.NAMES:
        np.testing.assert_array_equal(getattr(few, name), getattr(found, name)[[2, 0]])
    empty = stats.stacked([])
    assert {len(getattr(empty, name)) for name in stats.NAMES} == {0}
    assert empty.exposure.shape[1:] == found.exposure.shape[1:]
