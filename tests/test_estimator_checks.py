"""The common checks of scikit-learn, with two exceptions: rows of a sequence have one weight."""

import pytest
from public_estimators import CASES, expected_failed_checks
from sklearn.utils.estimator_checks import parametrize_with_checks


# The checks fit one short sequence, of which a model of a family may well complain.
@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks(
    [case.estimator for case in CASES],
    expected_failed_checks=expected_failed_checks,
    xfail_strict=True,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
