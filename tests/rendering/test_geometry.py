"""Parts are whole solids of a known size, quick to build, and their features are there."""

import numpy as np
import pytest
import trimesh
from manifold3d import Error, Manifold

from partsynth.rendering import catalog, geometry, wear


def _corners(family):
    """A family's variants at both ends of every feature's range and in the middle."""
    variants = catalog.all_variants(family)
    return variants[0], variants[len(variants) // 2], variants[-1]


@pytest.mark.parametrize("family", sorted(catalog.CATALOG))
def test_parts_are_watertight_and_of_unit_size(family):
    for variant in _corners(family):
        solid = geometry.build(family, variant.values, np.random.default_rng(1))
        assert solid.status() == Error.NoError and len(solid.decompose()) == 1, variant.name
        raw = solid.to_mesh()
        mesh = trimesh.Trimesh(raw.vert_properties[:, :3], raw.tri_verts, process=False)
        assert mesh.is_watertight and mesh.volume > 0.02
        low, high = mesh.bounds
        assert abs(low[2]) < 1e-5 and np.abs((low + high)[:2]).max() < 1e-5
        centre = (low + high) / 2
        assert np.linalg.norm(mesh.vertices - centre, axis=1).max() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("family", sorted(catalog.CATALOG))
def test_meshes_are_fine_enough_for_wear_and_bounded(family):
    mesh = geometry.triangulate(geometry.build(family, _corners(family)[-1].values, np.random.default_rng(0)))
    edges = np.linalg.norm(mesh.vertices[mesh.faces] - mesh.vertices[np.roll(mesh.faces, 1, axis=1)], axis=2)
    assert edges.max() <= 2.5 * geometry.EDGE and np.quantile(edges, 0.9) <= 1.2 * geometry.EDGE
    assert len(mesh.vertices) < 20_000
    assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-4)


def test_counts_change_the_solid_as_they_should():
    genus = {n: geometry.BUILDERS["gear"]({"teeth": 12, "holes": n, "hub": 1}, _exact()).genus() for n in (0, 3, 6)}
    assert genus == {0: 1, 3: 4, 6: 7}  # the bore and n holes


def _exact() -> geometry.Nuisance:
    return geometry.Nuisance(np.random.default_rng(0), 0.0)


def test_a_part_is_its_seed():
    one, same, other = (
        geometry.build("pump", {"ears": 3, "ports": 2, "bolts": 4}, np.random.default_rng(s)).volume()
        for s in (1, 1, 2)
    )
    assert one == same != other
    assert other == pytest.approx(one, rel=0.5)


def test_too_fine_a_mesh_is_refused(monkeypatch):
    monkeypatch.setattr(geometry, "MAX_VERTICES", 500)
    with pytest.raises(ValueError, match="vertices"):
        geometry.triangulate(Manifold.cube((1, 1, 1)), 0.05)


@pytest.mark.parametrize("severity", [0.1, 0.9])
def test_breaking_takes_a_real_piece_and_marks_it(severity):
    for seed in range(4):
        worn = wear.Wear("broken", severity, "steel", seed)
        solid = geometry.build("flange", {"sides": 32, "holes": 4, "hub": 1}, np.random.default_rng(0))
        rest, fracture = wear.strike(solid, worn)
        lost = 1 - rest.volume() / solid.volume()
        assert 0.03 < lost < 0.5, lost
        mesh = geometry.triangulate(rest)
        skin, whole = wear.surface(mesh, worn, fracture), wear.surface(mesh, worn)
        assert 0.002 < (skin.colour != whole.colour).any(axis=1).mean() < 0.5


@pytest.mark.parametrize("state", wear.STATES)
@pytest.mark.parametrize("severity", [0.0, 1.0])
def test_surfaces_are_physical(state, severity):
    mesh = geometry.triangulate(geometry.build("lever", {"arms": 3, "eyes": 1}, np.random.default_rng(0)))
    skin = wear.surface(mesh, wear.Wear(state, severity, "steel", 3))
    for values in (skin.colour, skin.roughness, skin.metallic):
        assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1


def test_rust_is_orange_and_new_is_not():
    mesh = geometry.triangulate(geometry.build("lever", {"arms": 3, "eyes": 1}, np.random.default_rng(0)))

    def warmth(state):
        colour = wear.surface(mesh, wear.Wear(state, 0.7, "steel", 3)).colour
        return float(np.mean(colour[:, 0] - colour[:, 2]))

    assert warmth("rusty") > 0.1 > abs(warmth("brand new"))
