"""How exact the oracle is: twice the draws, other draws, and quadrature without its code.

    python benchmarks/check_oracle.py

Quadrature covers the whole prior for one oscillator. For two it covers, in all four parameters,
the part of the prior where the oracle's draws have weight: this tests the weights, the proposal
and the constants; that no other part matters is what the scan of the oracle is for.
"""

import argparse

import numpy as np
from oracle import NOISE_STD, RANGES, oracle_forecast, oracle_posterior
from scipy.special import logsumexp

from mtds_sklearn.datasets import make_oscillators


def quadrature_one(y: np.ndarray, signals: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """Log marginal likelihoods (n,) of single oscillators y (n, n_steps) over the whole prior."""
    signals = signals[:, : y.shape[1]]
    squares = (y**2).sum(axis=1) - 2 * signals @ y.T + (signals**2).sum(axis=1)[:, None]
    log_terms = log_weights[:, None] - squares / (2 * NOISE_STD**2)
    return logsumexp(log_terms, axis=0) + _constant(y.shape[1], RANGES[1])


def quadrature_two(y: np.ndarray, window: np.ndarray, n_nodes: int = 48) -> float:
    """Log marginal likelihood of two oscillators over a window (4, 2) of the parameters.

    The oscillators add up, so that all pairs of nodes need only the inner products of the signals.
    """
    first, first_weights = _nodes(window[:2], (n_nodes, n_nodes), len(y))
    second, second_weights = _nodes(window[2:], (n_nodes, n_nodes), len(y))
    second = -0.5 * second
    squares_first = ((y - first) ** 2).sum(axis=1)
    squares_second = (second**2).sum(axis=1) - 2 * second @ y
    squares = squares_first[:, None] + squares_second + 2 * first @ second.T
    log_weights = first_weights[:, None] + second_weights
    return logsumexp(log_weights - squares / (2 * NOISE_STD**2)) + _constant(len(y), RANGES[2])


def _nodes(window: np.ndarray, n_nodes: tuple, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Signals (n_nodes, n_steps) on a Gauss-Legendre grid of one oscillator, log weights."""
    axes, weights = [], []
    for (low, high), n in zip(window, n_nodes, strict=True):
        node, weight = np.polynomial.legendre.leggauss(n)
        axes.append(low + (high - low) * (node + 1) / 2)
        weights.append(weight * (high - low) / 2)
    frequency, half_life = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    t = np.arange(n_steps)
    signals = 0.5 ** (t / half_life[:, None]) * np.sin(np.deg2rad(frequency)[:, None] * t)
    return signals, np.log(np.outer(*weights)).ravel()


def _constant(n_steps: int, ranges: np.ndarray) -> float:
    """Log of the Gaussian's constant and of the uniform prior's density."""
    return -n_steps / 2 * np.log(2 * np.pi * NOISE_STD**2) - np.log(np.ptp(ranges, axis=1)).sum()


def window_of(parameters: np.ndarray, weights: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Window (d, 2) of one sequence's draws, somewhat wider than those that carry weight."""
    weighty = parameters[weights > 1e-7 * weights.max()]
    low, high = weighty.min(axis=0), weighty.max(axis=0)
    margin = 0.1 * (high - low)
    return np.column_stack(
        [np.maximum(low - margin, ranges[:, 0]), np.minimum(high + margin, ranges[:, 1])]
    )


def report(title: str, difference: np.ndarray) -> None:
    print(
        f"{title}: mean {difference.mean():+.5f}, worst {np.abs(difference).max():.4f} nats"
        f" ({len(difference)} sequences)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-quadrature", type=int, default=20, help="sequences for quadrature")
    args = parser.parse_args()
    y = make_oscillators(100, random_state=10_000).y.reshape(-1, 80)

    for context in (5, 20, 80):
        once = oracle_posterior(y, context)
        twice = oracle_posterior(y, context, n_draws=2 * 8192)
        other = oracle_posterior(y, context, random_state=1)
        report(f"twice the draws, context {context}", twice.log_marginal - once.log_marginal)
        report(f"other draws, context {context}", other.log_marginal - once.log_marginal)
    for context in (0, 10, 40):
        once = oracle_forecast(y, context)
        twice = oracle_forecast(y, context, n_draws=2 * 8192, random_state=1)
        largest = [np.abs(b - a).max() for a, b in zip(once, twice, strict=True)]
        print(f"forecast, context {context}: mean moves {largest[0]:.4f}, std {largest[1]:.4f}")

    few = y[: args.n_quadrature]
    for context in (10, 20, 80):
        posterior = oracle_posterior(few, context)
        exact = [
            quadrature_two(sequence[:context], window_of(draws, weights, RANGES[2]))
            for sequence, draws, weights in zip(few, *posterior[:2], strict=True)
        ]
        report(f"quadrature, two oscillators, context {context}", posterior.log_marginal - exact)
    single = make_oscillators(args.n_quadrature, n_oscillators=1, random_state=10_000)
    few, grid = single.y.reshape(-1, 80), _nodes(RANGES[1], (2000, 150), 80)
    for context in (5, 20, 80):
        found = oracle_posterior(few, context, n_oscillators=1).log_marginal
        exact = quadrature_one(few[:, :context], *grid)
        report(f"quadrature, one oscillator, context {context}", found - exact)


if __name__ == "__main__":
    main()
