"""The report of cross-view retrieval, and what it is made of: localizations, pictures, charts, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hloc_ext.cross_view.descriptors import (
    Condition,
    CrossViewNetworks,
    GroundDescriptors,
    by_field_of_view,
    ground_images,
)
from hloc_ext.cross_view.index import CrossViewIndex, Retrieved
from hloc_ext.cross_view.localization import Localization, read_tile_label
from hloc_ext.datasets.cross_view.layout import CrossViewSet
from hloc_ext.datasets.cross_view.pairs import CrossViewImages
from hloc_ext.datasets.cross_view.pictures import MEAN, STD
from hloc_ext.formats.geojson import write_geojson
from hloc_ext.formats.images import read_image
from hloc_ext.models.bev import SSANetwork
from hloc_ext.models.bev_geometry import IGNORE, visible_cells
from hloc_ext.report import Card, Chart, Picture, PictureGroup
from pipelines.cross_view_evaluation import Outcome
from pipelines.cross_view_pictures import (
    SEMI,
    TILE,
    TRUE,
    UNKNOWN,
    WRONG,
    activation,
    class_picture,
    embedding_chart,
    heated,
    map_chart,
    pose_picture,
    recall_chart,
    row_of,
    stacked,
    strip,
    tile_picture,
    top_tiles,
)

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Shown:
    """Queries, what was found for them, and what with.

    Attributes:
        queries: Q panoramas or photos; those without a true tile have the positive −1.
        places: where they were found.
        retrieved: their tiles.
        grounds: their descriptors.
        networks: that described them; those of the tiles may be missing.
        index: of the tiles.
        condition: how the queries came.
        seed: of their headings, where they are random.
    """

    queries: CrossViewSet
    places: Sequence[Localization]
    retrieved: Retrieved
    grounds: GroundDescriptors
    networks: CrossViewNetworks
    index: CrossViewIndex
    condition: Condition
    seed: int = 0


def pick(shown: Shown, number: int) -> list[int]:
    """Queries to show: evenly spaced from the surest right answer to the surest wrong one."""
    positives = shown.queries.positives
    right = shown.retrieved.tiles[:, 0] == positives
    rank = np.where(positives < 0, 0, np.where(right, -1, 1))
    scores = shown.retrieved.scores
    margin = scores[:, 0] - scores[:, min(1, scores.shape[1] - 1)]
    order = np.lexsort((np.where(rank > 0, margin, -margin), rank))
    chosen = np.linspace(0, len(order) - 1, min(number, len(order))).round().astype(int)
    return [int(row) for row in order[np.unique(chosen)]]


def cards_of(outcome: Outcome) -> list[Card]:
    """Main figures of a method."""
    row = outcome.scores.row()
    cards = [Card(name, f"{row[name]:.1f} %", outcome.method) for name in ("R@1", "R@5", "R@10", "R@1%")]
    if row["hit rate"] is not None:
        cards.append(Card("hit rate", f"{row['hit rate']:.1f} %", "semi-positives not counted"))
    if row["median m"] is not None:
        cards.append(Card("median distance", f"{row['median m']:.1f} m", "camera to the first tile's centre"))
    cards.append(Card("queries, tiles", f"{outcome.scores.num_queries:,}, {outcome.scores.num_references:,}"))
    return cards


def charts_of(shown: Shown, outcomes: Mapping[str, Outcome], embedding: str = "pca") -> list[Chart]:
    """Recall curve, map of the places, map of the descriptors; those for which something is known."""
    figures = {}
    ranks = {name: o.scores.ranks for name, o in outcomes.items() if o.scores.ranks is not None}
    if ranks:
        figures["share of queries over number of tiles"] = recall_chart(ranks)
    if any(np.isfinite(place.latlon).all() for place in shown.places):
        figures["true and found places"] = map_chart(shown.places, shown.queries.ground_latlon)
    title, note = "Places", "True and found places."
    if ranks:
        title = "Recall and places"
        note = (
            "Left: share of the queries whose true tile is among the first k; dotted: equal tiles come before"
            " it. Right: true and found places."
        )
    charts = [Chart(title, figures, note)] if figures else []
    positives = shown.queries.positives
    rows = np.flatnonzero(positives >= 0)
    if len(rows) >= 3 and shown.index.kind == "flat":
        values = shown.grounds.values
        best = values if values.ndim == 2 else values[np.arange(len(values)), shown.retrieved.turns[:, 0]]
        names = [shown.places[int(row)].name for row in rows]
        found = shown.retrieved.tiles[rows, 0] == positives[rows]
        chart = embedding_chart(
            shown.index.descriptors(), best[rows], positives[rows], found, names, embedding
        )
        note = f"Panoramas and their tiles in the space of the descriptors, by {embedding.upper()}."
        charts.append(Chart("Embeddings", {"map of the descriptors": chart}, note))
    return charts


def groups_of(shown: Shown, number: int = 8) -> list[PictureGroup]:
    """Top tiles, activation maps, and bird's-eye views of some queries."""
    rows = pick(shown, number)
    note = (
        "Frames: green the true tile, orange a semi-positive one, red a wrong one, grey unknown. From the"
        " surest right answer to the surest wrong one."
    )
    groups = [PictureGroup("Most similar tiles", [_top(shown, row) for row in rows], note)]
    pictures = [_sample(shown, row) for row in rows]
    heat = [_activations(shown, row, picture) for row, picture in zip(rows, pictures, strict=True)]
    note = "What makes the panorama and the best tile similar: input times gradient of their similarity."
    groups.append(PictureGroup("Activation maps", heat, note))
    if isinstance(shown.networks.models["ground"].net, SSANetwork):
        drawn = [_bev(shown, row, picture) for row, picture in zip(rows, pictures, strict=True)]
        note = (
            "From left to right: what the network draws from the panorama, forward up; the same without what"
            " buildings hide; the class map of the best tile, as much of it as is drawn; the whole tile, with"
            " the probability of the position and the pose where it was searched."
        )
        groups.append(PictureGroup("Bird's-eye views", drawn, note))
    return groups


def _colors(shown: Shown, row: int) -> list[Color]:
    positive = shown.queries.positives[row]
    semi = set(shown.queries.semi_positives[row].tolist())
    if positive < 0:
        return [UNKNOWN] * shown.retrieved.tiles.shape[1]
    tiles = shown.retrieved.tiles[row].tolist()
    return [TRUE if tile == positive else SEMI if tile in semi else WRONG for tile in tiles]


def _top(shown: Shown, row: int) -> Picture:
    tiles, table = shown.retrieved.tiles[row], shown.index.table
    picture = top_tiles(
        shown.queries.grounds[row], [table.path(int(tile)) for tile in tiles], _colors(shown, row)
    )
    place = shown.places[row]
    facts = ["similarity " + ", ".join(f"{score:.3f}" for score in place.scores)]
    if np.isfinite(place.error):
        facts.append(f"{place.error:.1f} m from the true place")
    if np.isfinite(place.heading) and place.heading_from != "given":
        facts.append(f"heading {place.heading:.0f}° by {place.heading_from}")
    return Picture(place.name, picture, "; ".join(facts))


def _sample(shown: Shown, row: int) -> tuple[torch.Tensor, float]:
    """What the network saw of a query, 3×H×W normalised, and its field of view."""
    for fov, rows in by_field_of_view(shown.queries, shown.condition.fov):
        if row in rows:
            images = ground_images(
                shown.queries.subset(rows),
                shown.networks.models["ground"],
                fov,
                shown.condition,
                shown.seed,
            )
            return images[int(np.flatnonzero(rows == row)[0])]["image"].to(shown.networks.device), fov
    raise AssertionError(row)  # every query has a field of view


def _activations(shown: Shown, row: int, sample: tuple[torch.Tensor, float]) -> Picture:
    image, fov = sample
    model, device = shown.networks.models["ground"], shown.networks.device
    tile = int(shown.retrieved.tiles[row, 0])
    pictures = []
    if shown.index.kind == "flat":
        other = torch.from_numpy(shown.index.index.reconstruct(tile)).to(device)
        turn = int(shown.retrieved.turns[row, 0])
        if model.sectors > 1:  # turn the tile to the panorama instead of the panorama to the tile
            heading = shown.grounds.headings[row, min(turn, shown.grounds.headings.shape[1] - 1)]
            steps = 0 if np.isnan(heading) else round(heading * model.sectors / 360)
            other = other.unflatten(0, (-1, model.sectors)).roll(-steps, 1).flatten()
        heat = activation(model, image, other)
        as_it_is = fov == 360 and shown.condition.heading_known and not shown.queries.headings[row] % 360 > 0
        picture = read_image(shown.queries.grounds[row]) if as_it_is else _picture_of(image)
        pictures.append(strip(heated(picture, heat)))
    path = shown.index.table.path(tile)
    if "aerial" in shown.networks.models and path.exists():
        aerial = shown.networks.models["aerial"]
        query = shown.grounds.values[row]
        query = query[int(shown.retrieved.turns[row, 0])] if query.ndim == 2 else query
        seen = _tile_sample(shown, tile, aerial.info.sizes["aerial"])
        heat = activation(aerial, seen.to(device), torch.from_numpy(query).to(device))
        side = 2 * TILE
        pictures.append(row_of([tile_picture(path, side), heated(tile_picture(path, side), heat)]))
    return Picture(shown.places[row].name, stacked(pictures or [strip(shown.queries.grounds[row])]))


def _tile_sample(shown: Shown, tile: int, size: tuple[int, int]) -> torch.Tensor:
    """A tile as its network sees it."""
    table = shown.index.table
    single = replace(
        shown.queries.subset([]),
        aerials=[table.path(tile)],
        aerial_latlon=table.latlon[[tile]],
        aerial_positions=np.full((1, 2), np.nan),
        tile_size=table.size[[tile]],
        aerial_labels=[None],
    )
    return CrossViewImages(single, "aerial", size)[0]["image"]


def _picture_of(image: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Undo the normalisation of a picture, 3×H×W to H×W×3."""
    values = image.cpu().permute(1, 2, 0).numpy() * np.array(STD) + np.array(MEAN)
    return np.clip(np.rint(255 * values), 0, 255).astype(np.uint8)


@torch.inference_mode()
def _bev(shown: Shown, row: int, sample: tuple[torch.Tensor, float]) -> Picture:
    image, fov = sample
    network: Any = shown.networks.models["ground"].net
    drawn = network.bev(image[None])[0].argmax(0)
    seen = torch.where(visible_cells(drawn[None], fov=fov)[0], drawn, IGNORE)
    tile = int(shown.retrieved.tiles[row, 0])
    side = (4 * TILE) // 3
    pictures = [class_picture(classes.cpu().numpy(), side) for classes in (drawn, seen)]
    label = read_tile_label(shown.index.table, tile, network.config.bev.label_size)
    if label is not None:
        pictures.append(class_picture(network.config.bev.middle(torch.from_numpy(label)).numpy(), side))
    pictures.append(pose_picture(shown.index.table.path(tile), shown.places[row], side))
    return Picture(shown.places[row].name, stacked([strip(shown.queries.grounds[row]), row_of(pictures)]))


def results_of(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Figures of all methods and conditions, for JSON."""
    return [
        {
            "method": outcome.method,
            "fov": outcome.condition.fov,
            "heading_known": outcome.condition.heading_known,
            **outcome.scores.to_dict(),
            "median_heading_error": outcome.row()["median heading error °"],
        }
        for outcome in outcomes
    ]


def write_places(path: Path, places: Sequence[Localization]) -> Path:
    """Write where queries were found as GeoJSON."""
    return write_geojson(path, (place.feature() for place in places))
