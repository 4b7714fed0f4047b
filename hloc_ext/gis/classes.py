"""Which class each feature of a layer is, by rules in a small YAML file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, MissingInputError
from ..formats.atomic import read_text
from .extra import naming_extra

with naming_extra():
    import pandas as pd
    import yaml

#: Names of the classes; the position of each is its value (:mod:`hloc_ext.city.labels`).
CLASSES = ("other", "road", "sidewalk", "building", "vegetation", "water")
#: The rules for OpenStreetMap's tags, for layers with usual names and for the layers of the city.
DEFAULT = Path(__file__).with_name("classes.yaml")

_ANY = "*"
_KEYS = {"class", "layer", "where", "width", "fields", "values"}
# A pair of OGR's column of tags that have no column of their own: "key"=>"value".
_PAIR = re.compile(r'"((?:[^"\\]|\\.)*)"=>"((?:[^"\\]|\\.)*)"')
# Widest that an attribute may say a line is, metres: more is in other units.
_WIDEST = 200.0


@dataclass(frozen=True)
class Rule:
    """A rule: which features are of a class, and how wide their lines are.

    Attributes:
        label: the class; None for features that are not painted.
        layers: patterns of layer names in small letters; empty for every layer.
        where: accepted values of attributes, of which one has to fit; empty for every feature.
        widths: metres by the value of the attribute; "*" for the others.
        fields: metres per unit of attributes that tell the width first.
        values: of a raster of classes.
    """

    label: int | None
    layers: tuple[str, ...] = ()
    where: Mapping[str, tuple[str, ...]] | None = None
    widths: Mapping[str, float] | None = None
    fields: Mapping[str, float] | None = None
    values: tuple[int, ...] = ()


def read_rules(path: Path = DEFAULT) -> list[Rule]:
    """Read rules; ``hloc_ext/gis/classes.yaml`` says what they are.

    Raises:
        MissingInputError: no such file.
        InputError: it is not YAML, or a rule is not understood; names the rule.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"Class mapping {path} does not exist.")
    try:
        records = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {error}.") from error
    if not isinstance(records, list) or not records:
        raise InputError(f"{path} has to hold a list of rules, such as '- {{class: road, layer: roads}}'.")
    return [parse_rule(record, f"rule {number} of {path}") for number, record in enumerate(records, 1)]


def parse_rule(record: Any, source: str = "the rule") -> Rule:
    """A rule from what YAML holds.

    Raises:
        InputError: it is not understood; names `source`.
    """
    if not isinstance(record, dict) or "class" not in record:
        raise InputError(f"{source} needs a class, such as {{class: road, layer: roads}}: got {record!r}.")
    unknown = sorted(map(str, set(record) - _KEYS))
    if unknown:
        raise InputError(f"{source} has unknown keys {unknown}: use {sorted(_KEYS)}.")
    name = record["class"]
    if name not in (*CLASSES, "none", None):
        raise InputError(f"{source} has an unknown class {name!r}: use {', '.join(CLASSES)} or none.")
    if not set(record) & {"layer", "where", "values"}:
        raise InputError(f"{source} fits everything: give it layer, where or values.")
    where = record.get("where")
    try:
        width = record.get("width")
        widths = width if isinstance(width, dict) or width is None else {_ANY: width}
        return Rule(
            label=CLASSES.index(name) if name in CLASSES else None,
            layers=tuple(str(pattern).lower() for pattern in _listed(record.get("layer", []))),
            where=None if where is None else {str(k): _accepted(v) for k, v in where.items()},
            widths=None if widths is None else {str(k): float(v) for k, v in widths.items()},
            fields={str(k): float(v) for k, v in record.get("fields", {}).items()},
            values=tuple(int(v) for v in _listed(record.get("values", []))),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{source} is not understood: {error}.") from error


def classify(
    frame: pd.DataFrame, names: Sequence[str], rules: Sequence[Rule]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Find the rule of each feature of a layer.

    The first rule by attributes that fits counts, and where there is none the first by the layer's name.

    Args:
        frame: (N) features.
        names: of the layer and of its file.
        rules: the rules, in the order in which they are painted.

    Returns:
        (N,) number of the rule, -1 for none; (N,) width in metres of a line or point, NaN for none.
    """
    chosen = np.full(len(frame), -1, np.intp)
    widths = np.full(len(frame), math.nan)
    fitting = [
        index
        for index, rule in enumerate(rules)
        if not rule.values and (not rule.layers or any(_named(names, p) for p in rule.layers))
    ]
    for index in sorted(fitting, key=lambda index: rules[index].where is None):
        rule = rules[index]
        if rule.where is None:
            fits = np.ones(len(frame), bool)
            values = np.full(len(frame), "", object)
        else:
            fits, values = _fits(frame, rule.where)
        fits &= chosen < 0
        chosen[fits] = index
        widths[fits] = _widths(frame[fits], values[fits], rule)
    return chosen, widths


def raster_classes(
    values: npt.NDArray[Any], names: Sequence[str], rules: Sequence[Rule]
) -> npt.NDArray[np.uint8]:
    """Classes of a raster of them.

    Rules with ``values`` whose layer names fit say which value is of which class. Without such a rule the
    values are those of :mod:`hloc_ext.city.labels`: 0 to 5 the classes, 6 (crossing) a road, others other.

    Args:
        values: (H, W).
        names: of the file.
        rules: the rules.

    Returns:
        (H, W) classes.

    Raises:
        InputError: without such a rule, a value above 10: the raster holds something else.
    """
    fitting = [r for r in rules if r.values and (not r.layers or any(_named(names, p) for p in r.layers))]
    result = np.zeros(values.shape, np.uint8)
    if fitting:
        for rule in fitting:
            result[np.isin(values, rule.values)] = rule.label or 0
        return result
    if values.size and not 0 <= values.min() <= values.max() <= 10:
        raise InputError(
            f"Raster {' / '.join(names)} holds values from {values.min()} to {values.max()}, not classes 0 to"
            " 10: say what they are by rules such as '- {class: building, layer: NAME, values: [255]}'."
        )
    table = np.array([0, 1, 2, 3, 4, 5, 1, 0, 0, 0, 0], np.uint8)
    return table[values.astype(np.intp)]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _accepted(values: Any) -> tuple[str, ...]:
    # YAML reads yes and no as booleans, and * needs quotes: true stands for any value, too.
    return tuple(_ANY if v is True else "no" if v is False else str(v) for v in _listed(values))


def _named(names: Iterable[str], pattern: str) -> bool:
    return any(fnmatch(name.lower(), pattern) for name in names)


def _fits(
    frame: pd.DataFrame, where: Mapping[str, tuple[str, ...]]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.object_]]:
    """Which features have an accepted value, and the value."""
    fits = np.zeros(len(frame), bool)
    found = np.full(len(frame), "", object)
    for key, accepted in where.items():
        values = _attribute(frame, key)
        if values is None:
            continue
        good = np.array(
            [v is not None and (v in accepted or (_ANY in accepted and v not in ("", "no"))) for v in values],
            bool,
        )
        new = good & ~fits
        found[new] = values[new]
        fits |= good
    return fits, found


def _attribute(frame: pd.DataFrame, key: str) -> npt.NDArray[np.object_] | None:
    """Values of an attribute as text, None where missing: a column, or a pair of OGR's ``other_tags``."""
    if key in frame:
        column = frame[key].astype(object)
        texts = [None if absent else str(v) for v, absent in zip(column, column.isna(), strict=True)]
    elif "other_tags" in frame:
        needle = f'"{key}"=>'
        texts = [
            dict(_PAIR.findall(tags)).get(key) if isinstance(tags, str) and needle in tags else None
            for tags in frame["other_tags"]
        ]
    else:
        return None
    return np.array(texts, object)


def _widths(frame: pd.DataFrame, values: npt.NDArray[np.object_], rule: Rule) -> npt.NDArray[np.float64]:
    table = rule.widths or {}
    widths = np.array([table.get(v, table.get(_ANY, math.nan)) for v in values], np.float64)
    for field, metres in reversed(list((rule.fields or {}).items())):
        stated = _attribute(frame, field)
        if stated is None:
            continue
        numbers = metres * pd.to_numeric(pd.Series(stated, dtype=object), errors="coerce").to_numpy(
            np.float64
        )
        usable = (numbers > 0) & (numbers <= _WIDEST)
        widths[usable] = numbers[usable]
    return np.where(widths > 0, widths, math.nan)
