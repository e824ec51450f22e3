import colorsys
import math

import numpy as np
import pytest
import torch

from partsynth.core.images import views
from partsynth.core.images.views import Views, augment, draw

STILL = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "rotation": 0.0, "jitter": 0.0, "grey": 0.0}


def pictures(count=4, size=24, seed=0):
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=g)
    return torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")


def test_without_any_change_a_view_is_the_picture():
    x = pictures()
    torch.testing.assert_close(augment(x, draw(4, 0), Views(**STILL)), x, rtol=0, atol=1e-5)


def test_mirror():
    x = pictures()
    torch.testing.assert_close(augment(x, draw(4, 0), Views(**STILL | {"flip": 1.0})), x.flip(3), rtol=0, atol=1e-5)


def test_views_are_in_range_repeatable_and_differ():
    x = pictures(64)
    a, b = augment(x, draw(64, 1)), augment(x, draw(64, 2))
    assert a.shape == x.shape and a.min() >= 0 and a.max() <= 1
    torch.testing.assert_close(augment(x, draw(64, 1)), a)
    assert ((a - b).abs().flatten(1).mean(1) > 0.005).all()


def test_a_view_depends_on_its_own_row_alone():
    x, u = pictures(6), draw(6, 3)
    torch.testing.assert_close(augment(x, u)[2:4], augment(x[2:4], u[2:4]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [64, 63, 224])
def test_views_are_sampled_where_torchs_affine_grid_says(size):
    geometry = torch.tensor([[[0.71, -0.13, 0.05], [0.17, 0.83, -0.02]], [[-0.9, 0.02, 0.01], [0.03, 0.66, 0.1]]])
    shape = [2, 3, size, size]
    theirs = torch.nn.functional.affine_grid(geometry, shape, False)
    torch.testing.assert_close(
        views.sampling_grid(geometry, size), theirs, rtol=0, atol=2e-7
    )  # a last bit, where FMA is


def test_other_size():
    assert augment(pictures(), draw(4, 0), size=16).shape == (4, 3, 16, 16)


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0 - 1e-6])
def test_crops_lie_inside_the_picture(place):
    """An unrotated crop never needs padding, wherever it is drawn."""
    u = torch.full((40, views.DRAWS), place)
    u[:, :2] = torch.rand(40, 2, generator=torch.Generator().manual_seed(0))
    corners = torch.tensor([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)]).T  # (3, 4)
    reached = views._geometry(u.unbind(1), Views(rotation=0.0)) @ corners
    assert reached.abs().max() <= 1 + 1e-5


def test_crop_area_is_that_of_the_scale():
    u = draw(500, 0)
    matrix = views._geometry(u.unbind(1), Views(rotation=30.0, ratio=(1.0, 1.0)))
    area = torch.linalg.det(matrix[:, :, :2]).abs()
    assert 0.6 - 1e-4 <= area.min() < 0.62 and 0.98 < area.max() <= 1 + 1e-4


def test_grey():
    x = augment(pictures(), draw(4, 0), Views(**STILL | {"grey": 1.0}))
    torch.testing.assert_close(x[:, 0], x[:, 1], rtol=0, atol=1e-5)
    expected = torch.einsum("bchw,c->bhw", pictures(), torch.tensor(views.GREY))
    torch.testing.assert_close(x[:, 0], expected, rtol=0, atol=1e-4)


def test_probabilities_and_spreads():
    u = draw(4000, 5)
    matrix, contrast = views._colour(u.unbind(1), Views())
    untouched = (contrast == 1).float().mean().item()
    assert untouched == pytest.approx(0.2, abs=0.03)
    assert contrast.min() >= 0.6 - 1e-5 and contrast.max() <= 1.4 + 1e-5
    grey = ((matrix[:, 0] - matrix[:, 1]).abs().sum(1) < 1e-5).float().mean().item()
    assert grey == pytest.approx(0.2, abs=0.03)
    # white goes to the brightness factor in every channel: hue and saturation keep grey as it is
    white = matrix.sum(2)
    assert (white - white[:, :1]).abs().max() < 1e-4 and white.min() > 0.6 - 1e-3 and white.max() < 1.4 + 1e-3


def test_hue_turns_colours_by_about_the_angle():
    u = torch.full((1, views.DRAWS), 0.5)
    u[0, 10] = 1.0  # the full +0.1 turn
    on = Views(**STILL | {"jitter": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0})
    colour = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    before, after = (colorsys.rgb_to_hsv(*c[0, :, 4, 4].tolist())[0] for c in (colour, augment(colour, u, on)))
    # YIQ's angle is not quite HSV's
    assert min(abs(after - before), 1 - abs(after - before)) == pytest.approx(0.1, abs=0.05)


def test_contrast_keeps_the_mean_luma():
    x = pictures(50) * 0.4 + 0.3  # no clipping
    on = Views(**STILL | {"jitter": 1.0, "brightness": 0.0, "saturation": 0.0, "hue": 0.0})
    luma = [np.einsum("bchw,c->b", y.numpy(), views.GREY) for y in (x, augment(x, draw(50, 0), on))]
    np.testing.assert_allclose(*luma, rtol=1e-3)


# --- RandAugment ------------------------------------------------------------------------------------------------------


def chosen(name: str, sign: float, count: int = 4) -> torch.Tensor:
    """Draws whose first operation is ``name`` and whose second is none."""
    u = torch.full((count, views.DRAWS), 0.5)
    u[:, 6] = (views.OPERATIONS.index(name) + 0.5) / len(views.OPERATIONS)
    u[:, 7] = 0.25 if sign < 0 else 0.75
    u[:, 8] = 0.0
    return u


def rand(x, u, **settings):
    return augment(x, u, Views(**STILL), kind="randaugment", rand=views.RandAugment(**settings))


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", [n for n in views.OPERATIONS if n in views.COLOURS])
@pytest.mark.parametrize("magnitude", [0.3, 0.8])
def test_an_operation_is_torchvisions(name, sign, magnitude):
    from torchvision.transforms.v2 import functional

    x = (pictures() * 255).round() / 255
    x = x.clamp(0, 1)
    factor = 1 + 0.9 * magnitude * sign
    expected = {
        "brightness": lambda: functional.adjust_brightness(x, factor),
        "colour": lambda: functional.adjust_saturation(x, factor),
        "contrast": lambda: functional.adjust_contrast(x, factor),
        "sharpness": lambda: functional.adjust_sharpness(x, factor),
        "posterize": lambda: functional.posterize(x, 8 - round(4 * magnitude)),
        "solarize": lambda: functional.solarize(x, 1 - magnitude),
        "autocontrast": lambda: functional.autocontrast(x),
        "equalize": lambda: functional.equalize((x * 255).round().to(torch.uint8)) / 255,
    }[name]()
    u = chosen(name, sign)
    operation, signs = views._chosen(u, views.RandAugment())[0]
    got = views._recolour(x, operation, signs, magnitude)
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-3 if name in ("contrast", "colour") else 1e-5)
    assert not torch.allclose(got, x, atol=1e-3) or name == "posterize"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("shear_x", {"shear": [math.degrees(math.atan(0.09)), 0.0]}),
        ("shear_y", {"shear": [0.0, math.degrees(math.atan(0.09))]}),
        ("translate_x", {"translate": [24 * 150 / 331 * 0.3, 0]}),
        ("translate_y", {"translate": [0, 24 * 150 / 331 * 0.3]}),
        ("rotate", {"angle": 9.0}),
    ],
)
def test_a_geometric_operation_is_torchvisions_inside(name, arguments):
    from torchvision.transforms.v2 import InterpolationMode, functional

    x = pictures()
    told = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | arguments
    expected = functional.affine(x, **told, interpolation=InterpolationMode.BILINEAR)
    both = [rand(x, chosen(name, sign)) for sign in (-1, 1)]
    inner = slice(6, -6)
    errors = [(b - expected)[:, :, inner, inner].abs().max().item() for b in both]
    assert min(errors) < 1e-3 and max(errors) > 0.02  # the signs are opposite ways


def test_randaugment_depends_on_each_row_alone_to_the_byte():
    x, u = pictures(40), draw(40, 3)
    whole = augment(x, u, kind="randaugment")
    assert whole.shape == x.shape and whole.min() >= 0 and whole.max() <= 1
    for part in (slice(0, 20), slice(20, 40), slice(7, 8)):
        assert torch.equal(augment(x[part], u[part], kind="randaugment"), whole[part])


def test_randaugment_draws_every_operation_alike_and_keeps_the_standard_views():
    operation, sign = views._chosen(draw(14000, 0), views.RandAugment())[1]
    counts = torch.bincount(operation, minlength=len(views.OPERATIONS))
    assert counts.min() > 850 and counts.max() < 1150 and abs(sign.mean()) < 0.05
    x, still = pictures(), chosen("identity", 1.0)
    torch.testing.assert_close(rand(x, still), x, rtol=0, atol=1e-5)
    plain = Views(jitter=0.0, grey=0.0)
    torch.testing.assert_close(
        augment(x, still, plain, kind="randaugment"), augment(x, still, plain), rtol=0, atol=1e-5
    )


def test_randaugment_joins_jitter_and_grey():
    """kind both: RandAugment by numbers of its own, then the standard colours."""
    x, u = pictures(64), draw(64, 2)
    own = u * views.FINE % 1
    without_jitter = augment(x, u, Views(**STILL), kind="both")
    torch.testing.assert_close(without_jitter, augment(x, own, Views(**STILL), kind="randaugment"), rtol=0, atol=1e-5)
    grey = augment(x, u, Views(**(STILL | {"grey": 1.0})), kind="both")
    torch.testing.assert_close(grey[:, 0], grey[:, 2], rtol=0, atol=1e-4)
    assert abs(torch.corrcoef(torch.stack([u.flatten(), own.flatten()]))[0, 1]) < 0.1


def test_a_flat_picture_survives_every_operation():
    x = torch.full((14 * 2, 3, 16, 16), 0.4)
    u = draw(28, 0)
    u[:, 6] = (torch.arange(28) % 14 + 0.5) / 14
    assert torch.isfinite(augment(x, u, kind="randaugment")).all()


def test_fixed_views_begin_with_the_image_itself() -> None:
    images = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    assert [len(list(views.fixed(images, kind))) for kind in views.FIXED] == [1, 4, 8]
    for kind in views.FIXED:
        assert torch.equal(next(views.fixed(images, kind)), images)
    torch.testing.assert_close(list(views.fixed(images, "flips"))[3], views.rotated(images, 180), atol=1e-5, rtol=0)


def test_rotations_turn_and_fill_the_corners_with_the_mean_colour() -> None:
    images = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    quarter = views.rotated(images, 90)
    torch.testing.assert_close(quarter, torch.rot90(images, 1, (2, 3)), atol=1e-5, rtol=0)
    eighth = views.rotated(images, 45)
    torch.testing.assert_close(eighth[:, :, 0, 0], images.mean((2, 3)))
    torch.testing.assert_close(eighth[:, :, 4, 4], images[:, :, 4, 4])
    torch.testing.assert_close(views.rotated(images[1:], 45), eighth[1:])
