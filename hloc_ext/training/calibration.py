"""Make the scores of a matcher probabilities: of the matches with a score of 0.8, 80 % are right.

Logistic regression on pairs held out (Platt, "Probabilistic outputs for support vector machines", 1999), with
what the matcher knows of a match as variables: the logit of its coarse probability, and the logarithms of its
two fine peaks.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..evaluation.calibration import reliability
from ..models.dual_softmax import mutual_matches
from ..models.kd_mamba import KDMamba, PairFeatures, cell_centres, logit_of_log

RIGHT = 3.0  # greatest error of a right match, pixels
_LEAST_MATCHES = 100


@torch.no_grad()
def observe_matches(
    model: KDMamba, first: PairFeatures, second: PairFeatures, points1: Tensor, valid1: Tensor
) -> tuple[Tensor, Tensor]:
    """Variables of the matches of one pair, and their errors.

    Args:
        model: in evaluation mode.
        first, second: features of the two images, of a batch of one.
        points1, valid1: where the centre of each cell of image 0 lies in image 1, N×2 in pixels, and whether
            that is known.

    Returns:
        M×3 (1, logit of P, sum of the log peaks), and errors in pixels, M (infinite where the truth is not
        known).
    """
    matches = mutual_matches(first.coarse, second.coarse, model.scales[0], min_probability=0.02)
    step1, peak1 = model.refine(first, second, matches.batch, matches.index0, matches.index1)
    _, peak0 = model.refine(second, first, matches.batch, matches.index1, matches.index0)
    found = cell_centres(matches.index1, second.grid) + step1
    error = (found - points1.to(found)[matches.index0]).norm(dim=1)
    error = torch.where(valid1.to(found.device)[matches.index0], error, torch.inf)
    logit = logit_of_log(matches.log_probability)
    return torch.stack([torch.ones_like(logit), logit, peak0 + peak1], 1), error


def fit_calibration(variables: Tensor, right: Tensor) -> Tensor:
    """Coefficients of logistic regression.

    Args:
        variables: M×K.
        right: M bool.

    Returns:
        K coefficients.

    Raises:
        InputError: too few matches, or all of them right or wrong.
    """
    if len(right) < _LEAST_MATCHES or right.all() or not right.any():
        raise InputError(
            f"{len(right)} matches of the validation pairs, {int(right.sum())} of them right, are too few to"
            " calibrate the scores: raise data.validation_pairs, or train longer."
        )
    x, y = variables.double(), right.double()
    coefficients = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([coefficients], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        # The small penalty keeps the solution finite where the classes can be separated.
        value = F.binary_cross_entropy_with_logits(x @ coefficients, y) + 1e-6 * coefficients.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return coefficients.detach().float()


def calibrate(
    model: KDMamba, observations: Iterable[tuple[Tensor, Tensor]], threshold: float = RIGHT
) -> dict[str, float]:
    """Set the calibration of a matcher from observed matches.

    Args:
        model: whose calibration is set.
        observations: of :func:`observe_matches`.
        threshold: greatest error of a right match, pixels.

    Returns:
        ``before`` and ``after``: expected calibration error, the mean difference between score and share of
        right matches over ten bins of scores.
    """
    variables, errors = (torch.cat(parts).cpu() for parts in zip(*observations, strict=True))
    right = errors <= threshold
    fitted = fit_calibration(variables, right)
    figures = {
        name: reliability(torch.sigmoid(variables @ coefficients), right).expected_calibration_error
        for name, coefficients in (("before", model.calibration.cpu()), ("after", fitted))
    }
    model.calibration.copy_(fitted)
    return figures
