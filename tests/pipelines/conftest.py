"""Runs of the pipelines that several tests share, and a way to run them as a user does."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from hloc_ext import logger
from hloc_ext.formats.colmap import write_model
from hloc_ext.formats.lists import write_image_list
from pipelines import photos
from pipelines.common import run_pipeline
from tests.room import Room


@dataclass
class Outcome:
    """What a user sees of a command."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message of a failed run, which must not be a traceback."""
        assert self.code == 1 and "Traceback" not in self.err
        return re.search(r"^error: (.*)", self.err, re.MULTILINE | re.DOTALL)[1]


@pytest.fixture
def pipeline(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """Run a pipeline's main with arguments, as ``python -m`` does."""

    def run(main: Callable[[list[str] | None], None], *argv: object) -> Outcome:
        capsys.readouterr()
        code = run_pipeline(main, [str(argument) for argument in argv])
        out, err = capsys.readouterr()
        return Outcome(code, out, err + "\n".join(lines))

    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)  # the package's own handler writes to the terminal of its import
    yield run
    logger.removeHandler(handler)


@dataclass
class RoomFiles:
    """Inputs made of the room, and the outputs of a complete run on them; copy before changing any.

    Attributes:
        room: the rendered scene.
        model: folder of a COLMAP model with the true poses of all images.
        query_list: names of the queries.
        outputs: of ``pipelines.photos`` with the true poses of the map.
    """

    room: Room
    model: Path
    query_list: Path
    outputs: Path

    @property
    def inputs(self) -> list[object]:
        """Arguments of a run from scratch without the output folder; SIFT, which is quick."""
        return ["--images", self.room.images, "--queries", self.query_list, "--features", "sift"]

    @property
    def arguments(self) -> list[object]:
        """Arguments of the run without the output folder."""
        return [*self.inputs, "--reference_model", self.model, "--ground_truth", self.model]

    def seed(self, outputs: Path, pattern: str = "*.h5") -> Path:
        """Give another run the features and matches of this one, which takes most of the time."""
        outputs.mkdir(parents=True, exist_ok=True)
        for file in self.outputs.glob(pattern):
            shutil.copyfile(file, outputs / file.name)
        return outputs

    def copy_images(self, folder: Path, names: list[str]) -> Path:
        """Copy some images under their names."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(self.room.images / name, folder / name)
        return folder


@pytest.fixture(scope="session")
def room_files(room: Room, tmp_path_factory: pytest.TempPathFactory) -> RoomFiles:
    """Inputs of the room, and a run with known poses."""
    root = tmp_path_factory.mktemp("room_files")
    files = RoomFiles(room, root / "true_model", root / "queries.txt", root / "outputs")
    write_model(room.model, files.model)
    write_image_list(files.query_list, room.query_names)
    photos.main([str(a) for a in (*files.arguments, "--outputs", files.outputs)])
    return files


def errors(pose: pycolmap.Rigid3d, true: pycolmap.Rigid3d) -> tuple[float, float]:
    """Position (metres) and rotation (degrees) error of a pose."""
    distance = float(np.linalg.norm(pose.inverse().translation - true.inverse().translation))
    return distance, float(np.rad2deg((pose * true.inverse()).rotation.angle()))


def times(folder: Path) -> dict[str, int]:
    """Modification time of every file below a folder."""
    return {str(f.relative_to(folder)): f.stat().st_mtime_ns for f in folder.rglob("*") if f.is_file()}


class Page(HTMLParser):
    """Addresses that a browser would fetch, styles, and the text of a report."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.styles: list[str] = []
        self.text = ""
        self._open = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fetched = ("src", "srcset", "href", "data", "poster", "action")
        self.addresses += [value or "" for key, value in attrs if key in fetched]
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "style":
            self.styles.append(data)
        elif self._open != "script":
            self.text += " " + " ".join(data.split())

    def assert_self_contained(self) -> None:
        """All addresses are data inside the page."""
        assert all(a.startswith(("data:", "#")) for a in self.addresses)
        assert (
            self.text
            and self.styles
            and not any(re.search(r"@import|url\((?!['\"]?data:)", s) for s in self.styles)
        )
