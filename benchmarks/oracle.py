"""What a predictor reaches on the oscillators of `make_oscillators` that knows the true family.

It knows the formula, the ranges of frequencies and half-lives and the noise; only the two (or four)
parameters of a sequence are unknown to it. Their posterior is represented by weighted draws:

1. scan the likelihood on all pairs of quasi-random points of either oscillator, at a temperature
   that leaves enough of them alive;
2. adapt a mixture to the posterior by importance sampling, raising the temperature to one;
3. draw once more from the mixture, then fixed, for the result: an unbiased marginal likelihood.

Parameters live in logits of their place in their range, so that draws never leave it.

    python benchmarks/oracle.py    # its table; `check_oracle.py` says how exact it is
"""

import argparse
import time
from typing import NamedTuple

import numpy as np
from mixture_sampling import adapt, draw, ess, first_mixture, normalised
from numpy.typing import ArrayLike
from scipy.special import expit, logit, logsumexp
from scipy.stats import qmc

from mtds_sklearn.datasets import make_oscillators

# (low, high) of frequency (degrees a step) and half-life (steps), for each oscillator in turn.
RANGES = {
    1: np.array([(6.75, 36), (4, 80)]),
    2: np.array([(6.75, 18), (4, 80), (22.5, 36), (8, 60)]),
}
GAINS = (1.0, -0.5)
NOISE_STD = 0.05
N_SCANNED = 1024  # points per oscillator
N_STARTS = 512  # of the scanned pairs, from which the first mixture is fitted
CHUNK = 10  # sequences worked on at once: keeps the arrays in the cache


class Posterior(NamedTuple):
    """Weighted draws of the parameters of each of n sequences."""

    parameters: np.ndarray  # (n, n_draws, d), columns as RANGES
    weights: np.ndarray  # (n, n_draws), each row sums to one
    log_marginal: np.ndarray  # (n,) log p(y_1 .. y_context), nats
    ess: np.ndarray  # (n,) effective sample size


def oracle_log_marginal(y_sequences: ArrayLike, **options) -> np.ndarray:
    """Log density (n,) in nats of whole sequences (n, n_steps); options as `oracle_posterior`."""
    return oracle_posterior(y_sequences, **options).log_marginal


def oracle_forecast(
    y_sequences: ArrayLike, context: int, **options
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, noise included, of what follows the first `context` values.

    Both are (n, n_steps - context), the moments of the exact predictive mixture; options as
    `oracle_posterior`.
    """
    y_sequences = _checked(y_sequences)
    posterior = oracle_posterior(y_sequences, context, **options)
    weights, n_steps = posterior.weights, y_sequences.shape[1]
    mean = np.empty((len(y_sequences), n_steps))
    variance = np.empty_like(mean)
    for part in _chunks(len(y_sequences)):
        for t, signal in enumerate(_signals(posterior.parameters[part], n_steps)):
            mean[part, t] = (weights[part] * signal).sum(axis=1)
            deviation = signal - mean[part, t, None]
            variance[part, t] = (weights[part] * deviation**2).sum(axis=1)
    return mean[:, context:], np.sqrt(variance + NOISE_STD**2)[:, context:]


def oracle_posterior(
    y_sequences: ArrayLike,
    context: int | None = None,
    *,
    n_oscillators: int = 2,
    n_draws: int = 8192,
    random_state: int = 0,
) -> Posterior:
    """Posterior of the parameters given the first `context` values (default: all of them).

    Parameters
    ----------
    y_sequences : array-like of shape (n, n_steps)
        Noisy outputs from t = 0, without gaps.
    context : int, optional
        Number of values that are known, 0 .. n_steps.
    n_oscillators : {1, 2}
        Which family.
    n_draws : int
        Number of weighted draws per sequence.
    random_state : int
        Seed.

    Returns
    -------
    Posterior
    """
    known = _checked(y_sequences)[:, :context]
    if context is not None and context != known.shape[1]:
        raise ValueError(f"context must be 0 .. {known.shape[1]} (n_steps), got {context}.")
    rng = np.random.default_rng(random_state)
    parts = [_posterior(known[part], n_oscillators, n_draws, rng) for part in _chunks(len(known))]
    return Posterior(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def _checked(y_sequences: ArrayLike) -> np.ndarray:
    y_sequences = np.asarray(y_sequences, dtype=float)
    if y_sequences.ndim != 2 or not np.isfinite(y_sequences).all():
        raise ValueError(
            "The oracle needs finite sequences of shape (n, n_steps), got shape "
            f"{y_sequences.shape} with {np.sum(~np.isfinite(y_sequences))} non-finite values."
        )
    return y_sequences


def _chunks(n: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, n, CHUNK)]


def _posterior(
    known: np.ndarray, n_oscillators: int, n_draws: int, rng: np.random.Generator
) -> Posterior:
    ranges = RANGES[n_oscillators]
    if known.shape[1] == 0:
        places = qmc.Sobol(len(ranges), rng=rng).random(n_draws)
        draws = np.broadcast_to(_from_places(places, ranges), (len(known), *places.shape))
        weights = np.full(draws.shape[:2], 1 / n_draws)
        return Posterior(draws, weights, np.zeros(len(known)), ess(weights))

    def log_likelihood_of(draws):
        return _log_likelihood(known, _from_places(expit(draws), ranges))

    mixture = adapt(first_mixture(_scan(known, ranges, rng)), log_likelihood_of, rng)
    draws, log_ratio = draw(mixture, n_draws, rng)
    log_weight = log_ratio + log_likelihood_of(draws)
    weights = normalised(log_weight)
    log_marginal = logsumexp(log_weight, axis=1) - np.log(n_draws)
    return Posterior(_from_places(expit(draws), ranges), weights, log_marginal, ess(weights))


def _scan(known: np.ndarray, ranges: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Logits (n, N_STARTS, d) of good pairs among all pairs of points, one point per oscillator."""
    places = [qmc.Sobol(2, rng=rng).random(N_SCANNED) for _ in range(len(ranges) // 2)]
    signals, scores = [], 0.0
    for j, points in enumerate(places):
        parameters = _from_places(points, ranges[2 * j : 2 * j + 2])[None]
        signal = GAINS[j] * np.concatenate(list(_signals(parameters, known.shape[1])))
        score = known @ signal - (signal**2).sum(axis=0) / 2  # (n, N_SCANNED)
        scores = scores + np.expand_dims(score, tuple(1 + k for k in range(len(places)) if k != j))
        signals.append(signal)
    if len(places) == 2:  # the oscillators interact by their inner product only
        scores = scores - signals[0].T @ signals[1]
    scores = (scores / NOISE_STD**2).astype(np.float32).reshape(len(known), -1)
    scores -= scores.max(axis=1, keepdims=True)

    chosen = np.empty((len(known), N_STARTS), dtype=int)
    for i, score in enumerate(scores):
        weights, temperature = np.exp(score), 1.0
        while weights.sum() ** 2 / (weights**2).sum() < N_STARTS / 2:
            temperature /= 3
            weights = np.exp(temperature * score)
        cumulated = np.cumsum(weights, dtype=float)
        chosen[i] = np.searchsorted(cumulated, rng.random(N_STARTS) * cumulated[-1])
    indices = np.unravel_index(chosen, (N_SCANNED,) * len(places))
    return logit(np.concatenate([p[i] for p, i in zip(places, indices, strict=True)], axis=2))


def _from_places(places: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    low, high = ranges.T
    return low + (high - low) * places


def _signals(parameters: np.ndarray, n_steps: int):
    """Yield the noise-free output (n, n_draws) at t = 0 .. n_steps - 1, by its recursion."""
    frequency = np.deg2rad(np.moveaxis(parameters[..., 0::2], 2, 0))
    radius = 0.5 ** (1 / np.moveaxis(parameters[..., 1::2], 2, 0))
    gains = np.array(GAINS[: len(radius)])[:, None, None]
    present, previous = np.zeros_like(radius), -gains * np.sin(frequency) / radius
    first, second = 2 * radius * np.cos(frequency), radius**2
    for _ in range(n_steps):
        yield sum(present[1:], start=present[0])
        present, previous = first * present - second * previous, present


def _log_likelihood(known: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    squares = np.zeros(parameters.shape[:2])
    for y, signal in zip(known.T, _signals(parameters, known.shape[1]), strict=True):
        squares += (y[:, None] - signal) ** 2
    constant = known.shape[1] * np.log(2 * np.pi * NOISE_STD**2)
    return -(squares / NOISE_STD**2 + constant) / 2


def score_forecast(
    y_sequences: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> tuple[float, float]:
    """Negative log density (nats per value, moment-matched Gaussian) and RMSE, of noisy values.

    `mean` and `std` are (n, n_steps - context): they forecast the last columns.
    """
    targets = y_sequences[:, -mean.shape[1] :]
    standardised = (targets - mean) / std
    negative_log_density = (np.log(2 * np.pi * std**2) + standardised**2) / 2
    return negative_log_density.mean(), np.sqrt(((targets - mean) ** 2).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=10_000, help="of the test set")
    parser.add_argument("--n-sequences", type=int, default=100)
    parser.add_argument("--n-draws", type=int, default=8192)
    args = parser.parse_args()
    y_sequences = make_oscillators(args.n_sequences, random_state=args.seed).y.reshape(-1, 80)

    start = time.perf_counter()
    _, _, log_marginal, effective = oracle_posterior(y_sequences, n_draws=args.n_draws)
    print(f"{args.n_sequences} test sequences of seed {args.seed}, {args.n_draws} draws each")
    print(f"log marginal: {log_marginal.mean():.2f} +- {log_marginal.std():.2f} nats per sequence")
    quantiles = np.quantile(effective, [0, 0.1, 0.5, 0.9])
    print("effective draws: least {:.0f}, 10 % {:.0f}, 50 % {:.0f}, 90 % {:.0f}".format(*quantiles))
    print("\n| context | neg. log density per value | RMSE | 90 % coverage |")
    print("| ---: | ---: | ---: | ---: |")
    for context in (0, 5, 10, 20, 40):
        mean, std = oracle_forecast(y_sequences, context, n_draws=args.n_draws)
        density, rmse = score_forecast(y_sequences, mean, std)
        inside = np.abs(y_sequences[:, context:] - mean) < 1.645 * std
        print(f"| {context} | {density:.3f} | {rmse:.4f} | {inside.mean():.3f} |")
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
