"""The oracle of the input-driven family, in closed form.

The input enters at one of four states with either sign: eight hypotheses, of equal probability.
Given one of them the offset is normal, and so is every output.
"""

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm
from sequences import INTERVAL, Forecast, Sequence

from mtds_sklearn.datasets import make_input_driven

NOISE_STD = 0.05


class SignOracle:
    """See the module."""

    def __init__(self) -> None:
        parameters = make_input_driven(1, 1, random_state=0).parameters
        self.A, self.C = parameters["A"][0], parameters["C"][0, 0]

    def fit(self, train: list[Sequence]) -> "SignOracle":
        return self

    def forecast(
        self, known: list[Sequence], truth: list[Sequence], horizon: int | None
    ) -> list[Forecast]:
        return [
            self._forecast(sequence, true.outputs[:, 0], horizon)
            for sequence, true in zip(known, truth, strict=True)
        ]

    def _forecast(self, known: Sequence, true: np.ndarray, horizon: int | None) -> Forecast:
        responses = self._responses(known.inputs[:, 0])  # (8, n_rows)
        seen = np.isfinite(known.outputs[:, 0])
        residual = np.where(seen, known.outputs[:, 0] - responses, 0)
        counts, sums, squares = (
            np.concatenate([[0], np.cumsum(part)]) if part.ndim == 1 else _cumulated(part)
            for part in (seen, residual, residual**2)
        )
        at = np.arange(len(true)) if horizon else np.full(len(true), len(true))
        n, total, square = counts[at], sums[:, at], squares[:, at]
        precision = 1 + n / NOISE_STD**2  # of the offset, N(0, 1) before
        offset = total / NOISE_STD**2 / precision
        log_weight = 0.5 * (precision * offset**2 - square / NOISE_STD**2)
        log_weight -= logsumexp(log_weight, axis=0)
        mean, std = responses + offset, np.sqrt(1 / precision + NOISE_STD**2)
        log_density = logsumexp(log_weight + norm.logpdf(true, mean, std), axis=0)
        weights = np.exp(log_weight)
        low, high = (_quantile(mean, std, weights, level) for level in INTERVAL)
        parts = ((weights * mean).sum(axis=0), low, high, log_density)
        return Forecast(*(part[:, None] for part in parts))

    def _responses(self, u: np.ndarray) -> np.ndarray:
        """Outputs (8, n_rows) without offset for B = e_1 .. e_4 and their negatives."""
        state, rows = np.zeros((4, 4)), []
        for value in u:
            state = self.A @ state + value * np.eye(4)  # column j: B = e_j
            rows.append(self.C @ state)
        responses = np.array(rows).T
        return np.concatenate([responses, -responses])


def _cumulated(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows, axis=1)], axis=1)


def _quantile(mean: np.ndarray, std: np.ndarray, weights: np.ndarray, level: float) -> np.ndarray:
    """Quantile of the mixture over hypotheses (8, n_rows), by bisection."""
    low, high = (mean - 10 * std).min(axis=0), (mean + 10 * std).max(axis=0)
    for _ in range(40):
        middle = (low + high) / 2
        less = (weights * norm.cdf((middle - mean) / std)).sum(axis=0) < level
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return middle
