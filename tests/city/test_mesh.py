from __future__ import annotations

import numpy as np

from hloc_ext.city.labels import Label
from hloc_ext.city.mesh import FIT, Mesh, MeshBuilder


def square() -> Mesh:
    builder = MeshBuilder()
    corners = [[[0, 0, 1], [2, 0, 1], [2, 0, 0], [0, 0, 0]]]
    builder.add_quads(corners, FIT, 3, Label.BUILDING, 7, (10, 20, 30), 40)
    return builder.build()


def test_a_quad_is_two_triangles() -> None:
    mesh = square()
    assert len(mesh) == 2
    np.testing.assert_array_equal(mesh.vertices[1], [[0, 0, 1], [2, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(mesh.uv[1], [[0, 0], [1, 1], [0, 1]])
    for name, value in {"texture": 3, "label": 3, "object_id": 7, "glow": 40}.items():
        np.testing.assert_array_equal(getattr(mesh, name), [value, value])
    np.testing.assert_array_equal(mesh.tint, [[10, 20, 30]] * 2)


def test_values_for_each_quad() -> None:
    builder = MeshBuilder()
    corners = np.zeros((2, 4, 3))
    builder.add_quads(corners, FIT, [1, 2], Label.ROAD, tint=[[1, 2, 3], [4, 5, 6]], glow=[0, 9])
    mesh = builder.build()
    np.testing.assert_array_equal(mesh.texture, [1, 1, 2, 2])
    np.testing.assert_array_equal(mesh.tint[:, 0], [1, 1, 4, 4])
    np.testing.assert_array_equal(mesh.glow, [0, 0, 9, 9])


def test_nothing_is_a_mesh_too() -> None:
    assert len(MeshBuilder().build()) == len(Mesh.concatenate([])) == 0
    assert len(Mesh.concatenate([square(), square()])) == 4


def test_moved() -> None:
    mesh = square()
    moved = mesh.moved(10, 20, np.pi / 2, 2.0, 1.0)
    np.testing.assert_allclose(moved.vertices[0, 1], [10, 24, 3], atol=1e-5)  # was (2, 0, 1)
    np.testing.assert_array_equal(mesh.vertices[0, 1], [2, 0, 1])
    moved.texture[0] = 9
    assert mesh.texture[0] == 3
