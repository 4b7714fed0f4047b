"""The HTML page: every section is built here and set into ``assets/page.html``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import plotly.graph_objects
import plotly.offline
import pycolmap

from ..errors import InputError
from ..evaluation import Evaluation
from ..formats.atomic import write_text
from ..formats.results import QueryResult, Status
from .charts import recall_figure
from .data import Chart, MatchPicture, Picture, PictureGroup, ReportData, Scene, Swipe, SwipeGroup, Table
from .match_picture import MAX_LINES, draw_matches, jpeg_data_uri, load_picture
from .scene3d import scene_figure
from .stages import StageRecord


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits; a dash for None, ∞ for infinity."""
    if value is None or np.isnan(value):
        return "–"
    if np.isinf(value):
        return "∞"
    if value == 0 or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{digits - 1 - int(np.floor(np.log10(abs(value))))}f}"


def _section(heading: str, body: str, note: str = "") -> str:
    note = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(heading)}</h2>{note}{body}</section>"


def _card(label: str, value: str, detail: str = "", kind: str = "") -> str:
    detail = f'<div class="detail">{escape(detail)}</div>' if detail else ""
    return (
        f'<div class="card {kind}"><div class="label">{escape(label)}</div>'
        f'<div class="value">{escape(value)}</div>{detail}</div>'
    )


def _status_cards(results: Sequence[QueryResult]) -> list[str]:
    details = {
        Status.LOCALIZED: "passed the acceptance tests",
        Status.FALLBACK: "pose of the best map image",
        Status.FAILED: "no pose",
    }
    cards = []
    for status, detail in details.items():
        count = sum(result.status is status for result in results)
        share = f"{100 * count / len(results):.1f} %"
        kind = status.value if count or status is Status.LOCALIZED else "none"
        cards.append(_card(status.value, f"{count:,} of {len(results):,}", f"{share} · {detail}", kind))
    return cards


def _scene_cards(scene: Scene) -> list[str]:
    cards = [
        _card("map images", f"{len(scene.map_poses):,}"),
        _card("3-D points", f"{len(scene.points):,}"),
    ]
    if scene.mean_reprojection_error is not None:
        cards.append(_card("reprojection error", f"{number(scene.mean_reprojection_error)} px", "map, mean"))
    return cards


def _evaluation_cards(evaluation: Evaluation, unit: str) -> list[str]:
    position, rotation = evaluation.medians
    cards = [
        _card("median position error", f"{number(position)} {unit}", "all queries"),
        _card("median rotation error", f"{number(rotation)}°", "all queries"),
    ]
    for threshold, recall, localized in zip(
        evaluation.thresholds, evaluation.recall, evaluation.recall_localized, strict=True
    ):
        detail = "of all queries"
        if evaluation.counts[Status.FALLBACK.value]:
            detail = f"{100 * localized:.1f} % localized, {100 * (recall - localized):.1f} % fallback"
        label = f"within {threshold[0]:g} {unit}, {threshold[1]:g}°"
        cards.append(_card(label, f"{100 * recall:.1f} %", detail))
    return cards


def _summary(run: ReportData, scene: Scene | None) -> str:
    cards = _status_cards(run.results) if run.results else []
    cards += _scene_cards(scene) if scene else []
    groups = [cards, _evaluation_cards(run.evaluation, run.unit) if run.evaluation else []]
    groups.append([_card(card.label, card.value, card.detail) for card in run.cards])
    return "".join(f'<div class="cards">{"".join(group)}</div>' for group in groups if group)


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{items}</dl>' if items else ""


def _cell(value: float | int | None, text: str) -> str:
    """Numeric cell that sorts by its value; a missing value sorts last."""
    key = "" if value is None or np.isnan(value) else repr(float(value))
    return f'<td class="number" data-value="{key}">{escape(text)}</td>'


def _table(headers: Sequence[tuple[str, bool]], rows: Iterable[str], name: str, sortable: bool) -> str:
    """A table; headers are (text, numeric)."""
    cells = []
    for text, numeric in headers:
        label = f'<button type="button">{escape(text)}</button>' if sortable else escape(text)
        cells.append(f'<th scope="col"{" class=number" if numeric else ""}>{label}</th>')
    kind = "sortable" if sortable else ""
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{escape(name)}"><table class="{kind}">'
        f"<thead><tr>{''.join(cells)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _query_row(result: QueryResult, evaluation: Evaluation | None) -> str:
    ratio = result.inlier_ratio if result.num_matches else None
    status = result.status.value
    order = list(Status).index(result.status)
    cells = [
        f'<th scope="row">{escape(result.name)}</th>',
        f'<td data-value="{order}"><span class="badge {status}">{status}</span></td>',
        _cell(result.num_inliers, f"{result.num_inliers:,}"),
        _cell(result.num_matches, f"{result.num_matches:,}"),
        _cell(ratio, "–" if ratio is None else f"{100 * ratio:.0f} %"),
        _cell(result.reprojection_error, number(result.reprojection_error)),
    ]
    if evaluation is not None:
        error = evaluation.errors.get(result.name)
        for value in (error.position, error.rotation) if error else (None, None):
            cells.append(_cell(value, number(value)))
    cells.append(f'<td class="reason">{escape(result.reason)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _queries(results: Sequence[QueryResult], evaluation: Evaluation | None, unit: str) -> str:
    headers = [("query", False), ("status", False), ("inliers", True), ("matches", True), ("ratio", True)]
    headers.append(("reprojection (px)", True))
    if evaluation is not None:
        headers += [(f"position ({unit})", True), ("rotation (°)", True)]
    headers.append(("reason", False))
    rows = (_query_row(result, evaluation) for result in results)
    filter_box = (
        '<input type="search" class="filter" placeholder="Filter queries" aria-label="Filter queries">'
    )
    return filter_box + _table(headers, rows, "Queries", sortable=True)


def _stages(stages: Sequence[StageRecord]) -> str:
    rows = []
    for stage in stages:
        count = "–" if stage.count is None else f"{stage.count:,}"
        peak = "–" if stage.peak_mib is None else f"{stage.peak_mib:,.0f}"
        state = f'<span class="badge {stage.state}">{escape(stage.state)}</span>'
        rows.append(
            f'<tr><th scope="row">{escape(stage.name)}</th>{_cell(stage.seconds, f"{stage.seconds:,.2f}")}'
            f"{_cell(stage.peak_mib, peak)}{_cell(stage.count, count)}<td>{state}</td>"
            f'<td class="reason">{escape(stage.note)}</td></tr>'
        )
    total = sum(stage.seconds for stage in stages)
    rows.append(
        f'<tr class="total"><th scope="row">total</th>{_cell(total, f"{total:,.2f}")}<td></td><td></td>'
        "<td></td><td></td></tr>"
    )
    headers = [("stage", False), ("seconds", True), ("peak MiB", True), ("count", True), ("state", False)]
    return _table([*headers, ("note", False)], rows, "Stages", sortable=False)


def _match_figure(picture: MatchPicture) -> str:
    number_of_inliers = int(np.sum(picture.inliers))
    caption = f"{number_of_inliers:,} inliers of {len(picture.inliers):,} matches"
    source = jpeg_data_uri(draw_matches(picture))
    return (
        f'<figure class="matches"><figcaption><strong>{escape(picture.title)}</strong> <span>{caption}</span>'
        f'</figcaption><img src="{source}" alt="{escape(picture.title)}"></figure>'
    )


def _picture_section(picture: Picture) -> str:
    source = jpeg_data_uri(load_picture(picture.image))
    image = f'<img class="picture" src="{source}" alt="{escape(picture.title)}">'
    return _section(picture.title, image, picture.note)


def _picture_group(group: PictureGroup) -> str:
    figures = []
    for picture in group.pictures:
        caption = f"<strong>{escape(picture.title)}</strong> <span>{escape(picture.note)}</span>"
        source = jpeg_data_uri(load_picture(picture.image))
        image = f'<img src="{source}" alt="{escape(picture.title)}">'
        figures.append(f'<figure class="matches"><figcaption>{caption}</figcaption>{image}</figure>')
    return _section(group.title, "".join(figures), group.note)


def _swipe_figure(swipe: Swipe) -> str:
    pictures = [load_picture(image) for image in (swipe.before, swipe.after)]
    if pictures[0].shape != pictures[1].shape:
        raise InputError(
            f"The pictures of the swipe view '{swipe.title}' differ in size: {pictures[0].shape} and"
            f" {pictures[1].shape}."
        )
    images = "".join(
        f'<img class="{kind}" src="{jpeg_data_uri(picture)}" alt="{escape(swipe.title)}, {escape(label)}">'
        for kind, picture, label in zip(("first", "second"), pictures, swipe.labels, strict=True)
    )
    tags = "".join(
        f'<span class="tag {kind}">{escape(label)}</span>'
        for kind, label in zip(("first", "second"), swipe.labels, strict=True)
    )
    slider = (
        '<input type="range" min="0" max="100" step="0.1" value="50"'
        f' aria-label="{escape(swipe.title)}: border between {escape(" and ".join(swipe.labels))}">'
    )
    return (
        f'<figure class="matches"><figcaption><strong>{escape(swipe.title)}</strong>'
        f' <span>{escape(swipe.note)}</span></figcaption><div class="swipe">{images}{tags}'
        f'<span class="border"></span>{slider}</div></figure>'
    )


def _swipe_section(group: SwipeGroup) -> str:
    return _section(group.title, "".join(map(_swipe_figure, group.swipes)), group.note)


def _table_section(table: Table) -> str:
    numeric = [
        any(isinstance(row[column], float | int) for row in table.rows)
        for column in range(len(table.headers))
    ]
    rows = []
    for row in table.rows:
        cells = [f'<th scope="row">{escape(str(row[0]))}</th>']
        for value, is_number in zip(row[1:], numeric[1:], strict=True):
            if not is_number or isinstance(value, str):
                kind = ' class="number"' if is_number else ""
                cells.append(f"<td{kind}>{escape('–' if value is None else str(value))}</td>")
            else:
                is_count = isinstance(value, int)
                cells.append(_cell(value, f"{value:,}" if is_count else number(value)))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    headers = list(zip(table.headers, [False, *numeric[1:]], strict=True))
    return _section(table.title, _table(headers, rows, table.title, sortable=True), table.note)


class _Figures:
    """Collects plotly figures: a place on the page for each, and their data for its script."""

    def __init__(self) -> None:
        self.scripts: list[str] = []

    def add(self, figure: Mapping[str, Any], kind: str, label: str) -> str:
        """Keep a figure and return the element that it will be drawn in."""
        made = plotly.graph_objects.Figure(figure["data"], {**figure["layout"], "template": "none"})
        # `<` never occurs in JSON outside of strings; escaped, no name can end the script element.
        text = made.to_json().replace("<", "\\u003c")
        name = f"figure-{len(self.scripts)}"
        self.scripts.append(f'<script type="application/json" id="{name}">{text}</script>')
        return f'<div class="plot {kind}" data-figure="{name}" role="img" aria-label="{escape(label)}"></div>'


def _chart_section(chart: Chart, figures: _Figures) -> str:
    charts = "".join(figures.add(figure, "chart", label) for label, figure in chart.figures.items())
    return _section(chart.title, f'<div class="charts">{charts}</div>', chart.note)


def _recall_section(evaluation: Evaluation, figures: _Figures, unit: str) -> str:
    charts = "".join(
        figures.add(
            recall_figure(evaluation, quantity, of), "chart", f"Share of queries over {quantity} error"
        )
        for quantity, of in (("position", unit), ("rotation", "degrees"))
    )
    note = f"{evaluation.num_queries:,} queries; one without a pose is infinitely wrong. Dotted: thresholds."
    if evaluation.ignored:
        note += f" {len(evaluation.ignored):,} queries without a true pose are left out."
    return _section("Recall against ground truth", f'<div class="charts">{charts}</div>', note)


def render(run: ReportData) -> str:
    """Build the page.

    Args:
        run: what to show.

    Returns:
        HTML that refers to nothing outside of itself.

    Raises:
        InputError, MissingInputError, CorruptFileError: a picture cannot be drawn.
    """
    model = run.model
    scene = Scene.from_reconstruction(model) if isinstance(model, pycolmap.Reconstruction) else model
    figures, sections = _Figures(), [_picture_section(picture) for picture in run.pictures]
    sections += [_swipe_section(group) for group in run.swipes]
    if scene is not None:
        figure, caption = scene_figure(scene, run.results, run.ground_truth, run.unit)
        sections.append(_section("Map and poses", figures.add(figure, "scene", "3-D view"), caption))
    if run.evaluation is not None:
        sections.append(_recall_section(run.evaluation, figures, run.unit))
    sections += [_chart_section(chart, figures) for chart in run.charts]
    sections += [_table_section(table) for table in run.tables]
    sections += [_picture_group(group) for group in run.groups]
    if run.results:
        note = "Click a heading to sort."
        sections.append(_section("Queries", _queries(run.results, run.evaluation, run.unit), note))
    if run.matches:
        pictures = "".join(map(_match_figure, run.matches))
        note = (
            "Query left, map image right; matches to map keypoints with a 3-D point: inliers green, outliers"
            f" red, at most {MAX_LINES} of each drawn."
        )
        sections.append(_section("Matches", pictures, note))
    if run.stages:
        note = "Peak memory counts child processes. A resumed stage shows what it cost when it ran."
        sections.append(_section("Stages", _stages(run.stages), note))
    assets = resources.files(__package__) / "assets"
    return Template((assets / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(run.title),
        style=(assets / "page.css").read_text(encoding="utf-8"),
        summary=_summary(run, scene),
        facts=_facts(run.facts.items()),
        sections="\n".join(sections),
        figures="\n".join(figures.scripts),
        plotly=f"<script>{plotly.offline.get_plotlyjs()}</script>" if figures.scripts else "",
        script=(assets / "page.js").read_text(encoding="utf-8"),
    )


def write_report(path: Path, run: ReportData) -> Path:
    """Write the self-contained HTML page of a run, atomically.

    Args:
        path: of the page.
        run: what to show.

    Returns:
        `path`.

    Raises:
        InputError, MissingInputError, CorruptFileError: a picture cannot be drawn.
        DiskFullError, UnwritableError: the page cannot be written.
    """
    write_text(Path(path), render(run))
    return Path(path)
