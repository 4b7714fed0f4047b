"""Weights of the evidence: ``python -m benchmarks.gis.calibrate --city DIR --photos DIR``.

Neither the city (a seed of its own) nor the photos (``train/aerial_semantic``) are those of the benchmark.
The weights that it prints are put into :data:`hloc_ext.gis.registration.evidence.WEIGHTS`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.command_line import set_threads
from hloc_ext.evaluation.registration import registration_error
from hloc_ext.gis.registration.evidence import ACCEPTED, Evidence, calibrate, probability
from hloc_ext.gis.registration.matching import get_method
from hloc_ext.gis.registration.register import register

from .problems import KINDS, PRIOR, City, Makers, exchanged, mask_problems

#: Sources of photos with masks.
SOURCES = ("tugraz_drone", "dubai")
#: A registration counts as right below half of what the benchmark calls a success, as part of the diagonal.
RIGHT = 0.015


def right_pairs(city: City, photos: Path, each: int, seed: int) -> dict[str, Makers]:
    """Problems with an answer, by kind and source."""
    sets: dict[str, Makers] = {kind: city.problems(kind, each, seed) for kind in KINDS}
    return sets | {source: mask_problems(photos, source, each, seed) for source in SOURCES}


def wrong_pairs(city: City, photos: Path, each: int, seed: int) -> dict[str, Makers]:
    """Problems without an answer: mirror images, other places, masks of other photos."""
    sets: dict[str, Makers] = {}
    for kind in KINDS:
        sets[f"{kind}, mirrored"] = city.problems(kind, each, seed, mirrored=True)
        sets[f"{kind}, other picture"] = exchanged(
            city.problems(kind, each, seed), mask_problems(photos, SOURCES[0], each, seed)
        )
    for source in SOURCES:
        sets[f"{source}, other mask"] = mask_problems(photos, source, each, seed, of_others=True)
    return sets


def collect(sets: dict[str, Makers], answered: bool) -> tuple[list[Evidence], list[bool]]:
    """Evidence of the best result of the gradient search for each problem, and whether it is right."""
    method = get_method("gradient")
    evidence, right = [], []
    for kind, makers in sets.items():
        for make in makers:
            problem = make()
            found = register(problem.image, problem.map, PRIOR, method=method)
            error = registration_error(found.matrix, problem.truth, problem.image.shape[::-1])
            evidence.append(found.evidence)
            right.append(answered and error.diagonal < RIGHT)
        print(f"{kind}: {sum(right[-len(makers) :])} right of {len(makers)}", flush=True)
    return evidence, right


def report(evidence: Sequence[Evidence], right: Sequence[bool], weights: Sequence[float]) -> str:
    """How many right and wrong registrations are accepted by weights."""
    values = np.array([probability(found, weights) for found in evidence])
    truth = np.array(right)
    return (
        f"accepted: {int((values[truth] >= ACCEPTED).sum())} of {int(truth.sum())} right ones,"
        f" {int((values[~truth] >= ACCEPTED).sum())} of {int((~truth).sum())} wrong ones;"
        f" the most probable wrong one: {values[~truth].max(initial=0.0):.2f}"
    )


def main(argv: Sequence[str] | None = None) -> tuple[float, ...]:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gis.calibrate", description=__doc__)
    add = parser.add_argument
    add("--city", type=Path, required=True, help="set of python -m hloc_ext.city --kind gis")
    add("--photos", type=Path, required=True, help="folder train/aerial_semantic of the data")
    add("--right", type=int, default=8, help="pairs with an answer, of each kind and source")
    add("--wrong", type=int, default=8, help="pairs without an answer, of each kind and source")
    add("--seed", type=int, default=2, help="of the transforms")
    args = parser.parse_args(argv)
    set_threads(1)
    city = City(args.city)
    evidence, right = collect(right_pairs(city, args.photos, args.right, args.seed), True)
    others, wrong = collect(wrong_pairs(city, args.photos, args.wrong, args.seed), False)
    evidence, right = evidence + others, right + wrong
    weights = calibrate(evidence, right)
    print(f"weights: ({', '.join(f'{weight:.2f}' for weight in weights)})")
    print(report(evidence, right, weights))
    return weights


if __name__ == "__main__":
    main()
