"""How good forecasts are: asking a fitted estimator for them, and scoring each value."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr
from scipy.stats import norm

# Midpoints of 64 equal cells: the mean pinball loss over them is the midpoint rule for the CRPS
# (low by about 1 % of the standard deviation for a Gaussian, whose tails the cells cut off).
_CRPS_LEVELS = (np.arange(64) + 0.5) / 64
_INTERVAL = (0.05, 0.95)  # whose coverage is counted: the central 90 %


def crps_of_quantiles(y: np.ndarray, quantiles: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score from quantiles: twice the mean pinball loss.

    T. Gneiting & R. Ranjan, J. Bus. Econ. Stat. 29, 411-422 (2011).

    Parameters
    ----------
    y : ndarray of shape (...)
        What came.
    quantiles : ndarray of shape (..., n_levels)
        Forecast quantiles.
    levels : ndarray of shape (n_levels,)
        Their levels, midpoints of equal cells of (0, 1).

    Returns
    -------
    crps : ndarray of shape (...)
        In the units of y; 0 is perfect.
    """
    excess = y[..., np.newaxis] - quantiles
    return 2.0 * np.mean(np.maximum(levels * excess, (levels - 1.0) * excess), axis=-1)


def crps_of_gaussian(y: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of Gaussian forecasts, in the units of y.

    T. Gneiting & A. E. Raftery, J. Am. Stat. Assoc. 102, 359-378 (2007), section 4.2.
    """
    std = np.maximum(std, 1e-300)  # a forecast without spread scores its absolute error
    z = (y - mean) / std
    density = np.exp(-0.5 * np.minimum(np.abs(z), 40.0) ** 2) / np.sqrt(2.0 * np.pi)
    return std * (z * (2.0 * ndtr(z) - 1.0) + 2.0 * density - 1.0 / np.sqrt(np.pi))


class Forecaster:
    """Forecasts of a fitted estimator for given rows, as arrays of shape (n_rows, n_outputs)."""

    def __init__(self, estimator, X: ArrayLike, known: dict[str, Any]) -> None:
        # `predict` of a search takes X alone and would lose everything else.
        self.estimator = getattr(estimator, "best_estimator_", estimator)
        self.X = X
        self.known = known

    def mean(self, targets: np.ndarray) -> np.ndarray:
        return np.reshape(self.estimator.predict(self.X, **self.known), targets.shape)

    def log_density(self, targets: np.ndarray) -> np.ndarray:
        model, X = last_step(self.estimator, self.X)
        if hasattr(model, "forecast_log_density"):
            y = targets[:, 0] if self.known["y_context"].ndim == 1 else targets
            return np.reshape(model.forecast_log_density(X, y, **self.known), targets.shape)
        return norm.logpdf(targets, *self._gaussian(targets))

    def crps(self, targets: np.ndarray) -> np.ndarray:
        if self._takes("quantiles"):
            return crps_of_quantiles(targets, self._quantiles(targets, _CRPS_LEVELS), _CRPS_LEVELS)
        return crps_of_gaussian(targets, *self._gaussian(targets))

    def covered(self, targets: np.ndarray) -> np.ndarray:
        if self._takes("quantiles"):
            quantiles = self._quantiles(targets, _INTERVAL)
        else:
            mean, std = self._gaussian(targets)
            quantiles = mean[..., np.newaxis] + std[..., np.newaxis] * norm.ppf(_INTERVAL)
        return (quantiles[..., 0] <= targets) & (targets <= quantiles[..., 1])

    def _gaussian(self, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not self._takes("return_std"):
            raise ValueError(
                "ForecastScorer needs an estimator whose predict takes return_std for this "
                f"metric, got {type(last_step(self.estimator)[0]).__name__}"
            )
        mean, std = self.estimator.predict(self.X, return_std=True, **self.known)
        return np.reshape(mean, targets.shape), np.reshape(std, targets.shape)

    def _quantiles(self, targets: np.ndarray, levels: Sequence[float]) -> np.ndarray:
        parts = self.estimator.predict(self.X, quantiles=list(levels), **self.known)
        return np.reshape(parts[1], (*targets.shape, len(levels)))

    def _takes(self, argument: str) -> bool:
        model, _ = last_step(self.estimator)
        return argument in inspect.signature(model.predict).parameters


def last_step(estimator, X: ArrayLike | None = None) -> tuple[Any, ArrayLike | None]:
    """Return the regressor at the end of searches and pipelines, and X as it arrives there."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            if X is not None and len(estimator.steps) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator.steps[-1][1]
        else:
            return estimator, X
