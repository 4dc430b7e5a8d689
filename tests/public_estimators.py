"""The estimators that every test of the scikit-learn surface runs over.

To put an estimator under these tests, add a `Case`. It must be quick: sizes as small as they go.
"""

from typing import Any, NamedTuple

from sklearn.linear_model import Ridge
from toy_lds import ToyLDS

from mtds_sklearn.estimators._row_wise import RowWise


class Case(NamedTuple):
    """An estimator, and what is true of it."""

    estimator: Any
    grid: dict[str, list]
    """Two values of one parameter, for searches."""
    is_ordered: bool
    """Whether the order of rows matters, and with it the labels."""


CASES = [
    Case(ToyLDS(), {"prior_std": [0.1, 3.0]}, is_ordered=True),
    Case(RowWise(Ridge()), {"estimator__alpha": [0.1, 100.0]}, is_ordered=False),
]

ORDERED_ROWS = "rows without labels are one sequence, in which the order of rows means something"


def expected_failed_checks(estimator):
    """Return the checks of scikit-learn that cannot hold, with the reason."""
    is_ordered = {type(case.estimator): case.is_ordered for case in CASES}[type(estimator)]
    if not is_ordered:
        return {}
    return {
        "check_methods_sample_order_invariance": ORDERED_ROWS,
        "check_methods_subset_invariance": ORDERED_ROWS,
    }


def name_of(case):
    """Return the name of the estimator, as the name of a test."""
    return type(case.estimator).__name__
