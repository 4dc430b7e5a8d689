"""What is sampled: log p(y | v) + log p(v) of many points v, and its local quadratics.

Points v stand side by side, (n_sequences, k, n_points).
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import PackedSequences, frozen, select_sequences
from mtds_sklearn._threads import run_split
from mtds_sklearn.inference._coordinates import Coordinates, coordinates_of, latents, slopes
from mtds_sklearn.inference._disturbance import gap_weights
from mtds_sklearn.kernels import _points
from mtds_sklearn.model._chart import differentiate_only
from mtds_sklearn.model._latent_prior import (
    Components,
    component_log_densities,
    log_score_density,
)
from mtds_sklearn.model._lds import (
    Shape,
    is_modal,
    modal_entries,
    transition_matrix,
)
from mtds_sklearn.model._likelihood import (
    MOST_SQUARED,
    Evaluations,
    evaluations,
    gaussian_density_of,
    level_weights,
    row_work,
    student_density_of,
    theta_quantities,
)
from mtds_sklearn.model._normal import in_directions
from mtds_sklearn.model._task_map import Family, natural_map, natural_parameters


class Target(NamedTuple):
    """Posteriors of the v of N sequences, up to their evidence.

    `run` are the sequences as kernels take them; where noise grows, without the weights that the
    observed values have for it: points have their own.
    """

    sequences: PackedSequences
    family: Family
    coordinates: Coordinates
    run: Evaluations


def make_target(sequences: PackedSequences, family: Family) -> Target:
    """Posteriors of sequences `with_gap_weights` in a family."""
    run = _evaluations(sequences, family)
    return Target(sequences, family, coordinates_of(family), run)


def select_target(target: Target, index: np.ndarray) -> Target:
    """Posteriors of some of the sequences."""
    if len(index) == len(target.sequences.labels):
        return target
    sequences = select_sequences(target.sequences, index)
    return target._replace(sequences=sequences, run=_evaluations(sequences, target.family))


def _evaluations(sequences: PackedSequences, family: Family) -> Evaluations:
    if family.growth is not None:
        sequences = sequences._replace(precision=frozen(gap_weights(sequences, family)))
    return evaluations(sequences)


def particle_parameters(family: Family, z: np.ndarray) -> np.ndarray:
    """Natural parameters (n_sequences, n_natural, n_points) of z (n_sequences, k, n_points)."""
    loadings, bias = natural_map(family)
    return loadings @ z + bias[:, None]


def particle_transitions(psi: np.ndarray, shape: Shape) -> np.ndarray:
    """Entries of A (n_sequences, n_entries, n_points) in the order of `kernels/_particles.py`.

    Diagonal, upper and lower entry of each 2x2 block, then the pole of an odd last state; or all
    of A, row by row.
    """
    n = shape.n_states
    if not is_modal(shape):
        chart = np.moveaxis(psi[:, : n + n * (n - 1) // 2], 1, 2)
        A = transition_matrix(chart, shape).reshape((*chart.shape[:2], n * n))
        return np.ascontiguousarray(np.moveaxis(A, 2, 1))
    paired, size = n - n % 2, 3 * (n // 2)
    out = np.empty((len(psi), size + n % 2, psi.shape[2]))
    out[:, 0:size:3], out[:, 1:size:3], out[:, 2:size:3] = modal_entries(
        psi[:, 0:paired:2], psi[:, 1:paired:2]
    )
    if n % 2:
        out[:, -1] = np.tanh(psi[:, n - 1])
    return out


def log_likelihoods(v: np.ndarray, target: Target) -> np.ndarray:
    """log p(y_i | v) (n_sequences, n_points) of each sequence at its own points v."""
    family, n_observed = target.family, target.run.n_observed[:, None]
    total, level, log_weight = _squares(np.ascontiguousarray(v), target)
    total = np.fmin(total, MOST_SQUARED)
    if np.isinf(family.noise_dof):
        way = target.coordinates.way
        level = level if way.loadings[-1].any() else way.bias[-1]
        density = gaussian_density_of(total, n_observed, family.noise_std, level)
    else:
        density = student_density_of(total, n_observed, family.noise_std, family.noise_dof)
    return density + target.run.log_weight[:, None] + log_weight


def _squares(v: np.ndarray, target: Target) -> tuple:
    """Weighted squares in units of the noise, log levels, and half the sum of log (1 / h).

    All (n_sequences, n_points); h is what the noise of a point's own outputs grows by.
    """
    family, run, shape = target.family, target.run, (len(v), v.shape[2])
    total, level, log_weight = np.empty(shape), np.empty(shape), np.zeros(shape)
    chart, precision = family.chart, family.noise_std**-2.0
    setting = (run.data, precision, tuple(chart.shape), chart.gain)

    def some(part: slice) -> None:
        rows, found = (run.first_row[part], run.n_rows[part]), (total[part], level[part])
        points = (v[part], target.coordinates.way, rows)
        if family.growth is None:
            _points.point_squares(*points, *setting, *found)
        else:
            growth = tuple(family.growth)
            _points.shrunk_squares(*points, *setting, growth, *found, log_weight[part])

    run_split(some, len(v), float(run.n_rows.sum()) * v.shape[2] * row_work(chart))
    return total, level, log_weight


def log_prior(v: np.ndarray, target: Target) -> np.ndarray:
    """log p(v) (n_sequences, n_points) of points (n_sequences, k, n_points)."""
    return log_score_density(target.coordinates.components, v)


def log_target(v: np.ndarray, target: Target) -> np.ndarray:
    """log p(y_i | v) + log p(v) (n_sequences, n_points)."""
    return log_likelihoods(v, target) + log_prior(v, target)


def local_quadratics(v: np.ndarray, target: Target) -> tuple:
    """Gradient and Gauss-Newton curvature of the log target at a few points v.

    Returns
    -------
    gradient : ndarray of shape (n_sequences, n_points, k)
    curvature : ndarray of shape (n_sequences, n_points, k, k)
        Of minus the log target; positive definite.
    """
    n, k, n_points = v.shape
    family, coordinates = target.family, target.coordinates
    z = np.moveaxis(latents(coordinates, v), 1, 2).reshape(n * n_points, -1)
    run = evaluations(target.sequences, repeats=n_points)
    loadings = natural_map(family)[0]
    chart = differentiate_only(family.chart, np.any(loadings != 0.0, axis=1))
    parts = theta_quantities(natural_parameters(family, z), run, chart, family.noise_std)
    level = level_weights(parts.squared, run.n_observed, family.noise_std, family.noise_dof)
    jacobian = loadings[chart.active] @ coordinates.axes[:, :k]
    slope = np.moveaxis(slopes(coordinates, v), 1, 2)
    gradient = (level[:, None] * parts.gradient @ jacobian).reshape(n, n_points, k) * slope
    pull, stiffness = _prior_quadratics(v, target.coordinates.components)
    gradient += pull
    curvature = level[:, None, None] * in_directions(parts.normal, chart, jacobian)
    curvature = curvature.reshape(n, n_points, k, k)
    return gradient, curvature * slope[..., :, None] * slope[..., None, :] + stiffness


def _prior_quadratics(v: np.ndarray, components: Components | None) -> tuple:
    """Gradient (n_sequences, n_points, k) of log p(v), and a positive definite curvature.

    Of a mixture the latter is the mean precision of the components that a point may belong to.
    """
    points = np.moveaxis(v, 1, 2)
    if components is None:
        return -points, np.eye(v.shape[1])
    belongs = component_log_densities(components, v)
    belongs = np.exp(belongs - belongs.max(axis=1, keepdims=True))
    belongs = np.moveaxis(belongs / belongs.sum(axis=1, keepdims=True), 1, 2)
    inverse = np.linalg.inv(components.factors)
    precisions = np.swapaxes(inverse, 1, 2) @ inverse
    gap = points[:, :, None] - components.means
    pull = np.einsum("nsj,jab,nsjb->nsa", belongs[..., 1:], precisions, gap)
    stiffness = np.einsum("nsj,jab->nsab", belongs[..., 1:], precisions)
    base = belongs[..., :1]
    return -pull - base * points, stiffness + base[..., None] * np.eye(v.shape[1])
