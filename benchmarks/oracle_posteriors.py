"""How exact posteriors are when the family is known, against quadrature that shares no code.

Two damped oscillators as in `make_oscillators`, y_t = r1^t sin(w1 t) - 0.5 r2^t sin(w2 t) plus
noise of 0.05. The family is put into the chart of the estimators exactly, with the damping and the
frequency coordinate of each oscillator as the four latents, z = (a1, c1, a2, c2), and nothing
learned: half-lives are uniform in their ranges, and so are frequencies, given the middle half-life
of the range (c depends a little on the half-life; independent coordinates need one of them). The
sequences are drawn from it.

Quadrature takes a Gauss-Legendre grid in the four uniform numbers; the oscillators add up, so that
all pairs of nodes of the two need only inner products of their signals. The grid is narrowed to
where the posterior has mass, and a finer one says how exact it is itself.

    python benchmarks/oracle_posteriors.py
"""

import argparse
import datetime

import numpy as np
from scipy.special import ndtr

import mtds_sklearn
from mtds_sklearn._sequences import pack_sequences
from mtds_sklearn.estimators._fitting import one_blas_thread
from mtds_sklearn.inference._adaptive_is import infer
from mtds_sklearn.inference._draws import make_draws
from mtds_sklearn.inference._moments import accurate_moments
from mtds_sklearn.model._chart import make_chart
from mtds_sklearn.model._latent_prior import NODES, LatentPrior
from mtds_sklearn.model._lds import Shape
from mtds_sklearn.model._task_map import Family

CONTEXTS = (0, 1, 2, 5, 10, 20, 40, 80)
N_STEPS, NOISE_STD = 80, 0.05
AMPLITUDES = (1.0, -0.5)
# (low, high) of the half-lives (steps) and frequencies (degrees a step) of either oscillator.
HALF_LIVES, FREQUENCIES = ((4, 80), (8, 60)), ((6.75, 18), (22.5, 36))
# Narrowing of the grid: nodes this far (nats) below the best are left out of the next.
WINDOW_DEPTHS = (400.0, 100.0, 40.0, 30.0, 30.0)


def coordinates(half_life_place: np.ndarray, frequency_place: np.ndarray, which: int) -> tuple:
    """Chart coordinates a, c of an oscillator at uniform numbers; c rises with its number."""
    (short, long), (low, high) = HALF_LIVES[which], FREQUENCIES[which]
    a = np.arctanh(0.25 ** (1 / (short + (long - short) * half_life_place)))
    radius = 0.5 ** (2 / (short + long))
    frequency = np.deg2rad(high - (high - low) * frequency_place)
    return a, np.arctanh(2 * radius * np.cos(frequency) / (1 + radius**2))


def signals(a: np.ndarray, c: np.ndarray, which: int, n_steps: int) -> np.ndarray:
    """Noise-free outputs (..., n_steps) of an oscillator, by their recursion."""
    q = np.tanh(a)
    p = np.tanh(c) * (1 + q)
    out = np.zeros((*a.shape, n_steps))
    # The square root of q - p^2/4, r sin w, as the chart rounds it at the double pole.
    out[..., 1:2] = (AMPLITUDES[which] * ((q - p**2 / 4) ** 2 + 1e-6) ** 0.25)[..., None]
    for t in range(2, n_steps):
        out[..., t] = p * out[..., t - 1] - q * out[..., t - 2]
    return out


def draw_sequences(n_sequences: int, seed: int) -> np.ndarray:
    """Noisy outputs (n_sequences, N_STEPS)."""
    rng = np.random.default_rng(seed)
    places = rng.random((2, 2, n_sequences))
    y = sum(signals(*coordinates(*places[j], j), j, N_STEPS) for j in (0, 1))
    return y + NOISE_STD * rng.standard_normal(y.shape)


def known_family() -> Family:
    """The family in the estimators' chart: z are its pole coordinates, standardised."""
    chart = make_chart(Shape(4, 0, 1, 2), np.ones((2, 1)), ("A", "x0"))
    centre, scale = standard_units()
    loadings = np.concatenate([np.diag(scale), np.zeros((4, 4))])
    bias = np.concatenate([centre, [0, AMPLITUDES[0], 0, AMPLITUDES[1]]])
    tables = np.concatenate([coordinates(ndtr(NODES), ndtr(NODES), j) for j in (0, 1)])
    tables = (tables - centre[:, None]) / scale[:, None]
    # Strictly rising where a table has reached the end of its range.
    prior = LatentPrior(np.eye(4), tables + 1e-12 * NODES)
    return Family(chart, loadings, bias, np.array([NOISE_STD]), np.ones(8), prior)


def standard_units() -> tuple:
    """Means and standard deviations of the four coordinates in the family."""
    node, weight = np.polynomial.legendre.leggauss(200)
    places, weight = (node + 1) / 2, weight / 2
    values = np.concatenate([coordinates(places, places, j) for j in (0, 1)])
    mean = values @ weight
    return mean, np.sqrt((values - mean[:, None]) ** 2 @ weight)


def our_posterior(family: Family, known: np.ndarray, seed: int) -> tuple:
    """Effective sample size, and mean, covariance, log evidence of one sequence's posterior."""
    y = known if len(known) else np.array([np.nan])
    sequence = pack_sequences(np.zeros((len(y), 0)), y)
    posterior = infer(sequence, family, make_draws(4, seed))
    near = (posterior.z[0], posterior.log_weights[0])
    mean, cov, _ = accurate_moments(sequence, family, seed, near)
    centre, scale = standard_units()
    moments = centre + scale * mean, scale[:, None] * cov * scale
    return posterior.ess[0], (*moments, posterior.log_evidence[0])


def quadrature(y: np.ndarray, n_nodes: int) -> tuple:
    """Mean, covariance and log evidence of z given y (n_known,), by a narrowed grid."""
    box = np.tile([0.0, 1.0], (2, 2, 1))
    for depth in WINDOW_DEPTHS:
        grids = [_grid(box[j], 40, j, len(y)) for j in (0, 1)]
        log_joint = _log_joint(y, *grids)
        log_joint -= log_joint.max()
        for j in (0, 1):
            best = log_joint.max(axis=1 - j).reshape(40, 40)
            for axis in (0, 1):
                inside = np.flatnonzero(best.max(axis=1 - axis) > -depth)
                nodes = np.concatenate([[box[j, axis, 0]], grids[j][3][axis], [box[j, axis, 1]]])
                box[j, axis] = nodes[inside[0]], nodes[inside[-1] + 2]
    return _moments(y, *(_grid(box[j], n_nodes, j, len(y)) for j in (0, 1)))


def _grid(box: np.ndarray, n_nodes: int, which: int, n_steps: int) -> tuple:
    """Coordinates (2, n), signals (n, n_steps), log weights (n,) and axes of an oscillator."""
    node, weight = np.polynomial.legendre.leggauss(n_nodes)
    axes = [low + (high - low) * (node + 1) / 2 for low, high in box]
    weights = np.outer(*(weight * (high - low) / 2 for low, high in box))
    places = np.meshgrid(*axes, indexing="ij")
    a, c = (part.ravel() for part in coordinates(*places, which))
    return (
        np.stack([a, c]),
        signals(a, c, which, max(n_steps, 2))[:, :n_steps],
        np.log(weights.ravel()),
        axes,
    )


def _log_joint(y: np.ndarray, first: tuple, second: tuple) -> np.ndarray:
    """Log of likelihood times weight at all pairs of nodes, (n_first, n_second)."""
    parts = []
    for _, signal, log_weights, _ in (first, second):
        parts.append(log_weights + (signal @ y - np.sum(signal**2, axis=1) / 2) / NOISE_STD**2)
    constant = -(y @ y / NOISE_STD**2 + len(y) * np.log(2 * np.pi * NOISE_STD**2)) / 2
    product = (first[1] / NOISE_STD**2) @ second[1].T
    return parts[0][:, None] + parts[1] - product + constant


def _moments(y: np.ndarray, first: tuple, second: tuple) -> tuple:
    probability = _log_joint(y, first, second)
    top = probability.max()
    np.exp(probability - top, out=probability)
    total = probability.sum()
    probability /= total
    rows, columns = probability.sum(axis=1), probability.sum(axis=0)
    mean = np.concatenate([first[0] @ rows, second[0] @ columns])
    one, other = first[0] - mean[:2, None], second[0] - mean[2:, None]
    cov = np.empty((4, 4))
    cov[:2, :2], cov[2:, 2:] = (one * rows) @ one.T, (other * columns) @ other.T
    cov[:2, 2:] = one @ probability @ other.T
    cov[2:, :2] = cov[:2, 2:].T
    return mean, cov, top + np.log(total)


def errors(found: tuple, exact: tuple) -> list:
    """Absolute errors of mean (4,) and covariance (10,), in standard deviations, and evidence."""
    std = np.sqrt(np.diag(exact[1]))
    cov = np.abs(found[1] - exact[1]) / np.outer(std, std)
    mean = np.abs(found[0] - exact[0]) / std
    return [mean, cov[np.triu_indices(4)], np.array([abs(found[2] - exact[2])])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-test", type=int, default=100)
    parser.add_argument("--contexts", type=int, nargs="*", default=CONTEXTS)
    parser.add_argument("--n-nodes", type=int, default=56)
    args = parser.parse_args()
    family, y = known_family(), draw_sequences(args.n_test, 0)
    print(f"{datetime.date.today()}, mtds_sklearn {mtds_sklearn.__version__}")
    print("Mean and covariance in posterior standard deviations, root mean square / most;")
    print("quadrature: most that mean or covariance move with a finer grid.\n")
    print("| known | ESS least | evidence | mean | covariance | quadrature |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for context in args.contexts:
        sizes, ours, grids = [], [], []
        for i, known in enumerate(y[:, :context]):
            with one_blas_thread():
                size, found = our_posterior(family, known, i)
            exact = quadrature(known, args.n_nodes)
            sizes.append(size)
            ours.append(errors(found, exact))
            if i < 5:
                grids.append(errors(quadrature(known, args.n_nodes * 5 // 4), exact))
        mean, cov, evidence = (np.array(part) for part in zip(*ours, strict=True))
        moved = max(max(part[0].max(), part[1].max()) for part in grids)
        cells = [f"{np.sqrt(np.mean(e**2)):.4f} / {e.max():.4f}" for e in (evidence, mean, cov)]
        print(f"| {context} | {min(sizes):.0f} | {' | '.join(cells)} | {moved:.4f} |", flush=True)


if __name__ == "__main__":
    main()
