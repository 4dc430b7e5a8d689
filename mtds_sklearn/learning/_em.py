"""The EM loop: E-step, M-step, noise, parameter expansion, relevance.

Each step but the last ascends one bound,

    L = sum_i w_i { E_q log p(y_i | W z_i + b) - KL(q_i || N(0, I)) } + log p(W, b)
              + sum_o [ gamma_o log sigma_o + log p(sigma_o) ].

gamma_o, the share of the values of output o that (W, b) use up (MacKay 1992), keeps the noise sigma
from being underestimated, and so does a weak prior, worth NOISE_COUNT values of size NOISE_SCALE.
The bound ascends under fixed gamma and relevance precisions: a step that would lower it is not
taken. The relevance update then changes both, so that the gain of an iteration is measured before
it. While the noise is held up by an annealing floor the bound may fall when the floor does.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import cho_factor
from scipy.linalg.lapack import dpotri

from mtds_sklearn._progress import report
from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.learning._chunks import map_by_chunk, sum_by_chunk, whole
from mtds_sklearn.learning._e_step import e_step
from mtds_sklearn.learning._expansion import expand
from mtds_sklearn.learning._m_step import (
    Curvature,
    curvature,
    level_cost,
    log_prior,
    m_step,
    posterior_normal,
    prior_precision,
    sequence_weights,
    total,
    weighted_counts,
)
from mtds_sklearn.learning._posterior import TaskPosterior, divergence
from mtds_sklearn.learning._reweighting import weighted_by_family
from mtds_sklearn.model._chart import n_family_states
from mtds_sklearn.model._likelihood import gaussian_log_density
from mtds_sklearn.model._task_map import Family, learned_columns

# Noise below this share of an output's standard deviation is rounding, not noise.
MIN_NOISE = 1e-4
RELEVANCE_RANGE = (1e-3, 1e6)
# Prior of the noise, in standard deviations of the output: worth so many values of such a size.
NOISE_COUNT, NOISE_SCALE = 2.0, 0.1
# Of the observed values, the noise keeps at least this share, however many parameters there are.
MOST_SPENT = 0.9
SEARCH_EVERY = 6
RELEVANCE_FROM = 6
STILL_ITERATIONS = 3


class Held(NamedTuple):
    """What stays as it is while the rest is learned.

    Attributes
    ----------
    moving : ndarray of bool, shape (k + 1, n_theta)
        The entries of (W, b) that are learned, with the relevance of their rows; z stays where it
        is centred.
    spent : float
        Share of the observed values that (W, b) use up.
    """

    moving: np.ndarray | None
    spent: float


class Plan(NamedTuple):
    """How to iterate.

    Attributes
    ----------
    floors : tuple of ndarray of shape (n_outputs,)
        What the noise is held up by in the first iterations.
    max_iter : int
        Number of iterations without a floor.
    tol : float
        Change of the bound per observed value below which an iteration counts as still; three in
        a row end the loop.
    held : Held or None
        What of (W, b) stays as it is.
    """

    floors: tuple = ()
    max_iter: int = 60
    tol: float = 2e-5
    held: Held | None = None


class EMResult(NamedTuple):
    """Where EM ended.

    Attributes
    ----------
    family : Family
    posterior : TaskPosterior
    last : Curvature
        Derivatives of the last M-step, or, where something was held, at the end.
    bounds, gains : list of float
        Bound after each iteration, and its rise within the iteration under a fixed prior, in nats.
    converged : bool
    """

    family: Family
    posterior: TaskPosterior
    last: Curvature
    bounds: list
    gains: list
    converged: bool


def run_em(
    sequences: PackedSequences,
    family: Family,
    posterior: TaskPosterior,
    points: np.ndarray,
    **plan: Any,
) -> EMResult:
    """Iterate with each noise floor in turn, then without until the bound is still.

    `plan` are fields of `Plan`.
    """
    floors, max_iter, tol, held = Plan(**plan)
    n_observed = weighted_counts(sequences).sum(axis=0)
    n_values = max(float(n_observed.sum()), 1.0)
    posterior = map_by_chunk(_take, sequences, (posterior,))
    moving, spent = held or Held(None, 0.0)
    bounds, gains, still, damping = [], [], 0, 1e-4
    squared, given = None, sequences
    for iteration in range(len(floors) + max_iter):
        annealing = iteration < len(floors)
        floor = floors[iteration] if annealing else MIN_NOISE
        search = iteration % SEARCH_EVERY == 0 or iteration == len(floors) + max_iter - 1
        if search and family.growth is not None:
            sequences, squared = weighted_by_family(given, family, posterior), None
        before = _bound(squared, n_observed, sequences, family, posterior, spent)
        posterior = e_step(sequences, family, posterior, points if search else None, squared)
        family, last, squared, damping = m_step(
            sequences, family, posterior, damping=damping, moving=moving
        )
        noise = best_noise(total(squared, sequences), n_observed * (1.0 - spent))
        family = family._replace(noise_std=np.maximum(noise, floor))
        if moving is None:
            family, posterior = expand(sequences, family, posterior)
        bounds.append(_bound(squared, n_observed, sequences, family, posterior, spent))
        gains.append(np.nan if before is None or annealing else bounds[-1] - before)
        may_differ = moving is None or moving[:-1].any()
        if may_differ and (not annealing or iteration >= RELEVANCE_FROM):
            family, n_determined = update_relevance(family, last, moving)
            if moving is None:
                spent = min(n_determined / n_values, MOST_SPENT)
        if report(n_family_states(family.chart), bounds, family.noise_std):
            break
        if annealing or len(bounds) < 2:
            continue
        still = still + 1 if abs(bounds[-1] - bounds[-2]) < tol * n_values else 0
        if still >= STILL_ITERATIONS:
            break
    if moving is not None:
        last = curvature(posterior, sequences, family)
    last = last._replace(squared=whole(last.squared))
    return EMResult(family, whole(posterior), last, bounds, gains, still >= STILL_ITERATIONS)


def _take(sequences, posterior) -> TaskPosterior:
    """Leave the posteriors of a chunk where its sequences are."""
    return posterior


def _bound(squared, n_observed, sequences, family, posterior, spent) -> float | None:
    """The bound; values that (W, b) use up count as not observed."""
    if squared is None:
        return None
    fit = gaussian_log_density(
        total(squared, sequences), n_observed * (1.0 - spent), family.noise_std
    )
    fit -= level_cost(sequences, family, posterior)
    prior = log_prior(family) + log_noise_prior(family.noise_std)
    return float(fit - sum_by_chunk(_divergence, sequences, (posterior,))[0] + prior)


def _divergence(sequences, posterior) -> tuple:
    return (float(sequence_weights(sequences) @ divergence(posterior)),)


def best_noise(squared: np.ndarray, n_free: np.ndarray) -> np.ndarray:
    """Noise (n_outputs,) that maximises the bound: the mean square, prior values included."""
    return np.sqrt((squared + NOISE_COUNT * NOISE_SCALE**2) / (n_free + NOISE_COUNT))


def log_noise_prior(noise_std: np.ndarray) -> float:
    """Log density of NOISE_COUNT values of size NOISE_SCALE in each output, up to a constant."""
    return float(-NOISE_COUNT * np.sum(np.log(noise_std) + 0.5 * (NOISE_SCALE / noise_std) ** 2))


def update_relevance(family: Family, last: Curvature, moving: np.ndarray | None = None) -> tuple:
    """Relevance precisions by evidence, and the number of well-determined parameters (MacKay 1992).

    Of all rows of W, or of those with an entry that `moving` (k + 1, n_theta) marks.

    With V the inverse of the Gauss-Newton matrix plus prior precisions R: the precision of row r of
    W becomes k / sum_j (W_rj^2 + V_rj,rj), k the number of its entries that are learned, and gamma
    = sum (1 - R V) over all free entries of (W, b), the number of values that they use up.
    """
    k = family.loadings.shape[1]
    normal, free = posterior_normal(family, last, moving)
    variance = np.zeros(free.shape)
    variance[free] = _inverse_diagonal(normal)
    n_determined = np.sum(1.0 - prior_precision(family).ravel()[free] * variance[free])
    vary = free.reshape(k + 1, -1)[:k].any(axis=0)
    size = np.sum(family.loadings**2, axis=1) + variance.reshape(k + 1, -1)[:k].sum(axis=0)
    precision = family.precision.copy()
    n_learned = learned_columns(family).sum(axis=1)[vary]
    precision[vary] = np.clip(n_learned / np.maximum(size[vary], 1e-300), *RELEVANCE_RANGE)
    if k == 0:
        precision = family.precision
    return family._replace(precision=precision), float(n_determined)


def _inverse_diagonal(matrix: np.ndarray) -> np.ndarray:
    """Diagonal of the inverse of a positive definite matrix."""
    if len(matrix) == 0:
        return np.zeros(0)
    inverse, _ = dpotri(cho_factor(matrix, lower=True)[0], lower=1)
    return np.diag(inverse)


def log_evidence(result: EMResult, log_joint: np.ndarray, log_det: np.ndarray) -> float:
    """Laplace evidence of the chart, the precisions and the noise.

        sum_i [log p(y_i, z_i) + 1/2 log |S_i|] + 1/2 log |R| - 1/2 phi' R phi - 1/2 log |H|,

    with phi the free entries of (W, b), R their prior precisions and H the Gauss-Newton matrix plus
    R; log_joint (n_sequences,) and log_det = log |S_i| belong to the modes z_i (the constants
    k/2 log 2 pi cancel).
    """
    family = result.family
    normal, free = posterior_normal(family, result.last)
    factor = cho_factor(normal, lower=True)[0]
    log_det_normal = 2.0 * np.sum(np.log(np.diag(factor)))
    precision = prior_precision(family).ravel()[free]
    return float(
        np.sum(log_joint + 0.5 * log_det)
        + 0.5 * np.sum(np.log(precision))
        + log_prior(family)
        + log_noise_prior(family.noise_std)
        - 0.5 * log_det_normal
    )
