"""The folder of a data set: what it may hold, resuming, and the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hloc_ext import __version__
from hloc_ext.city.__main__ import main
from hloc_ext.city.generate import KINDS, SETTINGS, generate
from hloc_ext.errors import CorruptFileError, InputError


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """A writer that writes one file and notes its arguments."""
    noted: list[tuple] = []

    def write(output: Path, size: str, seed: int, workers: int) -> None:
        noted.append((size, seed, workers))
        (output / "data.txt").write_text("data")

    for kind in KINDS:
        module = ModuleType(kind, f"Layout of {kind}.\n\n    data.txt    the data\n")
        module.write = write  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"hloc_ext.city.datasets.{kind}", module)
    return noted


def test_readme_and_settings(tmp_path: Path, calls: list[tuple]) -> None:
    output = tmp_path / "new" / "folder"
    generate("vigor", "small", 7, output, workers=3)
    assert calls == [("small", 7, 3)]
    settings = json.loads((output / SETTINGS).read_text())
    assert len(settings.pop("code")) == 12
    assert settings == {"kind": "vigor", "size": "small", "seed": 7, "version": __version__}
    readme = (output / "README.txt").read_text()
    assert readme.startswith("SYNTHETIC DATA.")
    assert f"hloc_ext {__version__}" in readme
    assert "python -m hloc_ext.city --kind vigor --size small --seed 7 --output FOLDER" in readme
    assert "    data.txt    the data" in readme


def test_same_settings_go_on_and_others_are_refused(tmp_path: Path, calls: list[tuple]) -> None:
    generate("gis", "small", 1, tmp_path)
    generate("gis", "small", 1, tmp_path)
    assert len(calls) == 2
    with pytest.raises(
        InputError, match=r"other settings \(size small, not large, seed 1, not 2\).*--overwrite"
    ):
        generate("gis", "large", 2, tmp_path)
    assert len(calls) == 2


def test_another_version_is_refused(tmp_path: Path) -> None:
    generate("gis", "small", 1, tmp_path)
    path = tmp_path / SETTINGS
    path.write_text(path.read_text().replace(__version__, "0.0.1"))
    with pytest.raises(InputError, match=r"version 0\.0\.1, not"):
        generate("gis", "small", 1, tmp_path)


def test_overwriting_deletes_all_that_was_there(tmp_path: Path) -> None:
    generate("gis", "small", 1, tmp_path)
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "old.txt").write_text("old")
    generate("cvusa", "small", 2, tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.txt", "data.txt", "settings.json"]
    assert json.loads((tmp_path / SETTINGS).read_text())["kind"] == "cvusa"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not written by this command"):
        generate("gis", "small", 1, tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="is a file"):
        generate("gis", "small", 1, tmp_path / "thesis.txt")


def test_damaged_settings_are_named(tmp_path: Path) -> None:
    for text in ("{", "[]"):
        (tmp_path / SETTINGS).write_text(text)
        with pytest.raises(CorruptFileError, match=SETTINGS):
            generate("gis", "small", 1, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("paris", "small", 1), "No kind 'paris'.*aachen, cvusa"),
        (("gis", "huge", 1), "No size 'huge'.*small, medium, large"),
        (("gis", "small", -1), "seed is -1"),
    ],
)
def test_arguments_are_checked(tmp_path: Path, arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate(*arguments, tmp_path)
    with pytest.raises(InputError, match="0 workers"):
        generate("gis", "small", 1, tmp_path, workers=0)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "hloc_ext.city.datasets.gis")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    for name in [name for name in sys.modules if name.startswith("hloc_ext.city.datasets.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InputError, match=r"'rasterio'.*pip install .hloc_ext\[city\]"):
        generate("gis", "small", 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command_line(tmp_path: Path, calls: list[tuple], capsys: pytest.CaptureFixture[str]) -> None:
    output = str(tmp_path / "out")
    assert (
        main(["--kind", "cvact", "--size", "medium", "--seed", "9", "--output", output, "--workers", "1"])
        == 0
    )
    assert calls == [("medium", 9, 1)]
    assert main(["--kind", "cvact", "--output", output]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["--kind", "cvact", "--output", output, "--overwrite"]) == 0
    assert calls[1:] == [("small", 0, 2)]


def test_interruption_has_its_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["hloc_ext.city.datasets.gis"], "write", interrupt)
    assert main(["--kind", "gis", "--output", str(tmp_path / "out")]) == 130
    assert not (tmp_path / "out" / "README.txt").exists()


def test_help_is_quick_to_ask() -> None:
    """It imports neither the renderer nor GIS packages."""
    code = (
        "import sys; from hloc_ext.city.__main__ import parser; parser().format_help();"
        "print({'rasterio', 'embreex', 'numba', 'geopandas'} & set(sys.modules))"
    )
    asked = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert asked.stdout == "set()\n"


def test_settings_of_another_program_are_left_alone(tmp_path: Path, calls: list[tuple]) -> None:
    (tmp_path / SETTINGS).write_text('{"editor.fontSize": 12}')
    (tmp_path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="not written by this command"):
            generate("gis", "small", 1, tmp_path, overwrite=overwrite)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert not calls


def test_other_code_does_not_go_on(
    tmp_path: Path, calls: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    generate("gis", "small", 1, tmp_path)
    monkeypatch.setattr("hloc_ext.city.generate.source_digest", lambda: "another version of the code")
    with pytest.raises(InputError, match="not another vers"):
        generate("gis", "small", 1, tmp_path)
    generate("gis", "small", 1, tmp_path, overwrite=True)
    assert len(calls) == 2


def test_depth_is_for_aachen(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="aachen only"):
        generate("gis", "small", 1, tmp_path, depth=True)
