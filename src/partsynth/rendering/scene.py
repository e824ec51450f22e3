"""One photograph: a worn part on a workplace, lit by a softbox and the hall, seen by one of two cameras.

Mitsuba is imported when the first image is taken, so that catalogues and captions load without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from scipy.ndimage import median_filter

from partsynth.rendering import geometry, wear

VERSION = 1  # raise it when the same Shot gives other pixels: images carry it in their fingerprint

# workplace -> (linear RGB light tone, dark tone, pattern)
BACKGROUNDS = {
    "grey workbench": ((0.30, 0.31, 0.32), (0.20, 0.21, 0.22), "blotch"),
    "wooden bench": ((0.46, 0.30, 0.16), (0.30, 0.175, 0.08), "grain"),
    "conveyor belt": ((0.050, 0.050, 0.054), (0.028, 0.028, 0.030), "rib"),
    "blue cloth": ((0.09, 0.17, 0.36), (0.06, 0.115, 0.26), "weave"),
    "white table": ((0.68, 0.68, 0.66), (0.58, 0.58, 0.57), "blotch"),
    "green mat": ((0.09, 0.25, 0.16), (0.06, 0.185, 0.115), "weave"),
}
CAMERA_DISTANCE = 7.0  # in bounding radii of the part
LAMP_DISTANCE = 12.0  # behind the camera, so that the lamp never hides the part
_TEXTURE = 96  # side of a background texture, pixels
_GROUND = 6.0  # half side of the ground, in bounding radii


@dataclass(frozen=True)
class Shot:
    """How one image was taken. Angles in degrees; azimuths are about the vertical, 0 is towards the viewer."""

    camera_elevation: float  # above the ground, 20..85
    camera_azimuth: float
    yaw: float  # of the part on the ground, 0..360
    light_azimuth: float
    light_elevation: float  # 15..85
    light_strength: float  # of the softbox against the hall light, about 1
    warmth: float  # 0 = daylight, 1 = tungsten; below 0 = colder, as in the shade
    ambient: float  # hall light, about 1
    background: str  # one of BACKGROUNDS
    background_seed: int
    fill: float  # share of the frame's side that the part spans, 0.5..0.95
    exposure: float  # in stops about 0
    render_seed: int  # of the light transport's noise


@cache
def _mitsuba() -> Any:
    """Mitsuba in ``scalar_rgb``, silent, on one thread: the callers run one process per core."""
    import drjit
    import mitsuba

    mitsuba.set_variant("scalar_rgb")
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    drjit.set_thread_count(1)
    return mitsuba


def photograph(
    family: str,
    features: Mapping[str, int],
    part_seed: int,
    worn: wear.Wear,
    shot: Shot,
    size: int = 72,
    samples: int = 16,
) -> tuple[np.ndarray, np.ndarray]:
    """One image (size, size, 3) uint8 sRGB and its exact mask (size, size) uint8 of 0 and 255.

    ``part_seed`` makes the physical part (lengths within a few per cent), ``samples`` must be a square number.
    """
    if round(samples**0.5) ** 2 != samples:
        raise ValueError(f"samples is {samples}: the stratified sampler wants a square number")
    mesh, skin = _part(family, tuple(features.items()), part_seed, worn)
    turn = _about_z(shot.yaw)
    mesh = geometry.Mesh(mesh.vertices @ turn.T, mesh.normals @ turn.T, mesh.faces)
    return _render(mesh, skin, shot, size, samples)


@lru_cache(maxsize=2)  # a part is photographed by two cameras in a row
def _part(
    family: str, features: tuple[tuple[str, int], ...], part_seed: int, worn: wear.Wear
) -> tuple[geometry.Mesh, wear.Surface]:
    """The physical part in its own frame: stains are laid on before it is turned."""
    solid = geometry.build(family, dict(features), np.random.default_rng(part_seed))
    fracture = None
    if worn.state == "broken":
        solid, fracture = wear.strike(solid, worn)
    mesh = geometry.triangulate(solid)
    return mesh, wear.surface(mesh, worn, fracture)


def _about_z(degrees: float) -> np.ndarray:
    """The rotation matrix (3, 3) about the vertical."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=np.float32)


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    """The unit vector (3,) towards an azimuth and elevation; azimuth 0 is -y, where the viewer stands."""
    a, e = np.radians(azimuth - 90), np.radians(elevation)
    return np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])


def _aim(points: np.ndarray, shot: Shot) -> tuple[np.ndarray, np.ndarray, float]:
    """Camera position, target and field of view (degrees): the part is centred and spans ``fill`` of the frame."""
    offset = CAMERA_DISTANCE * _direction(shot.camera_azimuth, shot.camera_elevation)
    target = (points.min(axis=0) + points.max(axis=0)) / 2
    for _ in range(3):  # moving the target moves the projection: three rounds settle it
        forward = -offset / CAMERA_DISTANCE
        right = np.cross(forward, (0, 0, 1))
        right /= np.linalg.norm(right)
        up = np.cross(right, forward)
        seen = points - (target + offset)
        depth = seen @ forward
        x, y = seen @ right / depth, seen @ up / depth
        target = target + CAMERA_DISTANCE * ((x.max() + x.min()) / 2 * right + (y.max() + y.min()) / 2 * up)
    half = max(x.max() - x.min(), y.max() - y.min()) / 2
    return target + offset, target, float(np.degrees(2 * np.arctan(half / shot.fill)))


def _ground_texture(shot: Shot) -> np.ndarray:
    """The workplace's surface (T, T, 3) float32 linear RGB: two tones mixed by its pattern."""
    light, dark, pattern = BACKGROUNDS[shot.background]
    rng = np.random.default_rng([shot.background_seed, 2])
    y, x = np.mgrid[0:_TEXTURE, 0:_TEXTURE] / _TEXTURE
    points = np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3)
    if pattern == "grain":
        points = points * (9.0, 1.0, 1.0)  # long fibres
        mix = 0.5 + 0.28 * wear.noise(points, rng, 2.5, 3)
        mix = mix - 0.8 * (np.abs((points[:, 0] / 9.0 * 7) % 1 - 0.5) > 0.475)  # joints between the boards
    elif pattern == "rib":
        mix = 0.5 + 0.45 * np.sin(2 * np.pi * 24 * points[:, 1]) + 0.25 * wear.noise(points, rng, 4.0, 2)
    elif pattern == "weave":
        mix = 0.5 + 0.3 * wear.noise(points, rng, 2.5, 2) + 0.25 * rng.normal(size=len(points))
    else:
        mix = 0.6 + 0.3 * wear.noise(points, rng, 3.0, 4) + 0.1 * rng.normal(size=len(points))
    mix = np.clip(mix, 0, 1)[:, None]
    tones = np.array(dark) * (1 - mix) + np.array(light) * mix
    return tones.reshape(_TEXTURE, _TEXTURE, 3).astype(np.float32)


def _hall(shot: Shot) -> np.ndarray:
    """The surroundings (8, 16, 3) float32 that metal mirrors: bright ceiling strips, grey walls, dark floor."""
    rows = np.array([1.5, 1.25, 0.75, 0.5, 0.30, 0.22, 0.16, 0.12])
    sky = np.repeat(rows[:, None], 16, axis=1)
    sky[1:3, ::4] *= 2.0
    sky[2:4, 2::4] *= 0.45
    tint = np.array([1.0, 1.0, 1.03]) * (1 - shot.warmth * np.array([-0.02, 0.05, 0.14]))
    return (0.6 * shot.ambient * sky[..., None] * tint).astype(np.float32)


def _render(
    mesh: geometry.Mesh, skin: wear.Surface, shot: Shot, size: int, samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Traces the image, then the part alone for its mask."""
    mi = _mitsuba()
    transform = mi.ScalarTransform4f
    origin, target, fov = _aim(mesh.vertices, shot)
    lamp = LAMP_DISTANCE * _direction(shot.light_azimuth, shot.light_elevation)
    tungsten = np.array([1.0, 0.62, 0.30]) * 1.35
    glow = (np.array([1.0, 1.0, 1.0]) * (1 - shot.warmth) + tungsten * shot.warmth) * 4.6 * shot.light_strength
    seed = shot.render_seed % 2**31
    part = _shape(mi, mesh, skin)
    sensor = mi.load_dict(
        {
            "type": "perspective",
            "fov": fov,
            "to_world": transform().look_at(origin=origin.tolist(), target=target.tolist(), up=[0, 0, 1]),
            "film": {"type": "hdrfilm", "width": size, "height": size, "rfilter": {"type": "box"}},
            "sampler": {"type": "multijitter", "sample_count": samples},
        }
    )
    scene = mi.load_dict(
        {
            "type": "scene",
            "hall": {"type": "envmap", "bitmap": mi.Bitmap(_hall(shot)), "to_world": transform().rotate([1, 0, 0], 90)},
            "lamp": {
                "type": "rectangle",
                "to_world": transform().look_at(origin=lamp.tolist(), target=[0, 0, 0], up=[0.1, 0.2, 1]).scale(4.0),
                "emitter": {"type": "area", "radiance": {"type": "rgb", "value": glow.tolist()}},
            },
            "ground": {
                "type": "rectangle",
                "to_world": transform().scale(_GROUND),
                "bsdf": {
                    "type": "diffuse",
                    "reflectance": {"type": "bitmap", "bitmap": mi.Bitmap(_ground_texture(shot)), "raw": True},
                },
            },
            "part": part,
        }
    )
    path = mi.load_dict({"type": "path", "max_depth": 3})
    radiance = np.array(mi.render(scene, sensor=sensor, integrator=path, spp=samples, seed=seed))[..., :3]
    # the mask: the part alone, a pixel is its own when most of 2 x 2 rays meet it
    alone = mi.load_dict({"type": "scene", "part": part})
    index = mi.load_dict({"type": "aov", "aovs": "met:shape_index"})
    met = np.array(mi.render(alone, sensor=sensor, integrator=index, spp=4, seed=seed))[..., 0]
    return _develop(radiance, shot.exposure), np.where(met > 0.5 * met.max(), 255, 0).astype(np.uint8)


def _shape(mi: Any, mesh: geometry.Mesh, skin: wear.Surface) -> Any:
    """The part as a Mitsuba mesh with its wear on the vertices."""

    def attribute(name: str) -> dict[str, str]:
        return {"type": "mesh_attribute", "name": name}

    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(
        {
            "type": "twosided",
            "bsdf": {
                "type": "principled",
                "base_color": attribute("vertex_color"),
                "roughness": attribute("vertex_rough"),
                "metallic": attribute("vertex_metal"),
                "specular": 0.5,
            },
        }
    )
    shape = mi.Mesh("part", len(mesh.vertices), len(mesh.faces), has_vertex_normals=True, props=properties)
    shape.add_attribute("vertex_color", 3, skin.colour.ravel())
    shape.add_attribute("vertex_rough", 1, skin.roughness)
    shape.add_attribute("vertex_metal", 1, skin.metallic)
    values = mi.traverse(shape)
    values["vertex_positions"] = mesh.vertices.ravel()
    values["vertex_normals"] = mesh.normals.ravel()
    values["faces"] = mesh.faces.ravel()
    values.update()
    return shape


def _develop(radiance: np.ndarray, exposure: float) -> np.ndarray:
    """Linear radiance (H, W, 3) to uint8 sRGB with a soft shoulder, so that highlights keep their shape."""
    bright = np.maximum(radiance, 0).max(axis=2)
    usual = median_filter(bright, 3)
    glint = bright > 2.5 * usual + 0.3  # lone pixels that a mirrored lamp ray blew up
    x = np.maximum(radiance, 0) * np.where(glint, usual / np.maximum(bright, 1e-6), 1.0)[..., None] * 2.0**exposure
    x = np.clip(1.15 * x / (1 + 0.65 * x), 0, 1)
    srgb = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)
