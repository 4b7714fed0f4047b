"""Tiny cross-view sets of random pictures in the public layouts."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import scipy.io

from hloc_ext.datasets.cross_view.geography import latlon_of_utm

#: Metres that a degree of latitude is long, nearly.
DEGREE = 111_200.0


def write_picture(path: Path, width: int, height: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, width, height])
    coarse = rng.integers(0, 256, (4, 8, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST))


def write_cvusa(root: Path, count: int = 24, spacing: float = 60.0, places: str = "split_locations") -> None:
    """Places on a grid of 6 columns, `spacing` metres apart; the last quarter is the official val list."""
    rows, locations = [], []
    for number in range(1, count + 1):
        tile, pano = f"bingmap/19/{number:07d}.jpg", f"streetview/panos/{number:07d}.jpg"
        write_picture(root / tile, 75, 75, number)
        write_picture(root / pano, 88, 16, number)
        rows.append(f"{tile},{pano},streetview/annotations/{number:07d}.png\n")
        latitude = 39 + (number - 1) // 6 * spacing / DEGREE
        longitude = -93 + (number - 1) % 6 * spacing / (DEGREE * np.cos(np.radians(39)))
        locations.append(f"{latitude},{longitude},{latitude},{longitude},0\n")
    test = count // 4
    (root / "splits").mkdir()
    (root / "splits" / "train-19zl.csv").write_text("".join(rows[:-test]))
    (root / "splits" / "val-19zl.csv").write_text("".join(rows[-test:]))
    folder = root / places
    folder.mkdir(exist_ok=True)
    (folder / "all.csv").write_text("".join(locations))


def write_cvact(
    root: Path, count: int = 12, names: tuple[str, str] = ("ANU_data_small", "ANU_data_test")
) -> None:
    """Half of the places are for training, the others for test, of which every second is for validation."""
    ids = [f"pano{number:018d}" for number in range(count)]
    utm = np.array([[693_000.0 + 500 * number, 6_093_000.0 + 100 * number] for number in range(count)])
    train, test = np.arange(count // 2), np.arange(count // 2, count)
    for folder, members in zip(names, ([*train, *test[::2]], test), strict=True):
        for index in members:
            write_picture(root / folder / "streetview" / f"{ids[index]}_grdView.jpg", 64, 32, index)
            write_picture(
                root / folder / "satview_polish" / f"{ids[index]}_satView_polish.jpg", 60, 60, index
            )

    def struct(prefix: str, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {f"{prefix}Num": np.array([[len(indices)]]), f"{prefix}Ind": (indices + 1)[:, None]}

    content = {
        "panoIds": np.array(ids),
        "utm": utm,
        "trainSet": struct("train", train),
        "valSet": struct("val", test[::2]),
        "valSetAll": struct("val", test),
    }
    where = root / "ACT_data.mat" if names[0] == "ANU_data_small" else root / names[0] / "ACT_data.mat"
    scipy.io.savemat(where, content)


VIGOR_CITIES = ("Chicago", "NewYork", "SanFrancisco", "Seattle")
VIGOR_PLACES = ((41.85, 16), (40.75, 18), (37.77, 10), (47.6, 10))
VIGOR_PIXELS = (0.111262, 0.113248, 0.118141, 0.100817)


def write_vigor(
    root: Path, official: bool = True, columns: int = 8, cities: tuple[str, ...] = VIGOR_CITIES
) -> dict[str, list[tuple[str, list[tuple[str, float, float]]]]]:
    """A grid of `columns` × `columns` tiles in each city, half a tile apart; a panorama where four overlap.

    Returns:
        Of each city the panoramas, each with four of (tile, d0, d1), the positive one first.
    """
    labels = {}
    for number, city in enumerate(VIGOR_CITIES):
        if city not in cities:
            continue
        (latitude, zone), pixel = VIGOR_PLACES[number], VIGOR_PIXELS[number]
        half = 320 * pixel
        center = np.array([500_000.0, latitude * DEGREE])

        def name_of(column: int, row: int, center=center, half=half, zone=zone) -> str:
            place = latlon_of_utm(center[None] + [[column * half, -row * half]], zone, True)[0]
            return f"satellite_{place[0]:.9f}_{place[1]:.9f}.png"

        ground = root / city / "panorama" if official else root / "ground" / city
        aerial = root / city / "satellite" if official else root / "satellite" / city
        tiles = [name_of(column, row) for row in range(columns) for column in range(columns)]
        for index, name in enumerate(tiles):
            write_picture(aerial / name, 64, 64, index)
        rng = np.random.default_rng([number, 3])
        rows = []
        for row in range(columns - 1):
            for column in range(columns - 1):
                # In pixels from the centre of the tile (column, row), of whose cell the panorama is in.
                x, y = rng.uniform(20, 150, 2)
                place = center + np.array([column * half + x * pixel, -row * half - y * pixel])
                lat, lon = latlon_of_utm(place[None], zone, True)[0]
                around = [
                    (tiles[(row + b) * columns + column + a], y - 320 * b, 320 * a - x)
                    for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))
                ]
                name = f"id{row}_{column},{lat:.9f},{lon:.9f},.jpg"
                write_picture(ground / name, 64, 32, row * columns + column)
                rows.append((name, around))
        labels[city] = rows
        folder = root / "splits" / city
        folder.mkdir(parents=True)
        (folder / "satellite_list.txt").write_text("".join(f"{name}\n" for name in tiles))
        lines = [" ".join([n, *(f"{t} {d0:.6f} {d1:.6f}" for t, d0, d1 in a)]) + "\n" for n, a in rows]
        (folder / "pano_label_balanced.txt").write_text("".join(lines))
        (folder / "same_area_balanced_train.txt").write_text("".join(lines[::2]))
        (folder / "same_area_balanced_test.txt").write_text("".join(lines[1::2]))
    return labels


def made_set(positives: list[int], tiles: int, semi: list[list[int]] | None = None, **others: object):
    """A set without files."""
    from hloc_ext.datasets.cross_view.layout import CrossViewSet

    count = len(positives)
    values: dict = {
        "name": "vigor",
        "split": "train",
        "area": "same",
        "root": Path("nowhere"),
        "grounds": [Path(f"g{i}.jpg") for i in range(count)],
        "aerials": [Path(f"a{i}.png") for i in range(tiles)],
        "positives": np.array(positives, np.int64),
        "semi_positives": np.array(semi if semi is not None else np.empty((count, 0)), np.int64),
        "ground_latlon": np.full((count, 2), np.nan),
        "aerial_latlon": np.full((tiles, 2), np.nan),
        "ground_positions": np.full((count, 2), np.nan),
        "aerial_positions": np.full((tiles, 2), np.nan),
        "crs": "",
        "offsets": np.zeros((count, 2)),
        "tile_size": np.full(tiles, 70.0),
        "elevation": (-90.0, 90.0),
        "headings": np.zeros(count),
        "fields_of_view": np.full(count, 360.0),
        "aerial_labels": [None] * tiles,
        "provenance": frozenset({"vigor/Chicago/train"}),
    }
    return CrossViewSet(**{**values, **others})
