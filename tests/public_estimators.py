"""The estimators that every test of the scikit-learn surface runs over.

To put an estimator under these tests, add a `Case`. It must be quick: sizes as small as they go.
"""

from typing import Any, NamedTuple

from sklearn.linear_model import Ridge
from toy_lds import ToyLDS

from mtds_sklearn import MTLDSRegressor, PooledLDS, RowWise, SingleTaskLDS


class Case(NamedTuple):
    """An estimator, and what is true of it."""

    estimator: Any
    grid: dict[str, list]
    """Two values of one parameter, for searches."""
    is_ordered: bool
    """Whether the order of rows matters, and with it the labels."""
    failed_checks: dict[str, str]
    """The checks of scikit-learn that cannot hold, with the reason."""
    horizon: int | None = 2
    """A horizon it can forecast at; None if it cannot at any."""


# The only ones that may be declared: two on the order of rows, two on weights. A model that finds
# no memory in the rows of these checks, which indeed have none, passes the first two; then
# declaring them is an error.
ORDERED_ROWS = "rows without labels are one sequence, in which the order of rows means something"
ORDER_CHECKS = {
    "check_methods_sample_order_invariance": ORDERED_ROWS,
    "check_methods_subset_invariance": ORDERED_ROWS,
}
WHOLE_SEQUENCES = (
    "a weight belongs to a sequence, and rows without labels are one: rows may not differ"
)
WEIGHT_CHECKS = {
    "check_sample_weights_not_overwritten": WHOLE_SEQUENCES,
    "check_sample_weight_equivalence_on_dense_data": WHOLE_SEQUENCES,
}

CASES = [
    Case(
        ToyLDS(),
        {"prior_std": [0.1, 3.0]},
        is_ordered=True,
        failed_checks=ORDER_CHECKS | WEIGHT_CHECKS,
    ),
    Case(
        MTLDSRegressor(n_states=1, latent_dim=1, n_init=1, random_state=0),
        {"initial_state": ["varying", "zero"]},
        is_ordered=True,
        failed_checks=WEIGHT_CHECKS,
    ),
    Case(
        PooledLDS(n_states=1),
        {"initial_state": ["shared", "zero"]},
        is_ordered=True,
        failed_checks=WEIGHT_CHECKS,
    ),
    Case(
        SingleTaskLDS(n_states=1),
        {"max_iter": [1, 100]},
        is_ordered=True,
        failed_checks=WEIGHT_CHECKS,
        horizon=None,
    ),
    Case(RowWise(Ridge()), {"estimator__alpha": [0.1, 100.0]}, is_ordered=False, failed_checks={}),
]


def expected_failed_checks(estimator):
    """Return the failures declared for an estimator, as `parametrize_with_checks` asks for them."""
    return {type(case.estimator): case.failed_checks for case in CASES}[type(estimator)]


def name_of(case):
    """Return the name of the estimator, as the name of a test."""
    return type(case.estimator).__name__
