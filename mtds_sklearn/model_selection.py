"""Choosing models of sequences: scorers that forecast, a splitter, and converters for lists.

The tools of scikit-learn cut and score single rows. Here the unit is the sequence: a scorer
reveals the first rows of each held-out sequence and scores the forecast of the rest.
"""

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import BaseCrossValidator
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import UNUSED

from mtds_sklearn._scores import Forecaster
from mtds_sklearn._sequences import pack_sequences, resolve_rows, unpack_rows
from mtds_sklearn._tables import mask_future, rows_in_context, stack_sequences, unstack
from mtds_sklearn.estimators._checks import as_columns, check_horizon, check_targets, count_rows
from mtds_sklearn.estimators._surface import r2_of_forecast

__all__ = [
    "ForecastScorer",
    "PrefixSplit",
    "forecast_scorers",
    "mask_future",
    "stack_sequences",
    "unstack",
]

_METRICS = ("rmse", "mae", "r2", "nll", "crps", "coverage")


class ForecastScorer(BaseEstimator):
    """Reveal the first rows of each sequence, forecast, and score the rest.

    An object of this class is a scorer: pass it as `scoring` to `cross_validate` or
    `GridSearchCV`, alone or in a dict. It hands `groups` and `times` to the estimator's
    `predict`, which string scorers do not. The labels come from metadata routing
    (``sklearn.set_config(enable_metadata_routing=True)``) or from the row MultiIndex of `X`.

    Parameters
    ----------
    context : int or float
        What is revealed of each sequence: a number of rows (0 or more), or a share of its rows
        (between 0 and 1, exclusive; rounded down).
    metric : {"rmse", "mae", "r2", "nll", "crps", "coverage"}, default="rmse"
        Greater is always better: errors are negated. Values of all sequences count alike; with
        several outputs the score is the average over outputs.

        - "rmse", "mae", "r2": of the mean forecast, in the units of y (r2: none)
        - "nll": negative log density, nats per value: of the estimator's own forecast if it has
          `forecast_log_density`, else of a Gaussian with its mean and standard deviation
        - "crps": continuous ranked probability score from quantiles, else of that Gaussian
        - "coverage": share of the values inside the central 90 % interval, from quantiles, else of
          that Gaussian. A diagnostic, best near 0.9: not something to maximise.
    horizon : int, default=None
        With h, a row is forecast from everything observed up to h rows before it, not just from
        the context (1: one step ahead).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyRegressor
    >>> from mtds_sklearn import ForecastScorer, RowWise
    >>> X, y, groups = np.zeros((6, 1)), np.array([0.0, 0, 3, 0, 0, -3]), [0, 0, 0, 1, 1, 1]
    >>> baseline = RowWise(DummyRegressor()).fit(X, y, groups=groups)
    >>> ForecastScorer(context=2, metric="mae")(baseline, X, y, groups=groups)
    -3.0
    """

    # The public way to make a scorer that asks for metadata; `estimator` is no metadata.
    __metadata_request__score: ClassVar[dict] = {"groups": True, "times": True, "estimator": UNUSED}

    def __init__(
        self, context: int | float, metric: str = "rmse", horizon: int | None = None
    ) -> None:
        self.context = context
        self.metric = metric
        self.horizon = horizon

    def __call__(self, estimator, X: ArrayLike, y: ArrayLike, **metadata: Any) -> float:
        """Score, as `scoring` is called by scikit-learn."""
        return self.score(estimator, X, y, **metadata)

    def score(
        self,
        estimator,
        X: ArrayLike,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ) -> float:
        """Score the forecasts of a fitted estimator.

        Parameters
        ----------
        estimator : estimator object
            A fitted regressor of sequences, a pipeline that ends in one, or a search over either.
        X : array-like of shape (n_rows, n_inputs)
            Inputs, each sequence from its first row.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            True outputs; NaN is neither revealed nor scored.
        groups, times : array-like of shape (n_rows,), default=None
            As in `predict` of the estimator.

        Returns
        -------
        score : float
            Greater is better.

        Raises
        ------
        ValueError
            If a parameter is out of range, or nothing observed lies after the context.
        """
        who = type(self).__name__
        if self.metric not in _METRICS:
            raise ValueError(f"{who}: metric must be one of {_METRICS}, got {self.metric!r}")
        horizon = check_horizon(self.horizon, who=who)
        y = check_targets(y, n_rows=count_rows(X), who=who)
        targets = as_columns(y)
        labels, times = resolve_rows(X, groups, times, who=who)
        revealed = _first_rows(len(y), labels, times, self.context, who=who)
        scored = ~np.isnan(targets) & ~revealed[:, np.newaxis]
        if not scored.any():
            raise ValueError(
                f"{who}: nothing is left to score with context={self.context}: "
                f"{np.count_nonzero(~revealed)} of {len(y)} rows lie after the context, and "
                f"{np.count_nonzero(~np.isnan(targets))} of {targets.size} values are observed"
            )
        if revealed.any() or horizon is not None:
            _refuse_transformed_target(estimator, who)
        context = y if horizon is not None else np.where(revealed, y.T, np.nan).T
        known = {"groups": labels, "times": times, "y_context": context, "horizon": horizon}
        # None is left out, for estimators that do not know the argument.
        known = {name: value for name, value in known.items() if value is not None}
        return self._score_values(Forecaster(estimator, X, known), targets, scored)

    def _score_values(
        self, forecaster: Forecaster, targets: np.ndarray, scored: np.ndarray
    ) -> float:
        """Score the values marked in `scored`, both of shape (n_rows, n_outputs)."""
        if self.metric == "r2":
            return r2_of_forecast(targets, forecaster.mean(targets), scored)
        per_value = {
            "rmse": lambda: (targets - forecaster.mean(targets)) ** 2,
            "mae": lambda: np.abs(targets - forecaster.mean(targets)),
            "nll": lambda: -forecaster.log_density(targets),
            "crps": lambda: forecaster.crps(targets),
            "coverage": lambda: forecaster.covered(targets),
        }[self.metric]()
        columns = zip(per_value.T, scored.T, strict=True)
        per_output = np.array([values[rows].mean() for values, rows in columns if rows.any()])
        if self.metric == "rmse":
            per_output = np.sqrt(per_output)
        return float(np.mean(per_output if self.metric == "coverage" else -per_output))


def _refuse_transformed_target(estimator, who: str) -> None:
    """Refuse what would hand the context on in units that are not those of its regressor."""
    while not isinstance(estimator, TransformedTargetRegressor):
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            estimator = estimator[-1]
        else:
            return
    raise ValueError(
        f"{who}: TransformedTargetRegressor transforms y but hands y_context on as it is, so that "
        f"{type(estimator.regressor_).__name__} would take the context for something else; "
        "use its y_transform, transform y before the search, or score with context=0"
    )


def forecast_scorers(
    contexts: Sequence[int | float] = (0, 8, 32),
    *,
    metric: str = "rmse",
    horizon: int | None = None,
) -> dict[str, ForecastScorer]:
    """Make scorers for several contexts: the curve of error against context in one search.

    Parameters
    ----------
    contexts : sequence of int or float, default=(0, 8, 32)
        As `context` of `ForecastScorer`.
    metric : str, default="rmse"
        As in `ForecastScorer`.
    horizon : int, default=None
        As in `ForecastScorer`.

    Returns
    -------
    scorers : dict
        ``{"context_8": ForecastScorer(8), ...}``, in the order of `contexts`. With it
        `GridSearchCV` needs the name of one as `refit`.
    """
    return {f"context_{c}": ForecastScorer(c, metric=metric, horizon=horizon) for c in contexts}


class PrefixSplit(BaseCrossValidator):
    """Train on the first part of every sequence, test on whole sequences.

    For the future of known sequences; for new ones scikit-learn's `GroupKFold` is right. The
    test rows contain the training rows, since a forecast starts at the first row of a sequence:
    score with ``ForecastScorer(context)`` and a share of at least the largest fraction, so that
    no training row is scored.

    Parameters
    ----------
    fractions : sequence of float, default=(0.5,)
        One split for each: the share of the rows of each sequence to train on, rounded down.
        Sequences with a share below one row are tested on only.
    """

    __metadata_request__split: ClassVar[dict] = {"groups": True, "times": True}

    def __init__(self, fractions: Sequence[float] = (0.5,)) -> None:
        self.fractions = fractions

    def get_n_splits(
        self,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ) -> int:
        """Return the number of fractions.

        Parameters
        ----------
        X, y, groups, times : object
            Ignored.

        Returns
        -------
        n_splits : int
            One for each fraction.
        """
        return len(self.fractions)

    def split(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the training rows and the test rows (all of them) of each split.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_inputs)
            Inputs; only the number of rows and a row MultiIndex matter.
        y : object
            Ignored.
        groups, times : array-like of shape (n_rows,), default=None
            Sequence of each row and its place in it; None takes the row MultiIndex of `X`, else
            all rows are one sequence in the order given.

        Yields
        ------
        train, test : ndarray of int, shapes (n_train,) and (n_rows,)
            Row numbers, ascending.

        Raises
        ------
        ValueError
            If a fraction is not between 0 and 1, or leaves no row to train on.
        """
        who = type(self).__name__
        n_rows = count_rows(X)
        labels, times = resolve_rows(X, groups, times, who=who)
        for fraction in self.fractions:
            if isinstance(fraction, Integral):
                raise ValueError(f"{who}: fractions must lie between 0 and 1, got {fraction!r}")
            first = _first_rows(n_rows, labels, times, fraction, who=who)
            if not first.any():
                raise ValueError(
                    f"{who}: a fraction of {fraction} leaves no row of {n_rows} to train on"
                )
            yield np.flatnonzero(first), np.arange(n_rows)


def _first_rows(
    n_rows: int, labels: Any, times: Any, context: int | float, *, who: str
) -> np.ndarray:
    """Mark the first rows of each sequence, shape (n_rows,) in the caller's order."""
    nothing = np.zeros((n_rows, 1))
    sequences = pack_sequences(nothing, nothing, labels=labels, times=times, who=who)
    return unpack_rows(rows_in_context(sequences, context, who=who), sequences)
