import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from partsynth.core.images import stats as iq


def picture(seed: int = 0, low: int = 40, high: int = 200) -> Image.Image:
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(low, high, (24, 24, 3), np.uint8))
    return noise.resize((48, 48), Image.Resampling.BICUBIC)


def looks(*images: Image.Image) -> iq.Looks:
    return iq.Looks(*(np.stack(column) for column in zip(*map(iq.measure, images), strict=True)))


def test_sharpness_against_a_loop():
    image = picture()
    y = np.asarray(image.convert("L"), float) / 255
    laplacian = [
        y[r - 1, c] + y[r + 1, c] + y[r, c - 1] + y[r, c + 1] - 4 * y[r, c] for r in range(1, 47) for c in range(1, 47)
    ]
    assert iq.measure(image)[0] == pytest.approx(np.var(laplacian), rel=1e-4)


def test_blur_lowers_and_noise_raises_sharpness():
    image = picture()
    noisy = Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8))
    blurred, plain, noise = looks(image.filter(ImageFilter.GaussianBlur(2)), image, noisy).sharpness
    assert blurred < plain / 10 and noise > 3 * plain


def test_brightness_contrast_and_exposure():
    measured = looks(Image.new("RGB", (20, 20), (128,) * 3), picture(0, 0, 60), picture(0, 190, 255))
    flat, dark, light = measured.brightness
    assert dark < flat < light
    assert flat == pytest.approx(128 / 255)
    assert measured.contrast[0] == 0 and measured.sharpness[0] == 0
    assert (np.diff(looks(picture()).exposure[0]) >= 0).all()


def test_similarity_of_copies_negatives_and_others():
    a, b = picture(0), picture(1)
    thumbs = looks(a, a, a, a).thumbnails
    others = looks(a, ImageOps.invert(a), b, Image.new("RGB", (48, 48))).thumbnails
    same, negative, other, flat = iq.similarity(thumbs, others)
    assert same == pytest.approx(1) and negative == pytest.approx(-1, abs=1e-3)
    assert abs(other) < 0.5 and flat == 0


def test_brighter_copies_are_still_copies():
    image = picture()
    lighter = Image.eval(image, lambda v: min(255, v + 30))
    assert iq.similarity(looks(image).thumbnails, looks(lighter).thumbnails)[0] > 0.999


def test_a_negative_is_nearer_upside_down():
    dark = [picture(i, 10, 90) for i in range(6)]
    real = looks(*dark).exposure.mean(0, keepdims=True)
    upright = looks(picture(9, 10, 90))
    negative = looks(ImageOps.invert(picture(9, 10, 90)))
    assert iq.inversion(upright.exposure, real)[0] < -0.1
    assert iq.inversion(negative.exposure, real)[0] > 0.1
    assert iq.inversion(upright.exposure, real)[0] == pytest.approx(-iq.inversion(negative.exposure, real)[0], abs=0.02)


def test_from_median_takes_the_class_away():
    real, kinds = np.array([1.0, 2, 3, 10, 20]), np.array(["a", "a", "a", "b", "b"])
    np.testing.assert_allclose(iq.from_median(np.array([5.0, 5.0]), np.array(["b", "a"]), real, kinds), [-10, 3])
