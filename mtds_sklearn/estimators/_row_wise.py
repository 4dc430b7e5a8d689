"""Any row-wise regressor behind the signatures of the sequence models, as a baseline."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import check_consistent_length, get_tags
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from mtds_sklearn.estimators._checks import (
    HasMethods,
    as_columns,
    check_horizon,
    check_levels,
    check_targets,
    count_rows,
    names_of,
    take_rows,
)
from mtds_sklearn.estimators._surface import SequenceRegressorMixin
from mtds_sklearn.estimators._weights import check_weight


class RowWise(MetaEstimatorMixin, SequenceRegressorMixin, BaseEstimator):
    """Predict each row from its inputs alone, as a baseline for the sequence models.

    `groups`, `times`, `y_context` and `horizon` are accepted wherever the sequence models accept
    them, and change no prediction: a row-wise regressor knows neither sequences nor history.

    Parameters
    ----------
    estimator : estimator object
        A scikit-learn regressor (or a pipeline that ends in one); it is cloned, not changed.
        With several outputs it must be able to predict several.

    Attributes
    ----------
    estimator_ : estimator object
        The fitted clone.
    residual_std_ : ndarray of shape (n_outputs,)
        Root mean square of the residuals on the training rows, in the units of y. It is too small
        for regressors that learn their training rows by heart.
    n_outputs_ : int
        Number of outputs.
    n_features_in_ : int
        Number of inputs; only if `estimator_` has it.
    feature_names_in_ : ndarray of shape (n_inputs,)
        Names of the inputs; only if `estimator_` has them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from mtds_sklearn import RowWise
    >>> X, y = np.arange(6.0).reshape(-1, 1), np.array([1.0, 3.0, 5.0, np.nan, 9.0, 11.0])
    >>> baseline = RowWise(LinearRegression()).fit(X, y, groups=[0, 0, 0, 1, 1, 1])
    >>> baseline.predict(X, groups=[0, 0, 0, 1, 1, 1]).round(2)
    array([ 1.,  3.,  5.,  7.,  9., 11.])
    """

    _parameter_constraints: ClassVar[dict] = {"estimator": [HasMethods(["fit", "predict"])]}

    def __init__(self, estimator):
        self.estimator = estimator

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags = inner.input_tags
        tags.non_deterministic = inner.non_deterministic
        tags.target_tags.multi_output = inner.target_tags.multi_output
        if inner.regressor_tags is not None:
            tags.regressor_tags = inner.regressor_tags
        return tags

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ):
        """Fit a clone of `estimator` to the rows whose outputs are all observed.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_inputs)
            Inputs, handed on as they are.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Outputs; rows with NaN are dropped.
        sample_weight : array-like of shape (n_rows,), default=None
            Weight of each row, handed on to `estimator`, which must know it.
        groups, times : array-like of shape (n_rows,), default=None
            Ignored but for their length.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If no row is completely observed, or `estimator` refuses the data.
        """
        self._validate_params()
        who = type(self).__name__
        check_consistent_length(X, groups, times)
        n_rows = count_rows(X)
        targets = check_targets(y, n_rows=n_rows, who=who)
        complete = ~np.isnan(as_columns(targets)).any(axis=1)
        if not complete.any():
            raise ValueError(
                f"{who}: y has no observed value in a complete row; at least 1 of its {n_rows} "
                f"rows must not hold NaN ({np.count_nonzero(np.isnan(targets))} of "
                f"{targets.size} values are NaN)"
            )
        weight = None
        if sample_weight is not None:
            weight = check_weight(sample_weight, n_rows, who=who)[complete]
        inputs = X if complete.all() else take_rows(X, np.flatnonzero(complete))
        columns = as_columns(targets)[complete]
        fitted = self._fit_rows(inputs, columns, weight)
        residuals = columns - _predict_columns(fitted, inputs, columns.shape[1])
        attributes = {
            "estimator_": fitted,
            "residual_std_": np.sqrt(np.average(residuals**2, axis=0, weights=weight)),
            "n_outputs_": columns.shape[1],
            "_y_ndim_": targets.ndim,
            "_y_names_": names_of(y),
        }
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(fitted, name):
                attributes[name] = getattr(fitted, name)
        self._set_fitted(attributes)
        return self

    def _fit_rows(self, inputs: ArrayLike, columns: np.ndarray, weight: np.ndarray | None):
        """Fit a clone of `estimator` to complete rows."""
        # One output is handed on 1-D, which every regressor takes without a warning.
        targets = columns[:, 0] if columns.shape[1] == 1 else columns
        if weight is None:
            return clone(self.estimator).fit(inputs, targets)
        if not has_fit_parameter(self.estimator, "sample_weight"):
            raise ValueError(
                f"{type(self).__name__}: sample_weight was given, and "
                f"{type(self.estimator).__name__}.fit does not know it"
            )
        return clone(self.estimator).fit(inputs, targets, sample_weight=weight)

    def predict(
        self,
        X: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
        y_context: ArrayLike | None = None,
        horizon: int | None = None,
        return_std: bool = False,
        quantiles: Sequence[float] | None = None,
    ) -> np.ndarray | tuple[np.ndarray, ...]:
        """Predict each row from its inputs, with a Gaussian of constant width around it.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_inputs)
            Inputs.
        groups, times : array-like of shape (n_rows,), default=None
            Ignored but for their length.
        y_context : array-like of shape (n_rows,) or (n_rows, n_outputs), default=None
            Checked, then ignored.
        horizon : int, default=None
            Checked, then ignored.
        return_std : bool, default=False
            Also return `residual_std_`, one row for each row of X.
        quantiles : sequence of float of shape (n_levels,), default=None
            Also return these quantiles, levels strictly between 0 and 1.

        Returns
        -------
        mean : ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Mean of the outputs, in the shape of the `y` seen in `fit`.
        std : ndarray with the shape of `mean`
            Only if `return_std`.
        quantiles : ndarray with the shape of `mean` and a trailing axis of n_levels
            Only if `quantiles` is given.

        Raises
        ------
        ValueError
            If an argument has a wrong shape or value, or `estimator_` refuses the data.
        """
        check_is_fitted(self)
        who = type(self).__name__
        levels = check_levels(quantiles, who=who)
        check_horizon(horizon, who=who)
        mean = _predict_columns(self.estimator_, X, self.n_outputs_)
        check_consistent_length(mean, groups, times)
        if y_context is not None:
            shape = {"n_rows": len(mean), "n_outputs": self.n_outputs_, "names": self._y_names_}
            check_targets(y_context, name="y_context", who=who, **shape)
        std = np.broadcast_to(self.residual_std_, mean.shape)
        parts = [mean]
        if return_std:
            parts.append(std.copy())
        if quantiles is not None:
            parts.append(mean[:, :, None] + std[:, :, None] * ndtri(levels))
        parts = [part[:, 0] if self._y_ndim_ == 1 else part for part in parts]
        return parts[0] if len(parts) == 1 else tuple(parts)


def _predict_columns(estimator, X: ArrayLike, n_outputs: int) -> np.ndarray:
    """Return the predictions of a row-wise regressor as (n_rows, n_outputs)."""
    return np.asarray(estimator.predict(X), dtype=np.float64).reshape(-1, n_outputs)
