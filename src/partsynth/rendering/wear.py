"""Wear: what use does to a part. Colour, roughness and metalness per vertex, and pieces broken off.

Noise is a sum of sines of random 3-D frequencies, softly thresholded, so that stains run over edges as real ones do.
Colours are linear RGB in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from manifold3d import Manifold

from partsynth.rendering.geometry import Mesh

STATES = ("brand new", "used", "rusty", "dirty", "broken")

# material -> (linear RGB of the bare surface, metalness)
MATERIALS = {
    "steel": ((0.56, 0.57, 0.60), 1.0),
    "aluminium": ((0.70, 0.71, 0.72), 1.0),
    "cast iron": ((0.30, 0.30, 0.31), 0.9),
    "brass": ((0.72, 0.52, 0.19), 1.0),
    "blue painted": ((0.02, 0.075, 0.26), 0.0),
    "green painted": ((0.02, 0.15, 0.065), 0.0),
}

_RUST = np.array([[0.36, 0.105, 0.022], [0.16, 0.045, 0.016], [0.46, 0.18, 0.045]])  # orange, deep brown, flaky light
_OIL = np.array([[0.022, 0.016, 0.011], [0.075, 0.050, 0.030]])  # tar, dried mud
_FRACTURE = np.array([0.33, 0.32, 0.31])


@dataclass(frozen=True)
class Wear:
    """What happened to one physical part."""

    state: str  # one of STATES
    severity: float  # 0..1
    material: str  # one of MATERIALS
    seed: int  # places the stains and the fracture


@dataclass(frozen=True)
class Surface:
    """Appearance per vertex."""

    colour: np.ndarray  # (V, 3) float32 linear RGB, 0..1
    roughness: np.ndarray  # (V,) float32, 0..1
    metallic: np.ndarray  # (V,) float32, 0..1


@dataclass(frozen=True)
class Fracture:
    """The planes of a convex piece that was struck off: points inside have normals @ p <= offsets."""

    normals: np.ndarray  # (P, 3) unit, pointing out of the piece
    offsets: np.ndarray  # (P,)


def noise(points: np.ndarray, rng: np.random.Generator, frequency: float, octaves: int = 3) -> np.ndarray:
    """Smooth noise of about unit variance at points (V, 3) -> (V,); frequency in cycles per unit length."""
    total, weight = np.zeros(len(points)), 0.0
    for octave in range(octaves):
        waves = rng.normal(size=(6, 3))
        waves *= 2 * np.pi * frequency * 2**octave / np.linalg.norm(waves, axis=1, keepdims=True)
        amplitude = 0.6**octave
        total += amplitude * np.sin(points @ waves.T + rng.uniform(0, 2 * np.pi, 6)).sum(axis=1)
        weight += 3 * amplitude**2
    return total / np.sqrt(weight)


def coverage(field: np.ndarray, share: float, softness: float = 0.25) -> np.ndarray:
    """A soft mask (V,) in [0, 1] over the ``share`` of vertices where the field is highest."""
    edge = np.quantile(field, 1 - np.clip(share, 0.0, 1.0))
    return np.clip((field - edge) / softness + 0.5, 0, 1)


def strike(solid: Manifold, wear: Wear) -> tuple[Manifold, Fracture]:
    """Breaks a jagged piece off the part's outside; its size grows with the severity.

    Tries a few places and keeps the piece that takes 5 to 35 % of the volume; the rest must stay in one body.
    """
    rng = np.random.default_rng([wear.seed, 1])
    volume = solid.volume()
    low, high = np.array(solid.bounding_box()).reshape(2, 3)
    best: tuple[float, Manifold, Fracture] | None = None
    wanted = 0.08 + 0.14 * wear.severity
    for size in (0.55, 0.7, 0.45, 0.85):
        for _ in range(3):
            radius = size * (0.8 + 0.3 * wear.severity)
            angle = rng.uniform(0, 2 * np.pi)
            direction = np.array([np.cos(angle), np.sin(angle)])
            reach = _reach(direction, (high - low)[:2] / 2)
            centre = np.array([*(direction * reach), rng.uniform(0.35, 1.0) * high[2]])
            piece, fracture = _chunk(centre, radius, rng)
            bodies = (solid - piece).decompose()
            rest = max(bodies, key=lambda body: body.volume())
            lost = 1 - rest.volume() / volume
            score = abs(lost - wanted)
            if best is None or score < best[0]:
                best = score, rest, fracture
            if score < 0.04:
                return rest, fracture
    assert best is not None
    return best[1], best[2]


def _reach(direction: np.ndarray, half: np.ndarray) -> float:
    """Distance from the centre to the bounding ellipse along a direction in the ground plane."""
    return float(0.92 / np.linalg.norm(direction / np.maximum(half, 1e-6)))


def _chunk(centre: np.ndarray, radius: float, rng: np.random.Generator) -> tuple[Manifold, Fracture]:
    """A random convex piece around a point: the hull of points on a sphere."""
    points = rng.normal(size=(11, 3))
    points *= radius * rng.uniform(0.75, 1.15, (11, 1)) / np.linalg.norm(points, axis=1, keepdims=True)
    piece = Manifold.hull_points(points + centre)
    mesh = piece.to_mesh()
    corners = np.asarray(mesh.vert_properties, dtype=float)[:, :3][np.asarray(mesh.tri_verts)]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return piece, Fracture(normals, (normals * corners[:, 0]).sum(axis=1))


def surface(mesh: Mesh, wear: Wear, fracture: Fracture | None = None) -> Surface:
    """Colour, roughness and metalness of every vertex of a worn part."""
    rng = np.random.default_rng([wear.seed, 0])
    bare, metal = MATERIALS[wear.material]
    points = mesh.vertices.astype(float)
    count, severity = len(points), float(wear.severity)
    colour = np.tile(np.array(bare), (count, 1)) * (1 + 0.04 * noise(points, rng, 0.8))[:, None]
    roughness = np.full(count, 0.38 if metal else 0.3)
    metallic = np.full(count, metal)
    up = mesh.normals[:, 2].astype(float)

    def lay(mask: np.ndarray, paint: np.ndarray, rough: float, gloss_metal: float) -> None:
        nonlocal colour, roughness, metallic
        colour = colour * (1 - mask[:, None]) + paint * mask[:, None]
        roughness = roughness * (1 - mask) + rough * mask
        metallic = metallic * (1 - mask) + gloss_metal * mask

    if wear.state == "brand new":
        colour *= 1.08 - 0.10 * severity
        roughness[:] = 0.24 + 0.10 * severity
    elif wear.state in ("used", "broken"):
        colour *= 0.78 - 0.22 * severity
        roughness += 0.10 + 0.12 * severity
        stretched = points @ _random_turn(rng) * (0.5, 2.5, 2.5)  # scratches run one way
        scratches = coverage(noise(stretched, rng, 2.2), 0.08 + 0.14 * severity)
        lay(0.65 * scratches, np.array(bare) * 1.25 + 0.05, 0.3, metal)
        stains = coverage(noise(points, rng, 0.9), 0.15 + 0.35 * severity, 0.7)
        lay((0.35 + 0.35 * severity) * stains, np.array([0.10, 0.085, 0.07]), 0.65, 0.3)
    elif wear.state == "rusty":
        colour *= 0.75
        roughness += 0.2
        spots = coverage(noise(points, rng, 0.8) + 0.5 * noise(points, rng, 3.0, 2), 0.40 + 0.55 * severity, 0.5)
        tone = noise(points, rng, 1.6)
        deep, light = coverage(tone, 0.35, 0.8)[:, None], coverage(-tone, 0.2, 0.8)[:, None]
        paint = _RUST[0] * (1 - deep) + _RUST[1] * deep
        paint = paint * (1 - light) + _RUST[2] * light
        lay(spots * 0.96, paint, 0.85, 0.0)
    elif wear.state == "dirty":
        colour *= 0.7
        roughness += 0.15
        field = noise(points, rng, 0.7) + 0.4 * noise(points, rng, 2.5, 2) + 0.3 * up
        spots = coverage(field, 0.45 + 0.5 * severity, 0.6)
        mud = coverage(noise(points, rng, 1.2), 0.4, 0.9)[:, None]
        lay(spots * (0.85 + 0.13 * severity), _OIL[0] * (1 - mud) + _OIL[1] * mud, 0.55, 0.0)
    else:
        raise ValueError(f"state {wear.state!r}, wanted one of {STATES}")

    if fracture is not None:
        fresh = _on_fracture(points, mesh.normals, fracture).astype(float)
        grain = (1 + 0.25 * noise(points, rng, 4.0, 2))[:, None]
        lay(fresh, np.clip(_FRACTURE * grain, 0.1, 0.6), 0.75, 0.4)
    return Surface(
        np.clip(colour, 0.003, 0.95).astype(np.float32),
        np.clip(roughness, 0.12, 0.95).astype(np.float32),
        np.clip(metallic, 0.0, 1.0).astype(np.float32),
    )


def _random_turn(rng: np.random.Generator) -> np.ndarray:
    """A random orthogonal 3x3 matrix."""
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q


def _on_fracture(points: np.ndarray, normals: np.ndarray, fracture: Fracture) -> np.ndarray:
    """Which vertices (V,) lie on the fractured surface: on a plane of the piece, facing against it, inside the rest."""
    gap = points @ fracture.normals.T - fracture.offsets  # (V, P)
    facing = normals @ fracture.normals.T < -0.6
    return ((np.abs(gap) < 2e-3) & facing).any(axis=1) & (gap.max(axis=1) < 4e-3)
