"""How many independent ways there are to differ: latents that outputs say nothing of are left out.

A family is grown with more latents than it needs: spare ones ease the search. Any rotation of z
leaves it what it is. Along the eigenvectors of

    M = W' G W,    G = mean over sequences of the Gauss-Newton matrix of theta,

the outputs tell of z separately, to first order, and an eigenvalue is the mean information about
that direction, in units of the prior's. z is turned into these axes, those with next to no
information are left out, EM goes on, and the smaller family is kept unless its evidence is less.

Evidence alone would leave out more: it counts every entry of a column of W against a prior that
the columns share, whereas a forecast loses an axis of information m by up to log(1 + m) / 2 nats
per sequence, and gains nothing but speed.

Where sequences differ in more ways than growth had latents for, forecasts that know of too few are
too sure. With g_i and H_i gradient and Gauss-Newton matrix of log p(y_i | theta) at the mean of
z_i, in units of theta in which the mean of H_i is the identity, a departure d_i ~ N(0, I) from the
plane W z + b has the posterior mean (I + H_i)^-1 g_i, to first order. Noise alone gives these means
a variance of at most 1/4 in any direction, and a way to differ that is missing, of information m,
(1 + m) / 4. The largest of r principal variances that are 1/4 becomes (1 + sqrt(r / N))^2 / 4 by
chance (Marchenko & Pastur 1967); r is taken from their sum. Axes beyond that become columns of W,
EM goes on, and they are kept if the evidence rises.
"""

from collections.abc import Callable

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.learning._em import run_em
from mtds_sklearn.learning._growth import DECIDING_ITERATIONS, with_evidence
from mtds_sklearn.learning._learned import Learned, Options
from mtds_sklearn.learning._m_step import sequence_weights
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.learning._seen import go_on_with_the_seen
from mtds_sklearn.model._likelihood import evaluations, theta_quantities
from mtds_sklearn.model._normal import symmetric
from mtds_sklearn.model._task_map import natural_parameters

# Where the number of latents is to be found, it is looked for from here down.
MOST_LATENTS = 10
# An axis that is left out may have cost 0.09 nats per sequence.
LEAST_INFORMATION = 0.2
# Directions of theta with less than this share of the largest information are not looked at.
NEGLIGIBLE = 1e-9
# Sequences whose Gauss-Newton matrices are held at once.
CHUNK_SEQUENCES = 100


def most_latents(n_sequences: int) -> int:
    """How many latents to begin with: N sequences differ in at most N - 1 ways."""
    return int(np.clip(n_sequences - 1, 1, MOST_LATENTS))


def reduce_latents(
    sequences: PackedSequences, learned: Learned, options: Options, points: np.ndarray
) -> Learned:
    """The family without the latents that outputs say nothing of; at least one is left.

    Parameters
    ----------
    learned : Learned
        Grown with options.latent_dim latents.
    points : ndarray of shape (n_points, latent_dim)
        Quasi-random draws of the prior of z; the first columns are used.
    """
    return go_on_with_the_seen(sequences, learned, lambda *seen: _reduce(*seen, options, points))


def _reduce(sequences, learned, options, points) -> Learned:
    count = float(sequence_weights(sequences).sum())
    while (n_left := _n_informed(learned, count)) < learned.family.loadings.shape[1]:
        cut = cut_to(learned, n_left)
        result = run_em(
            sequences, cut.family, cut.posterior, points[:, :n_left], max_iter=DECIDING_ITERATIONS,
            tol=options.tol,
        )  # fmt: skip
        trial = with_evidence(sequences, result)
        kept = trial.evidence >= learned.evidence
        stages = (*learned.stages, trial.stages[0]._replace(kept=kept))
        if not kept:
            return learned._replace(stages=stages)
        smaller = tuple(cut_to(each, n_left) for each in learned.smaller)
        learned = trial._replace(stages=stages, smaller=smaller)
    return learned


def _n_informed(learned: Learned, count: float) -> int:
    """How many axes the outputs of `count` sequences tell of, at least one."""
    information, _ = principal_axes(learned)
    return max(1, int(np.count_nonzero(information / count >= LEAST_INFORMATION)))


def principal_axes(learned: Learned) -> tuple:
    """Information (k,) about the axes of z, summed over sequences, most first; and the axes."""
    n_theta = len(learned.family.bias)
    G = learned.curvature.normal[-n_theta:, -n_theta:]
    information, axes = np.linalg.eigh(learned.family.loadings.T @ G @ learned.family.loadings)
    return information[::-1], axes[:, ::-1]


def cut_to(learned: Learned, n_left: int) -> Learned:
    """The family turned into its principal axes, with the first `n_left` of them."""
    family, posterior = learned.family, learned.posterior
    k, n_theta = family.loadings.shape[1], len(family.bias)
    _, axes = principal_axes(learned)
    axes = axes[:, :n_left]
    turned = axes.T @ posterior.factor
    corner = np.block([[axes, np.zeros((k, 1))], [np.zeros((1, n_left)), np.ones((1, 1))]])
    change = np.kron(corner, np.eye(n_theta))  # [W b] before, from the axes' [W b]
    last = learned.curvature
    return learned._replace(
        family=family._replace(
            loadings=family.loadings @ axes,
            precision=family.precision * n_left / k,  # rows keep their size
        ),
        posterior=TaskPosterior(
            posterior.mean @ axes, np.linalg.cholesky(turned @ np.swapaxes(turned, 1, 2))
        ),
        curvature=last._replace(
            gradient=corner.T @ last.gradient, normal=change.T @ last.normal @ change
        ),
    )


def widen_latents(
    sequences: PackedSequences,
    learned: Learned,
    options: Options,
    draw: Callable[[int], np.ndarray],
) -> Learned:
    """The family with more latents, where sequences differ in more ways and the evidence rises.

    Parameters
    ----------
    learned : Learned
        Without disturbance or noise levels of sequences.
    draw : callable
        From a number of latents k to quasi-random draws (n_points, k) of their prior.
    """
    return go_on_with_the_seen(sequences, learned, lambda *seen: _widen(*seen, options, draw))


def _widen(sequences, learned, options, draw) -> Learned:
    while (columns := missing_columns(sequences, learned)).shape[1] > 0:
        wider = with_columns(learned, columns)
        result = run_em(
            sequences, wider.family, wider.posterior, draw(wider.family.loadings.shape[1]),
            max_iter=options.max_iter, tol=options.tol,
        )  # fmt: skip
        trial = with_evidence(sequences, result)
        kept = trial.evidence > learned.evidence
        stages = (*learned.stages, trial.stages[0]._replace(kept=kept))
        if not kept:
            return learned._replace(stages=stages)
        learned = trial._replace(stages=stages)
    return learned


def missing_columns(sequences: PackedSequences, learned: Learned) -> np.ndarray:
    """Columns (n_theta, n_missing) for W along which sequences differ, and W does not.

    At most as many as N sequences can tell of, N - 1 with those that W has.
    """
    family, n_theta = learned.family, len(learned.family.bias)
    vary, count = np.isfinite(family.precision), float(sequence_weights(sequences).sum())
    mean_normal = learned.curvature.normal[-n_theta:, -n_theta:][np.ix_(vary, vary)] / count
    information, axes = np.linalg.eigh(mean_normal)
    told = information > NEGLIGIBLE * information.max(initial=0.0)
    units = np.zeros((n_theta, np.count_nonzero(told)))
    units[vary] = axes[:, told] / np.sqrt(information[told])
    squares, axes = np.linalg.eigh(_departures(sequences, learned, units) / count)
    missing = 4.0 * squares[::-1] - 1.0
    chance = (1.0 + np.sqrt(4.0 * squares.sum() / count)) ** 2 - 1.0
    n_left = max(len(sequences.labels) - 1 - family.loadings.shape[1], 0)
    n_missing = min(np.count_nonzero(missing > chance), n_left)
    return units @ axes[:, ::-1][:, :n_missing] * np.sqrt(missing[:n_missing])


def _departures(sequences: PackedSequences, learned: Learned, units: np.ndarray) -> np.ndarray:
    """Sum over sequences of the squares of their posterior mean departures from W z + b.

    In the directions `units` (n_theta, n_units), in which departures are N(0, I) a priori.
    """
    family, weights = learned.family, sequence_weights(sequences)
    basis = family.chart.basis[family.chart.active] @ units
    total = np.zeros((units.shape[1], units.shape[1]))
    for first in range(0, len(weights), CHUNK_SEQUENCES):
        index = np.arange(first, min(first + CHUNK_SEQUENCES, len(weights)))
        psi = natural_parameters(family, learned.posterior.mean[index])
        run = evaluations(sequences, index=index)
        parts = theta_quantities(psi, run, family.chart, family.noise_std)
        normal = symmetric(parts.normal, family.chart)
        precision = np.eye(len(total)) + basis.T @ normal @ basis
        departure = np.linalg.solve(precision, (parts.gradient @ basis)[..., None])[..., 0]
        total += departure.T @ (weights[index, None] * departure)
    return total


def with_columns(learned: Learned, columns: np.ndarray) -> Learned:
    """The family with more columns (n_theta, n_more) of W, of whose latents nothing is known yet.

    Derivatives and evidence stay those of the family without.
    """
    family, posterior = learned.family, learned.posterior
    (n, k), n_more = posterior.mean.shape, columns.shape[1]
    factor = np.tile(np.eye(k + n_more), (n, 1, 1))
    factor[:, :k, :k] = posterior.factor
    return learned._replace(
        family=family._replace(
            loadings=np.hstack([family.loadings, columns]),
            precision=family.precision * (k + n_more) / k,  # rows keep their size
        ),
        posterior=TaskPosterior(np.hstack([posterior.mean, np.zeros((n, n_more))]), factor),
    )
