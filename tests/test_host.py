"""The two-way registry against small hosts that are written to a folder, with HLOC's structure."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from hloc_ext import confs as our_confs
from hloc_ext import extractors, host
from hloc_ext.errors import InputError

BASE_MODEL = """
    import inspect
    from torch import nn

    class BaseModel(nn.Module):
        default_conf = {}
        required_inputs = []

        def __init__(self, conf):
            super().__init__()
            self.conf = {**self.default_conf, **conf}
            self._init(self.conf)

        def forward(self, data):
            assert set(self.required_inputs) <= set(data)
            return self._forward(data)

    def dynamic_load(root, model):
        path = f"{root.__name__}.{model}"
        module = __import__(path, fromlist=[""])
        found = [
            c for _, c in inspect.getmembers(module, inspect.isclass)
            if c.__module__ == path and issubclass(c, BaseModel)
        ]
        assert len(found) == 1, found
        return found[0]
"""

MODEL = """
    from ..utils.base_model import BaseModel

    class Model(BaseModel):
        default_conf = {{"answer": {answer}}}

        def _init(self, conf):
            pass

        def _forward(self, data):
            return {{"answer": self.conf["answer"]}}
"""

HLOC = {
    "__init__.py": "",
    "extract_features.py": """
        confs = {
            "sift": {"output": "feats-sift", "model": {"name": "dog"}, "preprocessing": {"resize_max": 1600}},
            "dog-forced": {
                "output": "feats-dog-forced",
                "model": {"name": "dog", "answer": 2},
                "preprocessing": {"resize_max": 1600, "resize_force": True},
            },
            "needs-extra": {"output": "extra", "model": {"name": "needs_extra"}, "preprocessing": {}},
        }
    """,
    "match_features.py": """
        confs = {"NN-ratio": {"output": "own", "model": {"name": "nearest_neighbor", "ratio_threshold": 0.7}}}
    """,
    "match_dense.py": """
        confs = {"loftr": {"output": "own", "model": {"name": "loftr"}, "max_error": 1, "cell_size": 1}}
    """,
    "extractors/__init__.py": "",
    "extractors/dog.py": MODEL.format(answer=1),
    "extractors/needs_extra.py": "import a_package_that_is_not_installed",
    "matchers/__init__.py": "",
    "matchers/nearest_neighbor.py": MODEL.format(answer=3),
    "utils/__init__.py": "",
    "utils/base_model.py": BASE_MODEL,
}

IMCUI = {
    **HLOC,
    "__init__.py": """
        import logging
        open("log.txt", "w").close()
        logging.getLogger("hloc").addHandler(logging.FileHandler("log.txt"))
    """,
    "configs.py": """
        matchers = {
            "sparse": {"output": "sparse", "model": {"name": "nearest_neighbor", "extra": 1}},
            "dense": {
                "output": "dense",
                "model": {"name": "roma"},
                "preprocessing": {"force_resize": True, "width": 640, "height": 480, "dfactor": 14},
                "max_error": 1,
                "cell_size": 2,
            },
        }
    """,
    "extract_features.py": """
        confs = {
            "forced": {
                "output": "feats-forced",
                "model": {"name": "dog"},
                "preprocessing": {
                    "resize_max": 1600, "force_resize": True, "width": 640, "height": 480, "dfactor": 8
                },
            },
        }
    """,
    "match_features.py": "from .configs import matchers as confs",
    "match_dense.py": "from .configs import matchers as confs",
}


def write_package(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))


BRIGHTNESS = """
    import torch
    from hloc_ext.base_model import BaseModel

    class Brightness(BaseModel):
        default_conf = {"factor": 2.0, "powers": [1]}
        required_inputs = ["image"]
        detection_noise = 1.5

        def _init(self, conf):
            self.factor = torch.nn.Parameter(torch.tensor(conf["factor"]))

        def _forward(self, data):
            return {"global_descriptor": data["image"].mean(dim=(1, 2, 3))[:, None] * self.factor}
"""


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """Both hosts on sys.path, our `brightness` extractor, and a working directory."""
    write_package(tmp_path / "site" / "hloc", HLOC)
    write_package(tmp_path / "site" / "imcui", {"__init__.py": ""})
    write_package(tmp_path / "site" / "imcui" / "hloc", IMCUI)
    write_package(tmp_path / "ours", {"brightness.py": BRIGHTNESS})
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("HLOC_ROOT", raising=False)
    monkeypatch.setattr(logging.getLogger("hloc"), "handlers", [])
    monkeypatch.setattr(extractors, "__path__", [*extractors.__path__, str(tmp_path / "ours")])
    conf = {"output": "brightness", "model": {"name": "brightness", "factor": 3.0}}
    conf["preprocessing"] = {"resize_max": 64, "resize_force": True}
    monkeypatch.setitem(our_confs.extractors, "brightness", conf)

    def is_host(name):
        return name.partition(".")[0] in ("hloc", "imcui") or name == "hloc_ext.extractors.brightness"

    before = {name: sys.modules.pop(name) for name in list(sys.modules) if is_host(name)}
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield tmp_path
    for name in [name for name in sys.modules if is_host(name)]:
        del sys.modules[name]
    sys.modules.update(before)


HOSTS = ("hloc", "imcui.hloc")


def run_python(code: str, *path: Path) -> str:
    """Run a script in a new process and return what it prints."""
    root = Path(host.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, root)))}
    done = subprocess.run(
        [sys.executable, "-c", dedent(code)], env=environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_of_the_package_loads_neither_hosts_nor_torch(hosts):
    code = """
        import sys, hloc_ext
        print(sorted({"torch", "numpy", "hloc", "imcui"} & set(sys.modules)))
    """
    assert run_python(code, hosts / "site") == "[]"


# Ours in the host


@pytest.mark.parametrize("package", HOSTS)
@pytest.mark.parametrize("kind", host.KINDS)
def test_every_conf_of_ours_is_in_the_host_under_its_registered_name(hosts, package, kind):
    confs = importlib.import_module(f"{package}.{host.KINDS[kind].stage}").confs
    for name, ours in getattr(our_confs, kind).items():
        registered = host.registered_name(package, kind, name)
        assert registered in (name, f"{name}-ext")
        assert confs[registered]["model"] == {**ours["model"], "name": "ext_" + ours["model"]["name"]}
        assert confs[registered]["output"] == ours["output"] + registered.removeprefix(name)


def test_sparse_and_dense_matchers_share_no_name():
    # imcui.hloc keeps both in one dictionary.
    assert not our_confs.matchers.keys() & our_confs.dense_matchers.keys()


def test_confs_of_the_host_are_not_replaced(hosts):
    from hloc import extract_features, match_dense, match_features

    assert extract_features.confs["sift"]["model"] == {"name": "dog"}
    assert match_features.confs["NN-ratio"]["output"] == match_dense.confs["loftr"]["output"] == "own"
    assert host.registered_name("hloc", "extractors", "sift") == "sift-ext"
    assert host.registered_name("hloc", "matchers", "NN-mutual") == "NN-mutual"
    assert extract_features.confs["sift-ext"]["output"] == "feats-sift-ext"


def test_name_with_suffix_taken_too(hosts):
    confs = {"sift": {"model": {"name": "a"}}, "sift-ext": {"model": {"name": "b"}}}
    assert host._free_name(confs, "sift") == "sift-ext-ext"


def test_host_gets_copies(hosts):
    from hloc.extract_features import confs

    confs["brightness"]["model"]["factor"] = 5.0
    assert our_confs.extractors["brightness"]["model"] == {"name": "brightness", "factor": 3.0}


def test_resize_option_has_the_name_of_the_host(hosts):
    import hloc.extract_features
    import imcui.hloc.extract_features

    assert hloc.extract_features.confs["brightness"]["preprocessing"] == {
        "resize_max": 64,
        "resize_force": True,
    }
    assert imcui.hloc.extract_features.confs["brightness"]["preprocessing"] == {
        "resize_max": 64,
        "force_resize": True,
    }


def test_imcui_has_one_dictionary_for_all_matchers(hosts):
    from imcui.hloc import match_dense, match_features

    assert match_features.confs is match_dense.confs
    expected = {"sparse", "dense", *our_confs.matchers, *our_confs.dense_matchers}
    assert match_features.confs.keys() == expected


def test_host_imported_before_us_is_extended_at_once(hosts, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if type(f).__name__ != "HostFinder"])
    from hloc.extract_features import confs

    assert confs.keys() == {"sift", "dog-forced", "needs-extra"}
    host.register()
    assert confs["sift-ext"]["model"]["name"] == "ext_sift"
    assert importlib.import_module("hloc.extractors.ext_brightness").Brightness.detection_noise == 1.5


def test_registering_again_changes_nothing(hosts):
    from hloc import extract_features

    before = dict(extract_features.confs)
    finders = list(sys.meta_path)
    host.register()
    assert extract_features.confs == before
    assert sys.meta_path == finders
    assert importlib.reload(extract_features).confs == before


def test_stage_keeps_its_own_loader_and_source(hosts):
    from hloc import extract_features

    assert type(extract_features.__loader__).__name__ == "SourceFileLoader"
    assert extract_features.__spec__.loader is extract_features.__loader__
    assert inspect.getsource(extract_features) == dedent(HLOC["extract_features.py"])


def test_unrelated_package_of_the_same_name_is_left_alone(hosts):
    (hosts / "site" / "hloc" / "match_features.py").write_text("confs = None\n")
    assert importlib.import_module("hloc.match_features").confs is None


@pytest.mark.parametrize("package", HOSTS)
def test_our_model_runs_as_a_child_of_the_base_model_of_the_host(hosts, package):
    base = importlib.import_module(f"{package}.utils.base_model")
    root = importlib.import_module(f"{package}.extractors")
    model_class = base.dynamic_load(root, "ext_brightness")
    assert issubclass(model_class, base.BaseModel)
    assert (model_class.__module__, model_class.__name__) == (
        f"{package}.extractors.ext_brightness",
        "Brightness",
    )
    assert model_class.default_conf == {"factor": 2.0, "powers": [1]}
    assert (model_class.required_inputs, model_class.detection_noise) == (["image"], 1.5)
    model = model_class({"name": "ext_brightness", "factor": 4.0}).eval()
    image = torch.full((1, 1, 2, 2), 0.25)
    assert model({"image": image})["global_descriptor"].tolist() == [[1.0]]
    assert not model.model.training
    with pytest.raises(AssertionError):
        model({})


def test_defaults_of_the_adapter_are_its_own(hosts):
    from hloc.extractors.ext_brightness import Brightness
    from hloc_ext.extractors.brightness import Brightness as Ours

    Brightness.default_conf["powers"].append(2)
    assert Ours.default_conf["powers"] == [1]


def test_models_of_both_hosts_are_distinct(hosts):
    ours = [importlib.import_module(f"{name}.extractors.ext_brightness").Brightness for name in HOSTS]
    assert not issubclass(ours[0], ours[1]) and not issubclass(ours[1], ours[0])


@pytest.mark.parametrize(
    "name",
    ["hloc.extractors.ext_nothing", "hloc.extractors.nothing", "hloc.ext_sift", "hloc.matchers.ext_sift"],
)
def test_unknown_modules_are_not_found_as_without_us(hosts, name):
    with pytest.raises(ModuleNotFoundError, match=f"No module named '{name}'"):
        importlib.import_module(name)


def test_model_unpickles_in_a_process_that_has_not_imported_us(hosts):
    from hloc.matchers.ext_nearest_neighbor import NearestNeighbor

    (hosts / "model.pkl").write_bytes(pickle.dumps(NearestNeighbor({"ratio_threshold": 0.5}).eval()))
    code = f"""
        import pickle
        model = pickle.load(open({str(hosts / "model.pkl")!r}, "rb"))
        print(type(model).__module__, model.model.conf["ratio_threshold"], model.training)
    """
    assert run_python(code, hosts / "site") == "hloc.matchers.ext_nearest_neighbor 0.5 False"


def test_registered_name_of_an_unknown_conf(hosts):
    with pytest.raises(InputError, match="no conf 'nothing' among its extractors"):
        host.registered_name("hloc", "extractors", "nothing")


# The host's in ours


def test_hosts_are_found_without_being_imported(hosts):
    assert host.available_hosts() == ["hloc", "imcui.hloc"]
    assert not {"hloc", "imcui.hloc"} & set(sys.modules)


def test_package_that_only_has_the_name_is_no_host(hosts):
    (hosts / "site" / "hloc" / "extract_features.py").unlink()
    assert host.available_hosts() == ["imcui.hloc"]


def test_checkout_named_by_the_environment(hosts, monkeypatch):
    site = str(hosts / "site")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not (Path(p) / "hloc").is_dir()])
    assert "hloc" not in host.available_hosts()
    monkeypatch.setenv("HLOC_ROOT", site)
    assert host.available_hosts()[0] == host.available_hosts()[0] == "hloc"
    assert sys.path.count(site) == 1
    assert host.get_conf("extractors", "dog-forced")["model"]["name"] == "dog"


def test_checkout_that_is_none(hosts, monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not (Path(p) / "hloc").is_dir()])
    monkeypatch.setenv("HLOC_ROOT", str(hosts / "work"))
    with pytest.raises(InputError, match=r"hloc/extract_features.py is missing"):
        host.available_hosts()


def test_our_confs_come_first_and_need_no_host(hosts):
    assert host.get_conf("extractors", "sift") == our_confs.extractors["sift"]
    assert host.get_conf("extractors", "sift-ext") == our_confs.extractors["sift"]
    assert "hloc" not in sys.modules


def test_conf_of_the_host_is_a_marked_copy(hosts):
    conf = host.get_conf("extractors", "dog-forced")
    assert conf == {
        "output": "feats-dog-forced",
        "model": {"name": "dog", "answer": 2},
        "preprocessing": {"resize_max": 1600, "resize_force": True},
        "host": "hloc",
    }
    conf["model"]["answer"] = 0
    assert importlib.import_module("hloc.extract_features").confs["dog-forced"]["model"]["answer"] == 2


def test_name_with_its_host(hosts):
    conf = host.get_conf("extractors", "hloc:sift")
    assert conf["model"] == {"name": "dog"}
    assert conf["output"] == "feats-sift-hloc"  # the file of our own `sift` is feats-sift.h5
    with pytest.raises(InputError, match=r"no conf 'sift' among the extractors.*imcui.hloc has"):
        host.get_conf("extractors", "imcui.hloc:sift")
    with pytest.raises(InputError, match="host 'other' is not installed"):
        host.get_conf("extractors", "other:sift")


def test_confs_of_imcui_get_the_options_of_our_stages(hosts):
    assert host.get_conf("extractors", "forced") == {
        "output": "feats-forced",
        "model": {"name": "dog"},
        "preprocessing": {"resize_max": 1600, "resize_force": True},
        "host": "imcui.hloc",
    }
    assert host.get_conf("dense_matchers", "dense")["preprocessing"] == {"dfactor": 14}
    with pytest.raises(InputError, match="no conf 'dense' among the matchers"):
        host.get_conf("matchers", "dense")
    with pytest.raises(InputError, match="no conf 'sparse' among the dense_matchers"):
        host.get_conf("dense_matchers", "sparse")


def test_dictionary_of_a_host_gets_the_options_of_our_stages(hosts):
    from imcui.hloc.extract_features import confs

    assert host.get_conf("extractors", confs["forced"])["preprocessing"] == {
        "resize_max": 1600,
        "resize_force": True,
    }
    assert host.get_conf("extractors", confs["brightness"]) == our_confs.extractors["brightness"]
    assert confs["brightness"]["model"]["name"] == "ext_brightness"


def test_unknown_conf_lists_what_exists(hosts):
    with pytest.raises(InputError) as caught:
        host.get_conf("extractors", "nothing")
    for name in ("'nothing'", "'vlad-rootsift'", "hloc has ['dog-forced'", "imcui.hloc has ['forced']"):
        assert name in str(caught.value)


def test_unknown_conf_without_a_host_says_how_to_install_one(hosts, monkeypatch):
    monkeypatch.setattr(host, "_is_installed", lambda name: False)
    with pytest.raises(InputError, match=r"HLOC is not installed.*pip install git.https://github.com/cvg"):
        host.get_conf("matchers", "superglue")
    with pytest.raises(InputError, match=r"no model 'superglue'.*pip install --no-deps imcui"):
        host.load_model("matchers", {"output": "x", "model": {"name": "superglue"}})
    with pytest.raises(InputError, match="needs the host 'hloc'"):
        host.load_model("extractors", {"output": "x", "model": {"name": "dog"}, "host": "hloc"})
    with pytest.raises(InputError, match="Host 'hloc' is not installed"):
        host.registered_name("hloc", "extractors", "sift")


def test_unknown_kind(hosts):
    with pytest.raises(InputError, match="no kind of conf 'extractor'"):
        host.get_conf("extractor", "sift")


def test_host_that_cannot_be_imported_is_named_with_the_cause(hosts):
    (hosts / "site" / "hloc" / "extract_features.py").write_text("raise RuntimeError('nms does not exist')\n")
    assert host.get_conf("extractors", "forced")["host"] == "imcui.hloc"
    with pytest.raises(InputError, match=r"hloc cannot be imported .RuntimeError: nms does not exist"):
        host.get_conf("extractors", "nothing")


def test_load_our_model(hosts):
    model = host.load_model("extractors", "brightness")
    assert type(model).__module__ == "hloc_ext.extractors.brightness"
    assert model.conf["factor"] == 3.0
    assert not model.training


@pytest.mark.parametrize(
    ("kind", "conf", "module", "answer"),
    [
        ("extractors", "dog-forced", "hloc.extractors.dog", 2),
        ("extractors", "forced", "imcui.hloc.extractors.dog", 1),
        # As a plain HLOC script passes it: without a mark, and no model of ours has this name
        ("extractors", {"output": "x", "model": {"name": "dog", "answer": 7}}, "hloc.extractors.dog", 7),
        # Ours has this name, but not this option.
        (
            "matchers",
            {"output": "x", "model": {"name": "nearest_neighbor", "answer": 8}},
            "hloc.matchers.nearest_neighbor",
            8,
        ),
    ],
)
def test_load_a_model_of_the_host(hosts, kind, conf, module, answer):
    model = host.load_model(kind, host.get_conf(kind, conf))
    assert type(model).__module__ == module
    assert model({})["answer"] == answer
    assert not model.training


def test_dictionary_of_the_host_with_a_model_that_we_have_gets_ours(hosts):
    from hloc.match_features import confs

    model = host.load_model("matchers", confs["NN-ratio"])
    assert type(model).__module__ == "hloc_ext.matchers.nearest_neighbor"
    assert model.conf["ratio_threshold"] == 0.7


def test_our_conf_from_the_host_gets_our_model(hosts):
    from hloc.extract_features import confs

    assert (
        type(host.load_model("extractors", confs["brightness"])).__module__
        == "hloc_ext.extractors.brightness"
    )


def test_models_that_nobody_can_load(hosts):
    with pytest.raises(InputError, match=r"no model 'nothing'. Nor have the hosts"):
        host.load_model("extractors", {"output": "x", "model": {"name": "nothing"}})
    with pytest.raises(
        InputError, match=r"'needs_extra' of hloc.extractors.*a_package_that_is_not_installed"
    ):
        host.load_model("extractors", "needs-extra")
    with pytest.raises(InputError, match=r"no option .'unknown'."):
        host.load_model("extractors", {"output": "x", "model": {"name": "brightness", "unknown": 1}})


def test_log_file_of_the_user_survives_the_import_of_imcui(hosts):
    log = hosts / "work" / "log.txt"
    log.write_text("precious")
    host.get_conf("extractors", "forced")
    assert log.read_text() == "precious"
    assert Path.cwd() == hosts / "work"
    files = [h for h in logging.getLogger("hloc").handlers if isinstance(h, logging.FileHandler)]
    assert files == []
