"""The command line of all stages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pycolmap
import pytest

from hloc_ext import __main__ as command_line
from hloc_ext import extract_features
from hloc_ext.colmap_log import quiet_colmap


def python_m(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hloc_ext", *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )


@pytest.mark.parametrize("command", command_line.COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as caught:
        command_line.main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m hloc_ext {command} ") and "--help" in text and len(text) > 300


@pytest.mark.parametrize("command", command_line.COMMANDS)
def test_every_command_is_a_module_of_its_own(command, monkeypatch):
    seen = []
    module = f"hloc_ext.{command_line.COMMANDS[command]}"
    monkeypatch.setattr(f"{module}.cli", seen.append)
    assert command_line.main([command, "--flag", "value"]) == 0
    assert seen == [["--flag", "value"]]


@pytest.mark.parametrize("argv, code", [([], 2), (["--help"], 0), (["-h"], 0)])
def test_usage_lists_the_commands(argv, code, capsys):
    assert command_line.main(argv) == code
    lines = capsys.readouterr().out.splitlines()
    for command in command_line.COMMANDS:
        (line,) = [line for line in lines if line.split()[:1] == [command]]
        assert len(line.split()) > 2, "with a description"


def test_unknown_commands_are_refused(capsys):
    assert command_line.main(["extract_feature"]) == 2
    assert "unknown command 'extract_feature'" in capsys.readouterr().err


def test_missing_arguments_are_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        command_line.main(["triangulation"])
    assert caught.value.code == 2
    assert "--reference_model" in capsys.readouterr().err


def test_an_error_names_the_file_without_a_traceback(tmp_path):
    folder = tmp_path / "no images here"
    folder.mkdir()
    done = python_m("extract_features", "--image_dir", str(folder), "--export_dir", str(tmp_path))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"hloc_ext extract_features: error: No image in {folder}" in done.stderr


def test_errors_of_input_are_the_exit_code(tmp_path, capsys):
    argv = ["--pairs", str(tmp_path / "no.txt"), "--features", str(tmp_path / "no.h5")]
    assert command_line.main(["match_features", *argv, "--matches", str(tmp_path / "m.h5")]) == 1
    assert "hloc_ext match_features: error: List of pairs" in capsys.readouterr().err


def test_errors_of_programs_keep_their_traceback(monkeypatch):
    def fail(argv: list[str]) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(extract_features, "cli", fail)
    with pytest.raises(ZeroDivisionError):
        command_line.main(["extract_features"])


def test_an_interruption_is_said(monkeypatch, capsys):
    def interrupt(argv: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(extract_features, "cli", interrupt)
    assert command_line.main(["extract_features"]) == 130
    assert "run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize("verbose", [False, True])
def test_colmap_is_quiet_inside_the_block_only(verbose):
    before = pycolmap.logging.minloglevel
    with pytest.raises(RuntimeError), quiet_colmap(verbose):
        inside = pycolmap.logging.minloglevel
        raise RuntimeError
    assert inside == (before if verbose else pycolmap.logging.ERROR.value)
    assert pycolmap.logging.minloglevel == before
