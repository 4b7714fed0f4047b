"""Calibration of scores: known coefficients come back, and the scores become shares of right matches."""

import pytest
import torch

from hloc_ext.errors import InputError
from hloc_ext.models.kd_mamba import KDMAMBA_CONFIGS, KDMamba
from hloc_ext.training.calibration import calibrate, fit_calibration


def observations(coefficients, number=20000, seed=0):
    """Variables of matches, and errors of which those below 3 occur as the coefficients say."""
    random = torch.Generator().manual_seed(seed)
    logit = 2 * torch.randn(number, generator=random)
    peaks = -torch.rand(number, generator=random)
    variables = torch.stack([torch.ones(number), logit, peaks], 1)
    right = torch.rand(number, generator=random) < torch.sigmoid(variables @ torch.tensor(coefficients))
    return variables, torch.where(right, 1.0, 10.0)


def test_known_coefficients_are_found():
    variables, errors = observations([0.5, 0.8, 1.5])
    found = fit_calibration(variables, errors < 3)
    assert found.tolist() == pytest.approx([0.5, 0.8, 1.5], abs=0.15)


def test_scores_become_shares_of_right_matches():
    model = KDMamba(KDMAMBA_CONFIGS["nano"])
    figures = calibrate(model, [observations([-1.0, 0.5, 0.5], seed=i) for i in range(2)])
    assert figures["before"] > 0.1 and figures["after"] < 0.02
    assert model.calibration[1].item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("number", "error"), [(20, 1.0), (500, 1.0), (500, 9.0)])
def test_what_cannot_be_calibrated_is_refused(number, error):
    variables, _ = observations([0.0, 1.0, 0.0], number)
    with pytest.raises(InputError, match=rf"{number} matches.*validation_pairs"):
        fit_calibration(variables, torch.full((number,), error) <= 3)
