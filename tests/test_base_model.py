"""The contract of models and the loader."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from hloc_ext import extractors, matchers
from hloc_ext.base_model import BaseModel, dynamic_load
from hloc_ext.errors import InputError


class Doubler(BaseModel):
    default_conf = {"factor": 2.0, "nested": {"a": 1}}  # noqa: RUF012
    required_inputs = ["x"]  # noqa: RUF012

    def _init(self, conf):
        self.factor = conf["factor"]

    def _forward(self, data):
        return {"y": data["x"] * self.factor}


def test_defaults_are_completed_and_the_conf_is_not_changed():
    conf = {"factor": 3.0, "name": "doubler"}
    model = Doubler(conf)
    assert model.conf == {"factor": 3.0, "nested": {"a": 1}, "name": "doubler"}
    assert conf == {"factor": 3.0, "name": "doubler"}
    assert Doubler.default_conf == {"factor": 2.0, "nested": {"a": 1}}
    assert model({"x": torch.tensor(2.0)})["y"] == 6


def test_unknown_option_is_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"Doubler has no option \['facto'\]; it has \['factor', 'nested'\]"):
        Doubler({"facto": 1})


def test_missing_input_is_named():
    with pytest.raises(InputError, match=r"needs the inputs \['x'\], got \['z'\]"):
        Doubler({})({"z": 1})


def test_dynamic_load_finds_the_model_of_a_module():
    assert dynamic_load(extractors, "sift").__name__ == "SIFT"
    assert dynamic_load(matchers, "nearest_neighbor").__name__ == "NearestNeighbor"
    with pytest.raises(ModuleNotFoundError, match="sitf"):
        dynamic_load(extractors, "sitf")


@pytest.mark.parametrize("count", [0, 2])
def test_dynamic_load_refuses_modules_without_one_model(monkeypatch, count):
    root, module = types.ModuleType("some_models"), types.ModuleType("some_models.several")
    root.__path__ = []
    for index in range(count):
        child = type(f"Child{index}", (Doubler,), {"__module__": "some_models.several"})
        setattr(module, child.__name__, child)
    module.imported = Doubler  # a model of another module does not count
    monkeypatch.setitem(sys.modules, "some_models", root)
    monkeypatch.setitem(sys.modules, "some_models.several", module)
    with pytest.raises(InputError, match="exactly one model"):
        dynamic_load(root, "several")
