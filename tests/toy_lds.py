"""A regressor of sequences that is small enough to be obviously right.

    yhat_t = W [u_t, f_t] + offset + z,   f_t = decay f_{t-1} + u_t,   z ~ N(0, prior_std^2)

with one z per sequence and output. It has what matters for the surface: memory, a feed-through
term, and something to infer about each sequence.
"""

from numbers import Real
from typing import ClassVar

import numpy as np
from scipy.stats import norm

from mtds_sklearn.estimators._base import BaseLDS
from mtds_sklearn.estimators._checks import Interval
from mtds_sklearn.inference._forecast import Forecast


class ToyLDS(BaseLDS):
    _parameter_constraints: ClassVar[dict] = {
        "decay": [Interval(Real, 0, 1, closed="left")],
        "prior_std": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(self, decay=0.5, prior_std=1.0, random_state=None):
        self.decay = decay
        self.prior_std = prior_std
        self.random_state = random_state

    def _fit_packed(self, sequences, rng):
        features = self._features(sequences)
        root = np.ones(len(features))  # of the weight of each row
        if sequences.weights is not None:
            root = np.sqrt(np.repeat(sequences.weights, np.diff(sequences.offsets)))
        weights = np.zeros((features.shape[1], sequences.outputs.shape[1]))
        noise_std = np.ones(sequences.outputs.shape[1])
        for j, rows in enumerate(sequences.observed.T):
            if rows.any():
                y = sequences.outputs[rows, j]
                weighted = features[rows] * root[rows, None]
                weights[:, j] = np.linalg.lstsq(weighted, y * root[rows])[0]
                residuals = y - features[rows] @ weights[:, j]
                noise_std[j] = np.sqrt(np.average(residuals**2, weights=root[rows] ** 2)) + 1e-3
        shifts, _ = self._infer_shifts(
            sequences, features @ weights, noise_std, sequences.offsets[1:] - 1, horizon=0
        )
        return {"weights_": weights, "noise_std_": noise_std, "shifts_": shifts}

    def _forecast(self, context, *, levels, horizon, targets):
        mean = self._features(context) @ self.weights_
        lengths = np.diff(context.offsets)
        # horizon None: every row knows what its sequence knows in its last row
        rows = np.repeat(context.offsets[1:] - 1, lengths)
        if horizon is not None:
            rows = np.arange(len(mean))
        shift, variance = self._infer_shifts(context, mean, self.noise_std_, rows, horizon or 0)
        stored = dict(zip(self.labels_.tolist(), self.shifts_, strict=True))
        for i, label in enumerate(context.labels.tolist()):
            rows = slice(*context.offsets[i : i + 2])
            if label in stored and not context.observed[rows].any():
                shift[rows] = stored[label]
        std = np.sqrt(variance + self.noise_std_**2)
        mean = mean + shift
        quantiles = mean[:, :, None] + std[:, :, None] * norm.ppf(levels)
        log_density = np.full_like(mean, np.nan)
        if targets is not None:
            log_density = norm.logpdf(targets, mean, std)
        return Forecast(mean, std, quantiles, log_density)

    def _log_likelihood(self, sequences):
        forecast = self._forecast(
            sequences,
            levels=np.empty(0),
            horizon=1,
            targets=np.where(sequences.observed, sequences.outputs, np.nan),
        )
        return np.add.reduceat(np.nansum(forecast.log_density, axis=1), sequences.offsets[:-1])

    def _features(self, sequences):
        memory = np.array(sequences.inputs)
        for start, stop in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
            for t in range(start + 1, stop):
                memory[t] += self.decay * memory[t - 1]
        return np.hstack([sequences.inputs, memory, np.ones((len(memory), 1))])

    def _infer_shifts(self, sequences, mean, noise_std, rows, horizon):
        """Posterior of z at some rows, given what is observed up to `horizon` rows before."""
        precision = np.zeros((len(mean) + 1, len(noise_std)))
        pull = np.zeros_like(precision)
        known = sequences.observed / noise_std**2
        precision[1:] = np.cumsum(known, axis=0)
        pull[1:] = np.cumsum(known * (sequences.outputs - mean), axis=0)
        first = sequences.offsets[np.searchsorted(sequences.offsets, rows, side="right") - 1]
        last = np.maximum(rows + 1 - horizon, first)
        variance = 1 / (1 / self.prior_std**2 + precision[last] - precision[first])
        return variance * (pull[last] - pull[first]), variance


def make_toy(n_sequences=6, length=12, *, n_outputs=1, noise_std=0.1, seed=0):
    """Rows of sequences with memory whose levels differ: X (2 inputs), y, groups, times."""
    rng = np.random.default_rng(seed)
    n_rows = n_sequences * length
    X = rng.normal(size=(n_rows, 2))
    groups = np.repeat(np.arange(n_sequences), length)
    times = np.tile(np.arange(length), n_sequences)
    level = rng.normal(scale=0.5, size=(n_sequences, n_outputs))
    memory = X.copy()
    for t in range(1, length):
        memory[times == t] += 0.5 * memory[times == t - 1]
    y = X @ rng.normal(size=(2, n_outputs)) + memory @ rng.normal(size=(2, n_outputs))
    y += level[groups]
    y += noise_std * rng.normal(size=y.shape)
    return X, (y[:, 0] if n_outputs == 1 else y), groups, times
