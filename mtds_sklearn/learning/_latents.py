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
"""

import numpy as np

from mtds_sklearn._sequences import PackedSequences, select_sequences
from mtds_sklearn.learning._disturbance import scatter_posterior, select_posterior
from mtds_sklearn.learning._em import run_em
from mtds_sklearn.learning._growth import (
    DECIDING_ITERATIONS,
    Learned,
    Options,
    with_evidence,
)
from mtds_sklearn.learning._m_step import sequence_weights
from mtds_sklearn.learning._posterior import TaskPosterior

# Where the number of latents is to be found, it is looked for from here down.
MOST_LATENTS = 10
# An axis that is left out may have cost 0.09 nats per sequence.
LEAST_INFORMATION = 0.2


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
    seen = np.maximum.reduceat(sequences.observed.any(axis=1), sequences.offsets[:-1])
    if not seen.all():
        some = select_posterior(learned, seen)
        some = reduce_latents(select_sequences(sequences, seen), some, options, points)
        return scatter_posterior(some, seen)
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
