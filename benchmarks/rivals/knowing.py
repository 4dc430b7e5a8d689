"""The oracle: it knows the family as it was made, and only a sequence's own numbers are unknown.

Their posterior is sampled as in `oracle.py`: quasi-random points of the prior at a temperature that
leaves enough of them alive, a mixture adapted while the temperature rises to one, then its draws
with their weights. A forecast is the mixture over these draws of what they say.
"""

import numpy as np
from mixture_sampling import adapt, draw, ess, first_mixture, normalised
from scipy.special import expit, gammaln, logit, logsumexp
from scipy.stats import norm, qmc
from scipy.stats import t as student
from sequences import INTERVAL, Forecast, Sequence

from rivals.true_families import TRUE_FAMILIES, TrueFamily

N_FIRST = 4096  # points of the prior
N_STARTS = 512  # of them, from which the first mixture is fitted
N_DRAWS = 4096
KNOTS = (0.1, 0.25, 0.5, 0.75)  # shares of rows after which one-step forecasts sample anew


class Oracle:
    """See the module."""

    def __init__(self, family: str, seed: int) -> None:
        self.family: TrueFamily = TRUE_FAMILIES[family]
        self.seed = seed
        self.posteriors: dict[tuple, tuple] = {}

    def fit(self, train: list[Sequence]) -> "Oracle":
        return self

    def forecast(
        self, known: list[Sequence], truth: list[Sequence], horizon: int | None
    ) -> list[Forecast]:
        result = []
        for i, (sequence, true) in enumerate(zip(known, truth, strict=True)):
            if horizon is None:
                seen = np.flatnonzero(np.isfinite(sequence.outputs).any(axis=1))
                n_known = seen[-1] + 1 if len(seen) else 0
                result.append(self._mixture(*self._posterior(i, true, n_known), true, n_known))
            else:
                result.append(self._one_step(i, true))
        return result

    def _one_step(self, i: int, true: Sequence) -> Forecast:
        """Every row from those before it: draws after the last knot, weighted by the rows since."""
        n_rows = len(true.outputs)
        knots = sorted({0, *(max(1, round(share * n_rows)) for share in KNOTS)})
        rows = []
        for start, end in zip(knots, [*knots[1:], n_rows], strict=True):
            places, log_weights = self._posterior(i, true, start)
            before = self._log_likelihood(places, true, start)
            for row in range(start, end):
                now = log_weights + self._log_likelihood(places, true, row) - before
                piece = self._mixture(places, now, true, row, slice(row, row + 1))
                rows.append(piece)
        return Forecast(*(np.concatenate(part) for part in zip(*rows, strict=True)))

    def _posterior(self, i: int, true: Sequence, n_known: int) -> tuple[np.ndarray, np.ndarray]:
        """Places (n_draws, dim) and log weights after the first rows of the i-th sequence."""
        key = (i, true.outputs.tobytes(), n_known)
        if key not in self.posteriors:
            self.posteriors[key] = self._sample(true, n_known)
        return self.posteriors[key]

    def _sample(self, true: Sequence, n_known: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        places = qmc.Sobol(self.family.dim, rng=rng).random(N_FIRST)
        places = np.clip(places, 1e-12, 1 - 1e-12)
        if n_known == 0:
            return places, np.full(N_FIRST, -np.log(N_FIRST))
        log_likelihood = self._log_likelihood(places, true, n_known)
        power = 1.0
        while ess(normalised(power * log_likelihood[None]))[0] < N_STARTS / 2:
            power /= 2
        chosen = rng.choice(N_FIRST, N_STARTS, p=normalised(power * log_likelihood[None])[0])

        def log_likelihood_of(draws):
            return self._log_likelihood(_places(draws[0]), true, n_known)[None]

        mixture = adapt(first_mixture(logit(places[chosen])[None]), log_likelihood_of, rng)
        draws, log_ratio = draw(mixture, N_DRAWS, rng)
        log_weights = (log_ratio + log_likelihood_of(draws))[0]
        return _places(draws[0]), log_weights - logsumexp(log_weights)

    def _squares(self, places: np.ndarray, true: Sequence, n_known: int) -> tuple:
        """Sums of squared standardised errors (n_draws,) of the known values, and their number."""
        known = true.outputs[:n_known]
        seen = np.isfinite(known)
        mean = self.family.simulate(places, true.inputs[:n_known])
        error = np.where(seen, (mean - np.where(seen, known, 0)) / self.family.noise_std, 0)
        return np.sum(error**2, axis=(1, 2)), seen.sum()

    def _log_likelihood(self, places: np.ndarray, true: Sequence, n_known: int) -> np.ndarray:
        """Up to a constant that all draws share."""
        if n_known == 0:
            return np.zeros(len(places))
        squares, n = self._squares(places, true, n_known)
        degrees = self.family.degrees
        if np.isinf(degrees):
            return -0.5 * squares
        return -0.5 * (degrees + n) * np.log1p(squares / degrees)

    def _mixture(
        self, places: np.ndarray, log_weights: np.ndarray, true: Sequence, n_known: int,
        rows: slice = slice(None),
    ) -> Forecast:  # fmt: skip
        weights = np.exp(log_weights - logsumexp(log_weights))
        kept = weights > 1e-7 * weights.max()
        places, weights = places[kept], (weights[kept] / weights[kept].sum())[:, None, None]
        mean = self.family.simulate(places, true.inputs[: rows.stop])[:, rows]
        scale, degrees = self.family.noise_std, self.family.degrees
        if np.isfinite(degrees):
            squares, n = (
                self._squares(places, true, n_known) if n_known else (np.zeros(len(places)), 0)
            )
            scale = np.sqrt((degrees + squares) / (degrees + n))[:, None, None] * scale
            degrees = degrees + n
        scale = np.broadcast_to(scale, mean.shape)
        z = (true.outputs[rows] - mean) / scale
        log_density = logsumexp(np.log(weights) + _log_density(z, degrees) - np.log(scale), axis=0)
        low, high = (_quantile(mean, scale, weights, degrees, level) for level in INTERVAL)
        return Forecast(np.sum(weights * mean, axis=0), low, high, log_density)


def _places(draws: np.ndarray) -> np.ndarray:
    return np.clip(expit(draws), 1e-12, 1 - 1e-12)


def _log_density(z: np.ndarray, degrees: float) -> np.ndarray:
    if np.isinf(degrees):
        return norm.logpdf(z)
    constant = gammaln((degrees + 1) / 2) - gammaln(degrees / 2) - 0.5 * np.log(degrees * np.pi)
    return constant - (degrees + 1) / 2 * np.log1p(z**2 / degrees)


def _quantile(mean, scale, weights, degrees: float, level: float) -> np.ndarray:
    """Quantile of a mixture by bisection; 200 draws, resampled by their weights, say enough."""
    few = np.searchsorted(np.cumsum(weights[:, 0, 0]), (np.arange(200) + 0.5) / 200)
    mean, scale = mean[few.clip(max=len(mean) - 1)], scale[few.clip(max=len(mean) - 1)]
    below = norm.cdf if np.isinf(degrees) else student(degrees).cdf
    low, high = (mean - 10 * scale).min(axis=0), (mean + 10 * scale).max(axis=0)
    for _ in range(25):
        middle = (low + high) / 2
        less = below((middle - mean) / scale).mean(axis=0) < level
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return middle
