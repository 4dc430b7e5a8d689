"""What a normal distribution of whole curves says of a curve of which some values are known."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular


def condition(
    mean: np.ndarray, cov: np.ndarray, known: np.ndarray, horizon: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of all values of a curve, given those that are not NaN.

    Parameters
    ----------
    mean : ndarray of shape (n_rows, n_outputs)
        Mean curve.
    cov : ndarray of shape (n_rows * n_outputs, n_rows * n_outputs)
        Covariance of its values, noise included, row by row.
    known : ndarray of shape (n_rows, n_outputs)
        Values, NaN where not known.
    horizon : {None, 1}
        Every row given all that is known, or given what is known of the rows before it.
    """
    given = np.isfinite(known)
    forecast_rows = _each_from_all if horizon is None else _each_from_earlier
    if not given.any():
        return mean, np.sqrt(np.diag(cov)).reshape(mean.shape)
    shift, variance = forecast_rows(cov, given, (known - mean)[given])
    variance = np.maximum(variance, 1e-12 * np.diag(cov))
    return mean + shift.reshape(mean.shape), np.sqrt(variance).reshape(mean.shape)


def _each_from_all(cov: np.ndarray, given: np.ndarray, residual: np.ndarray) -> tuple:
    at = given.ravel()
    across = cov[:, at]
    factor = cho_factor(cov[np.ix_(at, at)], lower=True)
    shift = across @ cho_solve(factor, residual)
    explained = solve_triangular(factor[0], across.T, lower=True)
    return shift, np.diag(cov) - np.sum(explained**2, axis=0)


def _each_from_earlier(cov: np.ndarray, given: np.ndarray, residual: np.ndarray) -> tuple:
    """One factorisation serves all rows: the first columns of L^-1 belong to the first values."""
    n_outputs = given.shape[1]
    at = np.flatnonzero(given.ravel())
    L = cholesky(cov[np.ix_(at, at)], lower=True)
    innovations = solve_triangular(L, residual, lower=True)
    weights = solve_triangular(L, cov[:, at].T, lower=True)  # (n_given, n_values)
    earlier = (at // n_outputs)[:, None] < np.arange(len(cov)) // n_outputs
    weights = np.where(earlier, weights, 0.0)
    return innovations @ weights, np.diag(cov) - np.sum(weights**2, axis=0)
