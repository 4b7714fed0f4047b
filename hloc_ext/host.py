"""Two-way registry: our models run inside HLOC by name, and HLOC's models run in our stages.

A *host* is an installed HLOC: the official package ``hloc``, or ``imcui.hloc`` of image-matching-webui.

:func:`register`, called by ``import hloc_ext``, adds our configurations to the ``confs`` of every host
and serves our models as modules ``<host>.extractors.ext_<name>`` and ``<host>.matchers.ext_<name>``.
:func:`get_conf` and :func:`load_model` are the other direction; only they ever import a host.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import confs as our_confs
from .errors import InputError

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

Conf = dict[str, Any]

#: Hosts in the order in which they are searched, and the name each has for our option `resize_force`.
HOSTS = {"hloc": "resize_force", "imcui.hloc": "force_resize"}

#: Start of the module names under which hosts see our models; no module of a host starts so.
PREFIX = "ext_"

#: Appended to the name of a conf, and of its output file, where the host has a conf of that name.
SUFFIX = "-ext"

HOW_TO_INSTALL = (
    "To use the models of HLOC run `pip install git+https://github.com/cvg/Hierarchical-Localization`"
    " (or `pip install --no-deps imcui`), or set HLOC_ROOT to a checkout of HLOC."
)


class Kind(NamedTuple):
    """Where HLOC keeps configurations of a kind (`stage`) and their models (`package`)."""

    stage: str
    package: str


KINDS = {
    "extractors": Kind("extract_features", "extractors"),
    "matchers": Kind("match_features", "matchers"),
    "dense_matchers": Kind("match_dense", "matchers"),
}


# Ours in the host


def register() -> None:
    """Make our confs and models available in every host that is, or will be, imported."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    for host in HOSTS:
        for kind, (stage, _) in KINDS.items():
            module = sys.modules.get(f"{host}.{stage}")
            if module is not None:
                _add_confs(module, host, kind)


def registered_name(host: str, kind: str, name: str) -> str:
    """Name of our conf `name` in the ``confs`` of a host: `name` itself, or ``<name>-ext``.

    Args:
        host: ``hloc`` or ``imcui.hloc``; it is imported.
        kind: ``extractors``, ``matchers`` or ``dense_matchers``.
        name: one of our configurations, see :mod:`hloc_ext.confs`.

    Raises:
        InputError: we have no such conf, or the host is not installed.
    """
    ours = _our_confs(kind)
    if name not in ours:
        raise InputError(f"hloc_ext has no conf '{name}' among its {kind}; it has {sorted(ours)}.")
    if host not in available_hosts():
        raise InputError(f"Host '{host}' is not installed. {HOW_TO_INSTALL}")
    return _free_name(_import_from(host, KINDS[kind].stage).confs, name)


def _free_name(confs: Mapping[str, Conf], name: str) -> str:
    while name in confs and not _is_ours(confs[name]):
        name += SUFFIX
    return name


def _is_ours(conf: Mapping[str, Any]) -> bool:
    return str(conf.get("model", {}).get("name", "")).startswith(PREFIX)


def _add_confs(module: ModuleType, host: str, kind: str) -> None:
    """Add our confs to those of a stage of the host; nothing of the host's is replaced."""
    confs = getattr(module, "confs", None)
    if not isinstance(confs, dict):  # an unrelated package that has HLOC's name
        return
    for name, conf in _our_confs(kind).items():
        registered = _free_name(confs, name)
        if registered not in confs:
            confs[registered] = _host_form(conf, host, registered.removeprefix(name))


def _host_form(conf: Mapping[str, Any], host: str, suffix: str) -> Conf:
    copied = copy.deepcopy(dict(conf))
    copied["model"]["name"] = PREFIX + copied["model"]["name"]
    # With the host's own output name, its stages would take the host's features for ours.
    copied["output"] += suffix
    if "resize_force" in copied.get("preprocessing", {}):
        copied["preprocessing"][HOSTS[host]] = copied["preprocessing"].pop("resize_force")
    return copied


class HostFinder(MetaPathFinder):
    """Extends the stages of hosts when they are imported, and provides our models as their modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a stage of a host (loaded by its own loader) or one of our models; nothing else."""
        parent, _, name = fullname.rpartition(".")
        for host in HOSTS:
            for kind, (stage, package) in KINDS.items():
                if fullname == f"{host}.{stage}":
                    return self._find_stage(fullname, path, target, host, kind)
                if parent == f"{host}.{package}" and name.startswith(PREFIX):
                    return _find_model(fullname, host, package, name.removeprefix(PREFIX))
        return None

    def _find_stage(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None, host: str, kind: str
    ) -> ModuleSpec | None:
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _StageLoader(spec.loader, host, kind)
                return spec
        return None


_FINDER = HostFinder()


class _StageLoader(Loader):
    """Lets the host's own loader execute a stage, then adds our confs."""

    def __init__(self, loader: Loader, host: str, kind: str) -> None:
        self.loader, self.host, self.kind = loader, host, kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # What reads sources or resources through the loader finds the module as without us.
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        _add_confs(module, self.host, self.kind)


class _ModelLoader(Loader):
    """Fills a module of a host with one class: a model of ours as a child of the host's BaseModel."""

    def __init__(self, host: str, package: str, name: str) -> None:
        self.host, self.package, self.name = host, package, name

    def exec_module(self, module: ModuleType) -> None:
        adapter = _adapter(self.host, _our_class(self.package, self.name), module.__name__)
        setattr(module, adapter.__name__, adapter)


def _find_model(fullname: str, host: str, package: str, name: str) -> ModuleSpec | None:
    ours = _our_model_spec(package, name)
    if ours is None:
        return None
    return ModuleSpec(fullname, _ModelLoader(host, package, name), origin=ours.origin)


def _our_model_spec(package: str, name: str) -> ModuleSpec | None:
    return importlib.util.find_spec(f"{__package__}.{package}.{name}")


def _our_class(package: str, name: str) -> Any:
    from .base_model import dynamic_load  # imports torch, which `import hloc_ext` must not

    return dynamic_load(importlib.import_module(f"{__package__}.{package}"), name)


def _adapter(host: str, ours: Any, module_name: str) -> type:
    """Derive a class from the host's BaseModel that builds and runs our model class `ours`."""
    from .base_model import BaseModel

    host_base: Any = importlib.import_module(f"{host}.utils.base_model").BaseModel

    class Adapter(host_base):
        __doc__ = ours.__doc__

        def _init(self, conf: Conf) -> None:
            self.model = ours({key: value for key, value in conf.items() if key != "name"})

        def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
            return self.model(data)

        def __reduce__(self) -> tuple[Any, ...]:
            # A process that unpickles the model may not have imported hloc_ext yet.
            return _new_adapter, (module_name, type(self).__name__), self.__dict__

    for parent in reversed(ours.__mro__[: ours.__mro__.index(BaseModel) + 1]):
        for key, value in vars(parent).items():
            if not key.startswith("_") and not callable(value) and not hasattr(value, "__get__"):
                setattr(Adapter, key, copy.deepcopy(value))
    Adapter.__module__ = module_name  # the host's dynamic_load takes classes defined in the module only
    Adapter.__name__ = Adapter.__qualname__ = ours.__name__
    return Adapter


def _new_adapter(module_name: str, class_name: str) -> Any:
    adapter = getattr(importlib.import_module(module_name), class_name)
    return adapter.__new__(adapter)


# The host's in ours


def available_hosts() -> list[str]:
    """Names of the installed hosts, in the order in which they are searched; none is imported.

    A checkout named by the environment variable HLOC_ROOT counts as installed.

    Raises:
        InputError: HLOC_ROOT holds no HLOC.
    """
    root = os.environ.get("HLOC_ROOT")
    if root and not _is_installed("hloc"):
        if not Path(root, "hloc", "extract_features.py").is_file():
            raise InputError(f"HLOC_ROOT={root} is no checkout of HLOC: hloc/extract_features.py is missing.")
        sys.path.append(os.path.abspath(root))
    return [host for host in HOSTS if _is_installed(host)]


def _is_installed(host: str) -> bool:
    package, *children = f"{host}.extract_features".split(".")
    spec = importlib.util.find_spec(package)
    for child in children:
        # importlib.util.find_spec would import the parents, and with them all of imcui.hloc.
        if spec is None or spec.submodule_search_locations is None:
            return False
        spec = PathFinder.find_spec(f"{spec.name}.{child}", spec.submodule_search_locations)
    return spec is not None


def get_conf(kind: str, conf: str | Mapping[str, Any]) -> Conf:
    """Configuration of ours or of a host, ready for our stages and for :func:`load_model`.

    Args:
        kind: ``extractors``, ``matchers`` or ``dense_matchers``.
        conf: a name, looked up in :mod:`hloc_ext.confs` and then in the installed hosts;
            ``<host>:<name>`` (for instance ``hloc:sift``) asks that host only. Or a configuration
            as a dictionary, ours or a host's.

    Returns:
        A copy, with the names of our stages for the preprocessing options; the key ``host`` names
        the host that it comes from.

    Raises:
        InputError: nobody has a conf of that name.
    """
    ours = _our_confs(kind)
    if not isinstance(conf, str):
        return _our_form(kind, conf)
    only_host, _, name = conf.rpartition(":")
    for candidate in (name, name.removesuffix(SUFFIX)):
        if candidate in ours and not only_host:
            return _our_form(kind, ours[candidate])
    hosts = available_hosts()
    if only_host:
        if only_host not in hosts:
            raise InputError(f"Conf '{conf}': host '{only_host}' is not installed. {HOW_TO_INSTALL}")
        hosts = [only_host]
    return _find_host_conf(kind, name, hosts)


def _find_host_conf(kind: str, name: str, hosts: Sequence[str]) -> Conf:
    known = [f"hloc_ext has {sorted(_our_confs(kind))}"]
    for host in hosts:
        try:
            confs = _host_confs(host, kind)
        except Exception as error:  # incompatible versions below a host raise errors of every type
            logger.warning("Host %s cannot be imported: %s: %s", host, type(error).__name__, error)
            known.append(f"{host} cannot be imported ({type(error).__name__}: {error})")
            continue
        if name in confs:
            return _named_apart(kind, {**_our_form(kind, confs[name]), "host": host})
        known.append(f"{host} has {sorted(confs)}")
    hint = "" if hosts else f" HLOC is not installed. {HOW_TO_INSTALL}"
    raise InputError(f"There is no conf '{name}' among the {kind}: {'; '.join(known)}.{hint}")


def _named_apart(kind: str, conf: Conf) -> Conf:
    """Rename the output of a host's conf if ours has that name: its files must not pass for ours."""
    if any(conf["output"] == ours["output"] for ours in _our_confs(kind).values()):
        conf["output"] += "-" + conf["host"]
    return conf


def _host_confs(host: str, kind: str) -> dict[str, Conf]:
    """Own confs of a host; those of imcui's common dictionary that have a cell size are dense."""
    confs = _import_from(host, KINDS[kind].stage).confs
    dense = kind == "dense_matchers"
    return {
        name: conf
        for name, conf in confs.items()
        if not _is_ours(conf) and dense == ({"max_error", "cell_size"} <= conf.keys())
    }


def _our_form(kind: str, conf: Mapping[str, Any]) -> Conf:
    copied = copy.deepcopy(dict(conf))
    copied["model"]["name"] = copied["model"]["name"].removeprefix(PREFIX)
    preprocessing = copied.get("preprocessing", {})
    if "force_resize" in preprocessing:
        forced = preprocessing.pop("force_resize")
        # Of imcui's options its stages ignore these; only its web interface reads them.
        for key in ("width", "height") + (("dfactor",) if kind == "extractors" else ()):
            preprocessing.pop(key, None)
        if kind == "extractors":
            preprocessing["resize_force"] = forced
    return copied


def load_model(kind: str, conf: str | Mapping[str, Any]) -> nn.Module:
    """Build the model of a configuration, ours or a host's, in evaluation mode.

    A conf without the key ``host`` gets our model if we have one of that name with those options,
    otherwise that of the first host that has one.

    Args:
        kind: ``extractors``, ``matchers`` or ``dense_matchers``.
        conf: what :func:`get_conf` takes or returns.

    Raises:
        InputError: nobody has the model, or what it needs is not installed, or an option is unknown.
    """
    conf = get_conf(kind, conf)
    package = KINDS[kind].package
    host = conf.get("host") or _host_of_model(package, conf["model"])
    if host is None:
        return _our_class(package, conf["model"]["name"])(conf["model"]).eval()
    if host not in available_hosts():
        raise InputError(f"Conf '{conf['output']}' needs the host '{host}'. {HOW_TO_INSTALL}")
    try:
        load = _import_from(host, "utils.base_model").dynamic_load
        model_class = load(_import_from(host, package), conf["model"]["name"])
    except ImportError as error:
        raise InputError(
            f"Model '{conf['model']['name']}' of {host}.{package} cannot be loaded: {error}."
            " Install what it needs, as the installation notes of HLOC say."
        ) from error
    try:
        return model_class(conf["model"]).eval()
    except OSError as error:  # URLError, when weights cannot be downloaded, is one
        raise InputError(
            f"Model '{conf['model']['name']}' of {host}.{package} cannot get its weights: {error}. Connect"
            " to the network once, or put them where HLOC looks for them."
        ) from error


def set_options(kind: str, conf: Conf, options: Mapping[str, Any]) -> None:
    """Set options of a conf's model.

    Raises:
        InputError: the model is ours and has no such option. (:func:`load_model` would look for a host's.)
    """
    package, name = KINDS[kind].package, conf["model"]["name"]
    if "host" not in conf and _host_of_model(package, conf["model"]) is None:
        known = _our_class(package, name).default_conf.keys()
        if unknown := options.keys() - known:
            raise InputError(f"Model '{name}' has no option {sorted(unknown)}; it has {sorted(known)}.")
    conf["model"] |= options


def _host_of_model(package: str, options: Mapping[str, Any]) -> str | None:
    """Host whose model fits the options better than ours, or None for our own."""
    name = options["name"]
    is_ours = _our_model_spec(package, name) is not None
    if is_ours and options.keys() <= _our_class(package, name).default_conf.keys() | {"name"}:
        return None
    hosts = available_hosts()
    for host in hosts:
        if PathFinder.find_spec(f"{host}.{package}.{name}", _import_from(host, package).__path__):
            return host
    if is_ours:
        return None
    hint = f"Nor have the hosts {hosts}." if hosts else HOW_TO_INSTALL
    raise InputError(f"hloc_ext.{package} has no model '{name}'. {hint}")


def _our_confs(kind: str) -> dict[str, Conf]:
    if kind not in KINDS:
        raise InputError(f"There is no kind of conf '{kind}', only {sorted(KINDS)}.")
    return getattr(our_confs, kind)


def _import_from(host: str, submodule: str) -> ModuleType:
    if host == "imcui.hloc" and host not in sys.modules:
        importlib.import_module("imcui")  # found relative to the user's folder, if it lies there
        with _temporary_working_directory():
            importlib.import_module(host)
    return importlib.import_module(f"{host}.{submodule}")


@contextmanager
def _temporary_working_directory() -> Iterator[None]:
    """Protect a log.txt of the user: importing imcui.hloc empties it, and then keeps writing to it."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        log_file = os.path.abspath("log.txt")
        try:
            yield
        finally:
            os.chdir(before)
            log = logging.getLogger("hloc")
            for handler in list(log.handlers):
                if isinstance(handler, logging.FileHandler) and handler.baseFilename == log_file:
                    log.removeHandler(handler)
                    handler.close()
