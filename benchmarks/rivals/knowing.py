"""The oracle: it knows the family as it was made, and only a sequence's own numbers are unknown.

Their posterior is sampled as in `oracle.py`: quasi-random points of the prior at a temperature that
leaves enough of them alive, a mixture adapted while the temperature rises to one, then its draws
with their weights. A forecast is the mixture over these draws of what they say.
"""

import numpy as np
from mixture_sampling import adapt, draw, ess, first_mixture, normalised
from scipy.special import expit, logit, logsumexp
from scipy.stats import qmc
from scipy.stats import t as student
from sequences import INTERVAL, Forecast, Sequence

from rivals.true_families import TRUE_FAMILIES, Said, TrueFamily

N_FIRST = 4096  # points of the prior
N_STARTS = 512  # of them, from which the first mixture is fitted
N_DRAWS = 4096
KNOTS = (0.1, 0.25, 0.5, 0.75)  # shares of rows after which one-step forecasts sample anew
N_FOR_QUANTILES = 200  # draws, resampled by their weights


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
                places, log_weights = self._posterior(i, true, n_known)
                said = self.family.says(places, true, n_known)
                result.append(_mixture(said, log_weights[:, None], true.outputs))
            else:
                result.append(self._one_step(i, true))
        return result

    def _one_step(self, i: int, true: Sequence) -> Forecast:
        """Every row from those before it: draws after the last knot, weighted by the rows since."""
        n_rows = len(true.outputs)
        knots = sorted({0, *(max(1, round(share * n_rows)) for share in KNOTS)})
        pieces = []
        for start, end in zip(knots, [*knots[1:], n_rows], strict=True):
            places, log_weights = self._posterior(i, true, start)
            said = self.family.says(places, true, n_rows)
            since = said.log_likelihood[:, start:end] - said.log_likelihood[:, start : start + 1]
            rows = slice(start, end)
            said = said._replace(mean=said.mean[:, rows], scale=said.scale[:, rows],
                                 degrees=said.degrees[rows])  # fmt: skip
            pieces.append(_mixture(said, log_weights[:, None] + since, true.outputs[rows]))
        return Forecast(*(np.concatenate(part) for part in zip(*pieces, strict=True)))

    def _posterior(self, i: int, true: Sequence, n_known: int) -> tuple[np.ndarray, np.ndarray]:
        """Places (n_draws, dim) and log weights after the first rows of the i-th sequence."""
        key = (i, true.outputs.tobytes(), n_known)
        if key not in self.posteriors:
            self.posteriors[key] = self._sample(true, n_known)
        return self.posteriors[key]

    def _sample(self, true: Sequence, n_known: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        known = Sequence(true.inputs[:n_known], true.outputs[:n_known])
        places = qmc.Sobol(self.family.dim, rng=rng).random(N_FIRST)
        places = np.clip(places, 1e-12, 1 - 1e-12)
        if n_known == 0:
            return places, np.full(N_FIRST, -np.log(N_FIRST))

        def log_likelihood_at(places):
            return self.family.says(places, known, n_known).log_likelihood[:, -1]

        log_likelihood, power = log_likelihood_at(places)[None], 1.0
        while ess(normalised(power * log_likelihood))[0] < N_STARTS / 2:
            power /= 2
        chosen = rng.choice(N_FIRST, N_STARTS, p=normalised(power * log_likelihood)[0])
        mixture = adapt(
            first_mixture(logit(places[chosen])[None]),
            lambda draws: log_likelihood_at(_places(draws[0]))[None],
            rng,
        )
        draws, log_ratio = draw(mixture, N_DRAWS, rng)
        places = _places(draws[0])
        log_weights = log_ratio[0] + log_likelihood_at(places)
        return places, log_weights - logsumexp(log_weights)


def _places(draws: np.ndarray) -> np.ndarray:
    return np.clip(expit(draws), 1e-12, 1 - 1e-12)


def _mixture(said: Said, log_weights: np.ndarray, truth: np.ndarray) -> Forecast:
    """Mixture over draws, with weights (n_draws, n_rows) or the same for all rows."""
    log_weights = np.broadcast_to(log_weights, said.mean.shape[:2])
    log_weights = log_weights - logsumexp(log_weights, axis=0)
    kept = log_weights.max(axis=1) > np.log(1e-8)
    log_weights, mean, scale = log_weights[kept, :, None], said.mean[kept], said.scale[kept]
    degrees = said.degrees[:, None]
    log_values = student.logpdf((truth - mean) / scale, degrees) - np.log(scale)
    log_density = logsumexp(log_weights + log_values, axis=0)
    log_density[np.isnan(truth)] = np.nan
    weights = np.exp(log_weights)
    few = _resampled(weights[:, :, 0])
    mean_few, scale_few = (np.take_along_axis(part, few[:, :, None], 0) for part in (mean, scale))
    low, high = (_quantile(mean_few, scale_few, degrees, level) for level in INTERVAL)
    return Forecast(np.sum(weights * mean, axis=0), low, high, log_density)


def _resampled(weights: np.ndarray) -> np.ndarray:
    """Indices (N_FOR_QUANTILES, n_rows) of draws, by systematic resampling of every row."""
    wanted = (np.arange(N_FOR_QUANTILES) + 0.5) / N_FOR_QUANTILES
    cumulated = np.cumsum(weights, axis=0)
    columns = [np.searchsorted(column, wanted) for column in cumulated.T]
    return np.minimum(np.stack(columns, axis=1), len(weights) - 1)


def _quantile(mean: np.ndarray, scale: np.ndarray, degrees: np.ndarray, level: float) -> np.ndarray:
    """Quantile of an equally weighted mixture, by bisection."""
    low, high = (mean - 10 * scale).min(axis=0), (mean + 10 * scale).max(axis=0)
    for _ in range(25):
        middle = (low + high) / 2
        less = student.cdf((middle - mean) / scale, degrees).mean(axis=0) < level
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return middle
