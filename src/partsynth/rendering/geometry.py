"""Parametric parts as watertight solids: unions and differences of cylinders, boxes and extruded outlines.

Every builder takes the discrete features of its family and a ``Nuisance`` that varies lengths by a few per cent, and
returns a ``manifold3d.Manifold`` with z up. Units are free: ``build`` centres the part, stands it on z = 0 and scales
it to a bounding sphere of radius 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from manifold3d import CrossSection, Manifold, OpType

EDGE = 0.1  # an edge is cut into pieces of at most this, in bounding radii; inner diagonals reach about twice it
MAX_VERTICES = 60_000
SHARP_DEGREES = 40.0  # dihedral angle from which an edge is shaded sharp

Features = Mapping[str, int]


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh for the renderer: vertices are doubled along sharp edges, so that normals can differ there."""

    vertices: np.ndarray  # (V, 3) float32
    normals: np.ndarray  # (V, 3) float32, unit length
    faces: np.ndarray  # (F, 3) uint32


class Nuisance:
    """Multiplies lengths by 1 +- spread: two parts of one class are never quite alike."""

    def __init__(self, rng: np.random.Generator, spread: float = 0.04):
        self._rng, self._spread = rng, spread

    def __call__(self, length: float) -> float:
        return float(length * (1 + self._rng.uniform(-self._spread, self._spread)))


# ---- building blocks ----------------------------------------------------------------------------------------------


def cylinder(radius: float, height: float, z: float = 0.0, segments: int = 48, top: float | None = None) -> Manifold:
    """An upright cylinder (or cone with radius ``top`` at its upper end) standing on height z."""
    return Manifold.cylinder(height, radius, -1.0 if top is None else top, segments).translate((0, 0, z))


def box(x: float, y: float, height: float, z: float = 0.0) -> Manifold:
    """A box centred in x and y, standing on height z."""
    return Manifold.cube((x, y, height), True).translate((0, 0, z + height / 2))


def tube(
    radius: float, length: float, at: tuple[float, float, float], yaw: float = 0.0, segments: int = 32
) -> Manifold:
    """A lying cylinder that starts at ``at`` and runs along +x turned by yaw (degrees)."""
    return Manifold.cylinder(length, radius, -1.0, segments).rotate((0, 90, 0)).rotate((0, 0, yaw)).translate(at)


def polar(part: Manifold, count: int, radius: float = 0.0, start: float = 0.0) -> list[Manifold]:
    """``count`` copies of a part, moved out along x by radius and spread evenly about z (degrees from start)."""
    moved = part.translate((radius, 0, 0))
    return [moved.rotate((0, 0, start + 360.0 * k / count)) for k in range(count)]


def union(parts: Iterable[Manifold]) -> Manifold:
    return Manifold.batch_boolean(list(parts), OpType.Add)


def cut(body: Manifold, holes: Iterable[Manifold]) -> Manifold:
    return Manifold.batch_boolean([body, *holes], OpType.Subtract)


def prism(outline: np.ndarray, height: float, z: float = 0.0) -> Manifold:
    """A closed outline (N, 2), counter-clockwise, raised by height from z."""
    return CrossSection([outline]).extrude(height).translate((0, 0, z))


def toothed(count: int, root: float, tip: float, foot: float, head: float) -> np.ndarray:
    """Outline (N, 2) of a toothed wheel; foot and head are the shares of the pitch that a tooth covers."""
    corners = ((-foot / 2, root), (-head / 2, tip), (head / 2, tip), (foot / 2, root), (0.5, root))
    angles = np.array([2 * np.pi * (k + share) / count for k in range(count) for share, _ in corners])
    radii = np.array([radius for _ in range(count) for _, radius in corners])
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def polygon(sides: int, radius: float, round_to: float) -> CrossSection:
    """A regular polygon of circumradius ``radius`` whose corners are rounded."""
    angles = 2 * np.pi * np.arange(sides) / sides
    corners = (radius - round_to) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    circle = CrossSection.circle(round_to, 16)
    return CrossSection.batch_hull([circle.translate(tuple(c)) for c in corners])


def lug(reach: float, width: float, height: float, hole: float, z: float = 0.0) -> tuple[Manifold, Manifold]:
    """A mounting ear along +x from the axis to ``reach`` with a round end, and the hole in it."""
    ear = union(
        [
            box(reach, width, height, z).translate((reach / 2, 0, 0)),
            cylinder(width / 2, height, z, 20).translate((reach, 0, 0)),
        ]
    )
    return ear, cylinder(hole, height + 0.2, z - 0.1, 16).translate((reach, 0, 0))


def eared(body: Manifold, count: int, ear: tuple[Manifold, Manifold], start: float = 0.0) -> Manifold:
    """A body with ``count`` lugs around it, their holes drilled."""
    return cut(union([body, *polar(ear[0], count, 0, start)]), polar(ear[1], count, 0, start))


# ---- the families -------------------------------------------------------------------------------------------------


def alternator(f: Features, n: Nuisance) -> Manifold:
    """A drum with radial cooling slots in its face, mounting ears and a grooved pulley."""
    height = n(0.75)
    body = union([cylinder(n(0.78), height), cylinder(0.7, 0.1, height), cylinder(0.82, 0.1, 0.28)])
    body = eared(body, f["ears"], lug(n(1.0), 0.34, 0.24, 0.09, 0.25), 20)
    width = min(0.24, 1.35 / f["slots"])
    body = cut(body, polar(box(0.30, width, 0.5, height - 0.3), f["slots"], 0.5))
    pulley = [cylinder(0.2, 0.1, height + 0.05)]
    z = height + 0.12
    for _ in range(f["grooves"]):
        pulley += [cylinder(0.36, 0.07, z, 36), cylinder(0.25, 0.09, z + 0.06, 36)]
        z += 0.14
    pulley += [cylinder(0.36, 0.07, z, 36), cylinder(0.12, 0.1, z + 0.06, 6)]
    return union([body, *pulley])


def gear(f: Features, n: Nuisance) -> Manifold:
    """A spur wheel with lightening holes and a hub of three sizes."""
    height = n(0.24)
    body = prism(toothed(f["teeth"], 0.8, 1.0, 0.62, 0.34), height)
    body = union([body, *([cylinder(n(0.30 if f["hub"] == 1 else 0.36), 0.16 * f["hub"], height)] if f["hub"] else [])])
    holes = polar(cylinder(0.155, 1, -0.1, 20), f["holes"], 0.565) if f["holes"] else []
    return cut(body, [cylinder(n(0.16), 2, -0.5, 28), *holes])


def flange(f: Features, n: Nuisance) -> Manifold:
    """A plate (round or with 3, 4 or 6 sides) with bolt holes and a pipe stub."""
    height = n(0.18)
    if f["sides"] > 6:
        body = cylinder(1.0, height, 0, 64)
    else:
        radius = {3: 1.32, 4: 1.18, 6: 1.06}[f["sides"]]
        body = Manifold.extrude(polygon(f["sides"], radius, 0.12), height)
    parts = [body, cylinder(n(0.40), 0.08, height)]
    if f["hub"]:
        parts.append(cylinder(n(0.34), (0.0, 0.22, 0.6)[f["hub"]], height))
    holes = polar(cylinder(0.12, 1, -0.1, 20), f["holes"], 0.63)
    return cut(union(parts), [cylinder(n(0.22), 3, -0.5, 32), *holes])


def pump(f: Features, n: Nuisance) -> Manifold:
    """A pot with foot ears, side ports and bolt heads on its cover."""
    height = n(0.62)
    body = union([cylinder(n(0.58), height), cylinder(0.64, 0.12, height)])
    body = eared(body, f["ears"], lug(n(0.95), 0.34, 0.16, 0.09), 10)
    angles = [55 + 360 * k / f["ports"] for k in range(f["ports"])]
    z = 0.38
    ports = [tube(0.18, n(0.95), (0, 0, z), a) for a in angles]
    rims = [tube(0.25, 0.1, (0.9 * np.cos(np.radians(a)), 0.9 * np.sin(np.radians(a)), z), a) for a in angles]
    bores = [tube(0.12, 0.5, (0.7 * np.cos(np.radians(a)), 0.7 * np.sin(np.radians(a)), z), a) for a in angles]
    top = height + 0.12
    heads = polar(cylinder(0.085, 0.1, top, 6), f["bolts"], 0.5)
    return cut(union([body, *ports, *rims, cylinder(0.28, 0.14, top, top=0.2), *heads]), bores)


def brake_disc(f: Features, n: Nuisance) -> Manifold:
    """A flat ring with radial vent slots and a raised hat with bolt holes."""
    body = union([cylinder(1.0, n(0.14), 0, 64), cylinder(0.5, n(0.36), 0, top=0.46)])
    slots = polar(box(0.30, 0.075, 1, -0.1).rotate((0, 0, 25)), f["slots"], 0.75) if f["slots"] else []
    bolts = polar(cylinder(0.075, 1, -0.1, 16), f["bolts"], 0.32)
    return cut(body, [cylinder(0.17, 1, -0.1, 28), *bolts, *slots])


def starter(f: Features, n: Nuisance) -> Manifold:
    """A lying motor with raised bands, a solenoid beside it and a flange with ears."""
    z = 0.45
    parts = [tube(n(0.42), 1.3, (-0.9, 0, z)), tube(0.3, 0.55, (0.4, 0, z)), tube(0.12, 0.3, (0.9, 0, z))]
    parts += [tube(0.47, 0.09, (-0.85 + 0.3 * k, 0, z)) for k in range(f["bands"])]
    parts += [tube(0.19, 0.8, (-0.5, -0.52, z + 0.1)), box(0.5, 0.4, 0.3, z - 0.1).translate((-0.1, -0.3, 0))]
    ear, hole = lug(n(0.68), 0.3, 0.14, 0.09)
    start = {1: 90, 2: 0, 3: 90}[f["ears"]]
    stand = [(m.rotate((0, 90, 0)).translate((0.42, 0, z))) for m in polar(ear, f["ears"], 0, start)]
    drill = [(m.rotate((0, 90, 0)).translate((0.42, 0, z))) for m in polar(hole, f["ears"], 0, start)]
    return cut(union([*parts, *stand]), drill)


def bracket(f: Features, n: Nuisance) -> Manifold:
    """An angle of two plates with holes in both and gussets between them."""
    t = n(0.14)
    base, back = box(1.8, 1.0, t), box(1.8, t, 0.9).translate((0, 0.5 - t / 2, 0))
    xs = np.linspace(-0.65, 0.65, f["ribs"]) if f["ribs"] > 1 else [0.0] * f["ribs"]
    outline = np.array([[-0.3, 0.0], [0.45, 0.0], [0.45, 0.7]])  # in (y, z)
    ribs = [prism(outline, 0.12).rotate((90, 0, 90)).translate((x - 0.06, 0, t / 2)) for x in xs]
    spots = np.linspace(-0.68, 0.68, f["holes"])
    holes = [cylinder(0.13, 0.6, -0.2, 18).translate((x, -0.27, 0)) for x in spots]
    eyes = np.linspace(-0.4, 0.4, f["eyes"]) if f["eyes"] > 1 else [0.0] * f["eyes"]
    holes += [tube(0.13, 0.6, (x, 0.2, 0.62), 90, 18) for x in eyes]
    return cut(union([base, back, *ribs]), holes)


def shaft(f: Features, n: Nuisance) -> Manifold:
    """A lying shaft of alternating diameters with keyways milled into its upper side."""
    length = 2.0 / f["steps"]
    radii = [0.17 if k % 2 else 0.30 for k in range(f["steps"])]
    z, parts, keys = 0.32, [], []
    for k, radius in enumerate(radii):
        parts.append(tube(n(radius), length + 0.02, (-1 + k * length, 0, z)))
    for k in range(f["keyways"]):
        x = -0.78 + 1.56 * (k + 0.5) / f["keyways"]
        keys.append(box(0.3, 0.14, 0.4, z + 0.06).translate((x, 0, 0)))
    collar = [tube(0.42, 0.14, (-0.35, 0, z))] if f["collar"] else []
    return cut(union([*parts, *collar]), keys)


def pulley(f: Features, n: Nuisance) -> Manifold:
    """A belt pulley with rim grooves and spokes (0 is a solid web)."""
    parts, z = [], 0.0
    for _ in range(f["grooves"]):
        parts += [cylinder(1.0, 0.08, z), cylinder(0.86, 0.12, z + 0.06)]
        z += 0.17
    parts.append(cylinder(1.0, 0.08, z))
    height = z + 0.08
    rim = cut(union(parts), [cylinder(n(0.74), 3, -1)])
    web = (
        polar(box(0.8, 0.2, height * 0.6, height * 0.2), f["spokes"], 0.4)
        if f["spokes"]
        else [cylinder(0.8, height * 0.4, height * 0.3)]
    )
    return cut(union([rim, *web, cylinder(n(0.28), height + 0.05)]), [cylinder(0.14, 3, -1, 24)])


def bearing(f: Features, n: Nuisance) -> Manifold:
    """Two rings with balls between them, the outer ring with mounting ears or none."""
    h = n(0.36)
    ear = lug(n(1.02), 0.36, 0.2, 0.1)
    body = cylinder(0.8, h)
    outer = cut(eared(body, f["ears"], ear) if f["ears"] else body, [cylinder(0.66, 2, -1)])
    inner = cut(cylinder(0.4, h), [cylinder(0.24, 2, -1)])
    cage = cut(cylinder(0.68, h * 0.4, h * 0.2), [cylinder(0.38, 2, -1)])
    size = min(0.15, 1.5 / f["balls"])
    balls = polar(Manifold.sphere(size, 16).translate((0, 0, h * 0.72)), f["balls"], 0.53)
    return union([outer, inner, cage, *balls])


def valve(f: Features, n: Nuisance) -> Manifold:
    """A pipe cross with flanged branches and a spoked hand wheel on its stem."""
    z, parts = 0.34, [Manifold.sphere(n(0.38), 32).translate((0, 0, 0.36))]
    for k in range(f["branches"]):
        angle = np.radians(360 * k / f["branches"])
        ends = 0.85 * np.cos(angle), 0.85 * np.sin(angle), z
        parts += [tube(0.2, 0.9, (0, 0, z), np.degrees(angle)), tube(0.33, 0.12, ends, np.degrees(angle))]
    parts.append(cylinder(0.1, n(0.6), 0.6, 20))
    wheel = cut(cylinder(0.62, 0.1, 1.08), [cylinder(0.5, 1, 0.9)])
    spokes = polar(box(0.56, 0.11, 0.08, 1.09), f["spokes"], 0.28, 30)
    return union([*parts, wheel, *spokes, cylinder(0.14, 0.2, 1.02, 20)])


def housing(f: Features, n: Nuisance) -> Manifold:
    """An open gear case with bored seats in a row and screw bosses around the rim."""
    h = n(0.5)
    body = cut(box(2.0, 1.2, h), [box(1.76, 0.96, h, 0.12)])
    xs = np.linspace(-0.55, 0.55, f["bores"]) if f["bores"] > 1 else [0.0]
    seat = 0.38 if f["bores"] < 3 else 0.27
    seats = [cylinder(seat, 0.3, 0, 32).translate((x, 0, 0)) for x in xs]
    holes = [cylinder(seat * 0.66, 2, -0.5, 28).translate((x, 0, 0)) for x in xs]
    per_side = f["bosses"] // 2
    spots = [(x, y) for x in np.linspace(-0.9, 0.9, per_side) for y in (-0.66, 0.66)]
    bosses = [cylinder(0.16, h, 0, 18).translate((x, y, 0)) for x, y in spots]
    holes += [cylinder(0.075, 2, -0.5, 14).translate((x, y, 0)) for x, y in spots]
    return cut(union([body, *seats, *bosses]), holes)


def sprocket(f: Features, n: Nuisance) -> Manifold:
    """A thin chain wheel with pointed teeth and windows between its arms."""
    body = prism(toothed(f["teeth"], 0.82, 1.0, 0.85, 0.12), n(0.11))
    outline = np.array([[0.36, -0.05], [0.66, -0.24], [0.70, 0.0], [0.66, 0.24], [0.36, 0.05]])
    width = {0: 1.0, 3: 1.7, 4: 1.3, 5: 1.0, 6: 0.8}[f["windows"]]
    windows = polar(prism(outline * (1, width), 1, -0.5), f["windows"]) if f["windows"] else []
    return cut(union([body, cylinder(n(0.26), 0.22)]), [cylinder(0.15, 2, -0.5, 28), *windows])


def lever(f: Features, n: Nuisance) -> Manifold:
    """A hub with flat arms, each drilled once or twice."""
    h = n(0.16)
    ear, hole = lug(n(0.85), 0.3, h, 0.09)
    arms = polar(ear, f["arms"])
    holes = polar(hole, f["arms"])
    if f["eyes"] == 2:
        holes += polar(cylinder(0.09, 2, -1, 16), f["arms"], 0.54)
    return cut(union([*arms, cylinder(n(0.34), 0.42)]), [*holes, cylinder(0.18, 2, -1, 24)])


def exhaust(f: Features, n: Nuisance) -> Manifold:
    """A manifold: a plate with runners in a row that end in a collector pipe."""
    count = f["runners"]
    xs = np.linspace(-0.85, 0.85, count)
    parts = [box(2.1, 0.14, 0.5).translate((0, 0.5, 0))]
    parts += [tube(min(0.17, 0.62 / count), 0.7, (x, -0.15, 0.25), 90, 24) for x in xs]
    parts.append(tube(n(0.2), 1.9, (-0.95, -0.15, 0.25)))
    outlets = np.linspace(-0.4, 0.4, f["outlets"]) if f["outlets"] > 1 else [0.0]
    parts += [tube(0.17, 0.6, (x, -0.15, 0.25), -90, 24) for x in outlets]
    parts += [tube(0.28, 0.1, (x, -0.7, 0.28), -90, 24) for x in outlets]
    return cut(union(parts), [tube(0.11, 0.4, (x, -0.5, 0.25), -90, 20) for x in outlets])


def impeller(f: Features, n: Nuisance) -> Manifold:
    """A disc with upright swept blades and a nose, with or without a rim."""
    blade = box(0.66, 0.075, n(0.42), 0.05).rotate((0, 0, 28)).translate((0.58, 0.1, 0))
    parts = [cylinder(0.95 if f["rim"] else 0.45, 0.1), cylinder(n(0.26), 0.6, top=0.14), *polar(blade, f["blades"])]
    return cut(union(parts), [cylinder(0.08, 2, -0.5, 20)])


def crankshaft(f: Features, n: Nuisance) -> Manifold:
    """A lying crank with throws to alternating sides and round webs."""
    count, z = f["throws"], 0.45
    pitch = 1.7 / count
    parts = [tube(0.14, 0.35, (-1.15, 0, z)), tube(0.14, 0.35, (0.8, 0, z))]
    for k in range(count):
        x, side = -0.85 + k * pitch, 0.2 * (-1) ** k
        web = tube(n(0.36), min(0.14, pitch * 0.28), (0, side * 0.6, z))
        parts += [web.translate((x, 0, 0)), web.translate((x + pitch * 0.55, 0, 0))]
        parts += [tube(0.11, pitch * 0.6, (x, side * 1.3, z)), tube(0.14, pitch * 0.5, (x + pitch * 0.55, 0, z))]
    return union([*parts, *([tube(0.45, 0.12, (1.0, 0, z))] if f["wheel"] else [])])


BUILDERS: dict[str, Callable[[Features, Nuisance], Manifold]] = {
    builder.__name__: builder
    for builder in (
        alternator,
        gear,
        flange,
        pump,
        brake_disc,
        starter,
        bracket,
        shaft,
        pulley,
        bearing,
        valve,
        housing,
        sprocket,
        lever,
        exhaust,
        impeller,
        crankshaft,
    )
}


# ---- finishing ----------------------------------------------------------------------------------------------------


def build(family: str, features: Features, rng: np.random.Generator) -> Manifold:
    """One part of a family: centred in x and y, standing on z = 0, inside a sphere of radius 1."""
    solid = BUILDERS[family](features, Nuisance(rng))
    low, high = np.array(solid.bounding_box()).reshape(2, 3)
    points = solid.to_mesh().vert_properties[:, :3]
    radius = np.linalg.norm(points - (low + high) / 2, axis=1).max()
    shift = -(low + high) / 2
    shift[2] = -low[2]
    return solid.translate(tuple(shift)).scale((1 / radius,) * 3)


def triangulate(solid: Manifold, edge: float = EDGE) -> Mesh:
    """The solid's mesh with edges of about ``edge`` and normals split along sharp edges."""
    fine = solid.calculate_normals(0, SHARP_DEGREES).refine_to_length(edge)
    mesh = fine.to_mesh()
    table = np.asarray(mesh.vert_properties, dtype=np.float32)
    if len(table) > MAX_VERTICES:
        raise ValueError(f"a mesh of {len(table)} vertices, at most {MAX_VERTICES} wanted: raise the edge ({edge})")
    normals = table[:, 3:6]
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return Mesh(np.ascontiguousarray(table[:, :3]), normals, np.asarray(mesh.tri_verts, dtype=np.uint32))
