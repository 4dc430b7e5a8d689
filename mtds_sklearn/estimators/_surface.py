"""What all regressors of sequences share: metadata requests, tags and `score`."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from mtds_sklearn._transforms import check_domain
from mtds_sklearn.estimators._checks import as_columns, check_targets, warn_if_reordered
from mtds_sklearn.estimators._weights import check_weight

_ROW_METADATA = {"groups": True, "times": True}
_FIT_METADATA = {**_ROW_METADATA, "sample_weight": True}
_SCORE_METADATA = {**_FIT_METADATA, "y_context": True}
_PREDICT_METADATA = {
    **_ROW_METADATA,
    "y_context": True,
    "horizon": True,
    "return_std": True,
    "quantiles": True,
}


def r2_of_forecast(
    y: np.ndarray, mean: np.ndarray, scored: np.ndarray, sample_weight: np.ndarray | None = None
) -> float:
    """Coefficient of determination over the scored values, averaged over the outputs.

    Parameters
    ----------
    y, mean : ndarray of shape (n_rows, n_outputs)
        Targets and forecasts; values that are not scored may be NaN.
    scored : ndarray of bool, shape (n_rows, n_outputs)
        Which values count. Outputs without any are left out of the average.
    sample_weight : ndarray of shape (n_rows,), default=None
        Weight of each row.

    Returns
    -------
    r2 : float
        At most 1.
    """
    weight = np.ones(len(y)) if sample_weight is None else sample_weight
    return float(
        np.mean(
            [
                r2_score(y[rows, j], mean[rows, j], sample_weight=weight[rows])
                for j, rows in enumerate(scored.T)
                if rows.any()
            ]
        )
    )


class SequenceRegressorMixin(RegressorMixin):
    """What every regressor of sequences has: metadata requests, tags, `score`.

    The requests are declared here once, so that a user only has to switch metadata routing on.
    """

    __metadata_request__fit = _FIT_METADATA
    __metadata_request__partial_fit = _FIT_METADATA
    __metadata_request__predict = _PREDICT_METADATA
    __metadata_request__score = _SCORE_METADATA

    _doc_link_module = "mtds_sklearn"
    _doc_link_template = (
        "https://mtds-sklearn.readthedocs.io/en/stable/api/{estimator_module}.{estimator_name}.html"
    )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def score(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
        y_context: ArrayLike | None = None,
    ) -> float:
        """R^2 of the forecasts of what is observed and not revealed.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_inputs)
            Inputs, each sequence from its first row.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            True outputs; NaN is not scored.
        sample_weight : array-like of shape (n_rows,), default=None
            Weight of each row in the score; for the sequence models the same in all rows of a
            sequence.
        groups, times, y_context : array-like, default=None
            As in `predict`. Values that `y_context` reveals are not scored.

        Returns
        -------
        r2 : float
            R^2 over the scored values of each output, averaged over the outputs that have any.

        Raises
        ------
        ValueError
            If nothing is left to score, `y` has a value that `fit` would refuse, or weights differ
            within a sequence.
        """
        mean = as_columns(
            self.predict(X, groups=groups, times=times, y_context=y_context)  # checks X, y_context
        )
        who = f"{type(self).__name__}.score"
        shape = {"n_rows": len(mean), "n_outputs": mean.shape[1], "names": self._y_names_}
        shape["who"] = who
        warn_if_reordered(X, y=y, who=who)
        targets = as_columns(check_targets(y, **shape))
        check_domain(getattr(self, "y_transform_", None), targets, name="y", who=who)
        observed = ~np.isnan(targets)
        hidden = np.ones_like(observed)
        if y_context is not None:
            hidden = np.isnan(as_columns(check_targets(y_context, name="y_context", **shape)))
        if not np.any(observed & hidden):
            raise ValueError(
                f"{who} needs at least one observed value of y that y_context does not reveal, "
                f"got none: of {targets.size} values {np.count_nonzero(observed)} are observed "
                f"and y_context reveals {np.count_nonzero(~hidden)}"
            )
        if sample_weight is not None:
            sample_weight = check_weight(sample_weight, len(targets), who=who)
            self._check_score_weight(sample_weight, X, groups, times)
        return r2_of_forecast(targets, mean, observed & hidden, sample_weight)

    def _check_score_weight(self, weight: np.ndarray, X: ArrayLike, groups, times) -> None:
        """Refuse row weights (n_rows,) that make no sense; any do where rows stand alone."""

    def _set_fitted(self, fitted: dict[str, Any]) -> None:
        """Replace every fitted attribute (trailing underscore) of an earlier fit, all at once."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        vars(self).update(fitted)
