from __future__ import annotations

import numpy as np
import pytest

from hloc_ext.city.labels import Label
from hloc_ext.city.mesh import FIT
from hloc_ext.city.streets.solids import Modeller
from tests.city.small_plan import flat_textures


@pytest.fixture
def model():
    return Modeller(flat_textures(), Label.OTHER)


def _area(vertices):
    return (
        np.linalg.norm(
            np.cross(vertices[:, 1] - vertices[:, 0], vertices[:, 2] - vertices[:, 0]), axis=1
        ).sum()
        / 2
    )


def test_surface_of_solids(model):
    model.box((0, 0, 0), (1, 2, 3), 0, bottom=True)
    assert _area(model.build().mesh.vertices) == pytest.approx(2 * (2 + 3 + 6))


def test_surface_of_a_tube(model):
    model.tube([(0, 0, 0), (0, 0, 1), (0, 0, 5)], 0.5, 64, 0)
    assert _area(model.build().mesh.vertices) == pytest.approx(5 * np.pi + 2 * np.pi * 0.25, rel=2e-3)


def test_texture_coordinates_are_metric(model):
    model.quads([[(0, 0, 3), (2, 0, 3), (2, 0, 0), (0, 0, 0)]], 0)
    mesh = model.build().mesh
    steps = mesh.uv[0, 1] - mesh.uv[0, 0], mesh.uv[0, 2] - mesh.uv[0, 1]
    # The pictures cover 2 m x 2 m.
    np.testing.assert_allclose(steps, [(1, 0), (0, 1.5)], atol=1e-6)


def test_copies_are_scaled_turned_moved_and_tinted(model):
    model.quads([[(1, 0, 1), (1, 1, 1), (1, 1, 0), (1, 0, 0)]], 0, tint=255, uv=FIT)
    model.slot = 1
    model.quads([[(2, 0, 1), (2, 1, 1), (2, 1, 0), (2, 0, 0)]], 0, tint=(200, 100, 50), uv=FIT)
    colors = np.array([[(255, 255, 255)], [(51, 255, 0)]])
    mesh = model.build().copies([(0, 0, 0), (10, 20, 5)], [0, np.pi / 2], [1.0, 2.0], [7, 9], colors)
    assert mesh.object_id.tolist() == [7] * 4 + [9] * 4
    np.testing.assert_allclose(mesh.vertices[4, 0], (10, 22, 7), atol=1e-5)
    assert mesh.tint[[0, 2, 4, 6]].tolist() == [[255] * 3, [200, 100, 50], [255] * 3, [40, 100, 0]]


def test_unit_scales_the_pictures():
    plain, small = (Modeller(flat_textures(), Label.OTHER, unit) for unit in (1.0, 3.0))
    for model in (plain, small):
        model.triangles([[(0, 0, 0), (1, 0, 0), (0, 1, 0)]], 0)
    np.testing.assert_allclose(3 * plain.build().mesh.uv, small.build().mesh.uv)
