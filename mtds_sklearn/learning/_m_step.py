"""M-step: new shared parameters phi = (W, b) and noise, given the posteriors of the latents.

The objective is Q(phi) = sum_i w_i E_q log p(y_i | W z_i + b) + log p(W, b), with expectations by
cubature and weights w_i that say how often a sequence counts (1 if nothing else is said). With
z1 = (z, 1), G the Jacobian of the outputs in theta and R the noise covariance, the Gauss-Newton
matrix is

    H = sum_i w_i mean_c (z1 z1') (x) (G' R^-1 G) + prior precisions,

indexed (column of [W b], entry of theta). One step solves (H + damping diag H) delta = gradient.

Where the log noise level l_i = w_s z_i + b_s belongs to theta, residuals are in units of exp(l_i),
Q has the further term -sum_i w_i n_i E_q l_i with n_i the number of values (E_q l_i is l at the
mean of q: l is linear), and the level's own Fisher information in H is 2 n_i. Of b_s nothing is
learned here: a level that all sequences share is the noise's.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from mtds_sklearn._sequences import PackedSequences, observed_counts
from mtds_sklearn.learning._chunks import (
    Kept,
    Reweighted,
    alike,
    given_sequences,
    map_by_chunk,
    sum_by_chunk,
)
from mtds_sklearn.learning._posterior import TaskPosterior, cubature_points
from mtds_sklearn.model._chart import differentiate_only
from mtds_sklearn.model._lds import lds_from_natural
from mtds_sklearn.model._likelihood import (
    evaluations,
    gaussian_log_density,
    squared_residuals,
    theta_quantities,
)
from mtds_sklearn.model._normal import normal_entries, symmetric
from mtds_sklearn.model._task_map import (
    Family,
    learned_columns,
    log_levels,
    natural_parameters,
)

BIAS_PRECISION = 0.01
# Share of its diagonal that is added to a Gauss-Newton matrix. Where outputs have next to no noise,
# rounding would otherwise drown the prior along what the data leave open.
ROUNDING = 1e-12
# Numbers of doubles that the Gauss-Newton matrices of one chunk of evaluations may take.
CHUNK_SIZE = 1_000_000


class Curvature(NamedTuple):
    """Derivatives of the expected log likelihood in [W b], indexed (column, entry of theta).

    Attributes
    ----------
    gradient : ndarray of shape (k + 1, n_theta)
    normal : ndarray of shape ((k + 1) n_theta, (k + 1) n_theta)
        Gauss-Newton matrix.
    squared : ndarray of shape (n_sequences, n_outputs), or Kept
        Expected squared residuals, times the weight of the sequence.
    """

    gradient: np.ndarray
    normal: np.ndarray
    squared: np.ndarray | Kept


def sequence_weights(sequences: PackedSequences) -> np.ndarray:
    """How often each sequence counts, (n_sequences,)."""
    if sequences.weights is None:
        return np.ones(len(sequences.labels))
    return sequences.weights


def weighted_counts(sequences: PackedSequences) -> np.ndarray:
    """Observed values (n_sequences, n_outputs), times the weight of the sequence."""
    return observed_counts(sequences) * sequence_weights(sequences)[:, None]


def prior_precision(family: Family) -> np.ndarray:
    """Prior precisions of [W b] as (k+1, n_theta); inf: an entry that is not learned."""
    rows = np.where(learned_columns(family).T, family.precision, np.inf)
    bias = [np.inf if kind == "noise" else BIAS_PRECISION for kind, _, _ in family.chart.entries]
    return np.vstack([rows, bias])


def log_prior(family: Family) -> float:
    """Log prior of (W, b) up to a constant that depends on the precisions only."""
    vary = np.isfinite(family.precision)
    rows = np.sum(family.loadings[vary] ** 2, axis=1)
    return float(
        -0.5 * np.sum(family.precision[vary] * rows) - 0.5 * BIAS_PRECISION * np.sum(family.bias**2)
    )


def expected_squares(
    posterior: TaskPosterior | Kept, sequences: PackedSequences | Reweighted, family: Family
) -> Any:
    """Mean squared residuals under the posteriors, weighted (n_sequences, n_outputs).

    By cubature; kept where the posteriors are, if these are `Kept`.
    """
    found = map_by_chunk(_expected_squares, sequences, (posterior,), (family,))
    return alike(found, posterior)


def _expected_squares(sequences, posterior, family) -> np.ndarray:
    points = cubature_points(posterior)
    n, n_points, k = points.shape
    psi = natural_parameters(family, points.reshape(n * n_points, k))
    run = evaluations(sequences, repeats=n_points)
    squared = squared_residuals(psi, run, family.chart) * np.exp(-2.0 * psi[:, -1:])
    return squared.reshape(n, n_points, -1).mean(axis=1) * sequence_weights(sequences)[:, None]


def total(squared: np.ndarray | Kept, sequences: PackedSequences | Reweighted) -> np.ndarray:
    """Sums (n_outputs,) of the squares of all sequences."""
    return sum_by_chunk(_total, sequences, (squared,))[0]


def _total(sequences, squared) -> tuple:
    return (squared.sum(axis=0),)


def curvature(
    posterior: TaskPosterior | Kept,
    sequences: PackedSequences | Reweighted,
    family: Family,
    moving: np.ndarray | None = None,
) -> Curvature:
    """Gradient and Gauss-Newton matrix of sum_i w_i E_q log p(y_i | z_i) in (W, b).

    Where an entry of theta moves nowhere in `moving` (k + 1, n_theta), its derivatives are not what
    they would be, but cheap.
    """
    if moving is not None:
        chart = family.chart
        moved = np.any(chart.basis[:, moving.any(axis=0)] != 0.0, axis=1)
        family = family._replace(chart=differentiate_only(chart, moved))
    found = map_by_chunk(_curvature, sequences, (posterior,), (family,))
    squared = alike(map_by_chunk(_squares_of, sequences, (found,)), posterior)
    return Curvature(*sum_by_chunk(_derivatives_of, sequences, (found,)), squared)


def _derivatives_of(sequences, found) -> tuple:
    return found.gradient, found.normal


def _squares_of(sequences, found) -> np.ndarray:
    return found.squared


def _curvature(sequences, posterior, family) -> Curvature:
    points = cubature_points(posterior)
    n, n_points, k = points.shape
    chart = family.chart
    n_active = len(chart.active)
    weights = sequence_weights(sequences)
    z1 = np.concatenate([points, np.ones((n, n_points, 1))], axis=2).reshape(-1, k + 1)
    upper = np.triu_indices(k + 1)
    normal = np.zeros((len(upper[0]), len(normal_entries(chart)[0])))
    gradient = np.zeros((k + 1, n_active))
    squared = np.empty((n, chart.shape.n_outputs))
    chunk = max(1, CHUNK_SIZE // (n_points * max(n_active, 1) ** 2))
    for first in range(0, n, chunk):
        index = np.arange(first, min(first + chunk, n))
        rows = slice(first * n_points, (first + len(index)) * n_points)
        psi = natural_parameters(family, points[index].reshape(len(index) * n_points, k))
        run = evaluations(sequences, repeats=n_points, index=index)
        weight = np.repeat(weights[index] / n_points, n_points)
        part = theta_quantities(psi, run, chart, family.noise_std, weight)
        products = z1[rows][:, upper[0]] * z1[rows][:, upper[1]]
        normal += products.T @ part.normal
        gradient += z1[rows].T @ part.gradient
        scaled = part.squared * np.exp(-2.0 * psi[:, -1:])
        mean = scaled.reshape(len(index), n_points, -1).mean(axis=1)
        squared[index] = mean * weights[index, None]
    basis = chart.basis[chart.active]
    d = basis.shape[1]
    full = np.empty((k + 1, d, k + 1, d))
    in_theta = symmetric(normal, chart)
    if not np.array_equal(basis, np.eye(n_active)):
        in_theta = basis.T @ in_theta @ basis
    full[upper[0], :, upper[1]] = full[upper[1], :, upper[0]] = in_theta
    return Curvature(gradient @ basis, full.reshape((k + 1) * d, (k + 1) * d), squared)


def objective(
    squared: np.ndarray | Kept,
    n_observed: np.ndarray,
    sequences: PackedSequences | Reweighted,
    family: Family,
    posterior: TaskPosterior | Kept,
) -> float:
    """Q(phi) from the expected squared residuals; n_observed (n_outputs,) is their number."""
    fit = gaussian_log_density(total(squared, sequences), n_observed, family.noise_std)
    return float(fit) - level_cost(sequences, family, posterior) + log_prior(family)


def level_cost(
    sequences: PackedSequences | Reweighted, family: Family, posterior: TaskPosterior | Kept
) -> float:
    """sum_i w_i n_i E_q l_i: what noise levels exp(l_i) take from log densities."""
    if not np.any(family.chart.basis[-1]):
        return 0.0
    return sum_by_chunk(_level_cost, sequences, (posterior,), (family,))[0]


def _level_cost(sequences, posterior, family) -> tuple:
    count = weighted_counts(sequences).sum(axis=1)
    return (float(count @ log_levels(family, posterior.mean)),)


def m_step(
    sequences: PackedSequences | Reweighted,
    family: Family,
    posterior: TaskPosterior | Kept,
    n_steps: int = 1,
    damping: float = 1e-4,
    moving: np.ndarray | None = None,
) -> tuple:
    """Damped Gauss-Newton on (W, b), or on those entries (k + 1, n_theta) that `moving` marks.

    Returns
    -------
    family : Family
        With new (W, b); never worse than the old one in Q.
    last : Curvature
        At the last point where derivatives were taken, as of `curvature`.
    squared : ndarray of shape (n_sequences, n_outputs), or Kept
        Expected squared residuals at the new parameters, weighted.
    damping : float
        Where to start next time.
    """
    n_observed = weighted_counts(given_sequences(sequences)).sum(axis=0)
    for _ in range(n_steps):
        last = curvature(posterior, sequences, family, moving)
        squared = last.squared
        value = objective(squared, n_observed, sequences, family, posterior)
        accepted = False
        for _ in range(8):
            trial = _step(family, last, damping, moving)
            trial_squared = expected_squares(posterior, sequences, trial)
            trial_value = objective(trial_squared, n_observed, sequences, trial, posterior)
            if trial_value > value and forgets(sequences, trial, posterior):
                family, squared, accepted = trial, trial_squared, True
                damping = max(0.3 * damping, 1e-8)
                break
            damping = min(10.0 * damping, 1e8)
        if not accepted or trial_value - value < 1e-7 * abs(value):
            break
    return family, last, squared, damping


def forgets(
    sequences: PackedSequences | Reweighted, family: Family, posterior: TaskPosterior | Kept
) -> bool:
    """Whether innovations that were fed back die away: A - A K C is stable at the posteriors."""
    if not family.chart.gain:
        return True
    return sum_by_chunk(_n_unstable, sequences, (posterior,), (family,)) == (0,)


def _n_unstable(sequences, posterior, family) -> tuple:
    return (int(np.count_nonzero(~are_stable(family, posterior.mean))),)


def are_stable(family: Family, z: np.ndarray) -> np.ndarray:
    """Whether the poles of A - A K C are within the unit circle, at latents z (n, k)."""
    lds = lds_from_natural(natural_parameters(family, z), family.chart.shape)
    poles = np.linalg.eigvals(lds.A - lds.A @ lds.K @ lds.C)
    return np.max(np.abs(poles), axis=1, initial=0.0) < 1.0


def posterior_normal(family: Family, last: Curvature, moving: np.ndarray | None = None) -> tuple:
    """Gauss-Newton matrix with prior over the free entries of [W b], and which entries are free."""
    precision = prior_precision(family).ravel()
    free = np.isfinite(precision)
    if moving is not None:
        free &= moving.ravel()
    normal = last.normal.copy() if free.all() else last.normal[np.ix_(free, free)]
    diagonal = np.diag_indices_from(normal)
    normal[diagonal] += ROUNDING * normal[diagonal] + precision[free]
    return normal, free


def _step(family: Family, last: Curvature, damping: float, moving: np.ndarray | None) -> Family:
    normal, free = posterior_normal(family, last, moving)
    phi = np.vstack([family.loadings.T, family.bias]).ravel()
    pull = prior_precision(family).ravel()[free] * phi[free]
    normal[np.diag_indices_from(normal)] *= 1.0 + damping
    phi[free] += cho_solve(cho_factor(normal, lower=True), last.gradient.ravel()[free] - pull)
    phi = phi.reshape(-1, len(family.bias))
    return family._replace(loadings=np.ascontiguousarray(phi[:-1].T), bias=phi[-1])
