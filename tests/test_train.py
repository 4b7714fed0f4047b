from __future__ import annotations

from pathlib import Path

import pytest

from hloc_ext import train
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.train import RECIPES, build_parser, load_recipe
from hloc_ext.training.kd_mamba import KDMambaRecipe

CONFIGS = Path(__file__).parents[1] / "configs" / "train"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("recipe: kd_mamba\nmodel: nano\ntrainer:\n  steps: 50\n  learning_rate: 2e-3\n")
    return path


def test_values_of_the_file_and_of_the_command_line(path):
    name, recipe = load_recipe(path, ["trainer.steps=7", "distillation.view=same", "loss.fine=0"])
    assert name == "kd_mamba" and isinstance(recipe, KDMambaRecipe)
    assert recipe.model == "nano" and recipe.trainer.steps == 7 and recipe.trainer.learning_rate == 2e-3
    assert recipe.distillation.view == "same" and recipe.loss.fine == 0
    assert recipe.trainer.batch_size == KDMambaRecipe().trainer.batch_size
    assert load_recipe(path)[1].trainer.steps == 50


@pytest.mark.parametrize(
    "override", ["trainer.step=7", "modle=small", "loss.gamma=1", "trainer.steps=many", "trainer=5"]
)
def test_unknown_keys_and_wrong_values_are_refused(path, override):
    with pytest.raises(InputError, match=r"recipe\.yaml") as error:
        load_recipe(path, [override])
    assert override in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: kd_mamba\nmodle: nano\n", "modle"),
        ("recipe: kd_mamba\ntrainer:\n  step: 50\n", "step"),
        ("recipe: ssa_unknown\n", r"ssa_unknown.*kd_mamba"),
        ("model: nano\n", r"None.*kd_mamba"),
        ("- a\n- b\n", "recipe"),
        ("recipe: [unclosed\n", "recipe"),
        ("", r"None.*kd_mamba"),
    ],
)
def test_files_that_are_no_recipe_are_named(path, text, message):
    path.write_text(text)
    with pytest.raises(InputError, match=rf"(?s)recipe\.yaml.*{message}"):
        load_recipe(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingInputError, match=r"absent\.yaml does not exist"):
        load_recipe(tmp_path / "absent.yaml")


def test_command_line_trains(path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(
        "hloc_ext.training.kd_mamba.train", lambda recipe: seen.append(recipe) or Path("weights")
    )
    train.cli([str(path), "trainer.steps=3", "model=small"])
    assert seen[0].trainer.steps == 3 and seen[0].model == "small"
    assert capsys.readouterr().out.strip() == "weights"
    assert build_parser().parse_args([str(path)]).overrides == []


def test_each_recipe_is_trained_by_its_module(tmp_path, monkeypatch):
    path = tmp_path / "recipe.yaml"
    for name in RECIPES:
        path.write_text(f"recipe: {name}\noutput: {name}\n")
        monkeypatch.setattr(f"hloc_ext.training.{name}.train", lambda recipe: Path(recipe.output))
        assert train.main(path) == Path(name)
    kinds = {"cross_view_teacher", "crossvit", "distill4geo", "homography_net", "kd_mamba", "ssa"}
    assert set(RECIPES) == kinds


@pytest.mark.parametrize("recipe", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_of_the_repository_can_be_read(recipe):
    assert load_recipe(recipe)[0] in RECIPES
