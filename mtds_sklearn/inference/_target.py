"""What is sampled: log p(y | v) + log p(v) of many points v, and its local quadratics.

Points v stand side by side, (n_sequences, k, n_points).
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import PackedSequences, frozen
from mtds_sklearn._threads import run_split
from mtds_sklearn.inference._coordinates import Coordinates, bend, coordinates_of, latents
from mtds_sklearn.inference._disturbance import gap_weights
from mtds_sklearn.inference._specific import (
    Departures,
    Directions,
    departures,
    directions_of,
    log_gain,
    most_likely,
    unit_columns,
    without_departures,
)
from mtds_sklearn.kernels import _points
from mtds_sklearn.model._chart import Chart, differentiate_only
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
    select_evaluations,
    student_density_of,
    theta_quantities,
)
from mtds_sklearn.model._normal import in_directions
from mtds_sklearn.model._task_map import Family, natural_map, without_specific


class Target(NamedTuple):
    """Posteriors of the v of N sequences, up to their evidence.

    Attributes
    ----------
    family : Family
        Without specific variances: what they add is integrated out.
    coordinates : Coordinates
    run : Evaluations
        The sequences; where noise grows, without the weights that observed values have for it:
        points have their own.
    weighted : Evaluations
        The sequences with these weights.
    chart : Chart
        For derivatives in those natural entries that v or specific departures move.
    jacobian : ndarray of shape (n_active, k + m)
        Derivatives of these entries by the coordinates r that v is bent into, and by the m
        departures.
    along : Directions or None
        Of specific departures; None: there are none.
    """

    family: Family
    coordinates: Coordinates
    run: Evaluations
    weighted: Evaluations
    chart: Chart
    jacobian: np.ndarray
    along: Directions | None = None


def make_target(sequences: PackedSequences, family: Family) -> Target:
    """Posteriors of sequences `with_gap_weights` in a family."""
    along, family = directions_of(family), without_specific(family)
    coordinates = coordinates_of(family)
    run = weighted = evaluations(sequences)
    if family.growth is not None:
        gaps = frozen(gap_weights(sequences, family))
        run = evaluations(sequences._replace(precision=gaps))
    loadings = coordinates.way.loadings
    if along is not None:
        loadings = np.hstack([loadings, unit_columns(along, len(loadings))])
    chart = differentiate_only(family.chart, np.any(loadings != 0.0, axis=1))
    return Target(family, coordinates, run, weighted, chart, loadings[chart.active], along)


def select_target(target: Target, index: np.ndarray) -> Target:
    """Posteriors of some of the sequences."""
    run, weighted = (select_evaluations(part, index) for part in (target.run, target.weighted))
    return target._replace(run=run, weighted=weighted)


def n_posteriors(target: Target) -> int:
    """Number of sequences."""
    return len(target.run.n_rows)


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
    if target.along is not None:
        return _marginal_log_likelihoods(v, target)
    total, level, log_weight = _squares(np.ascontiguousarray(v), target)
    density = _density(total.T, target.run, target, level.T).T
    return density + target.run.log_weight[:, None] + log_weight


def departures_at(v: np.ndarray, target: Target) -> Departures:
    """What the outputs say of specific departures given points v."""
    return _departures(particle_parameters(target.family, latents(target.coordinates, v)), target)


def _departures(psi: np.ndarray, target: Target) -> Departures:
    chart, noise_std = target.family.chart, target.family.noise_std
    transitions = particle_transitions(psi, chart.shape)
    return departures(transitions, psi, target.run, chart, noise_std, target.along)


def _marginal_log_likelihoods(v: np.ndarray, target: Target) -> np.ndarray:
    """log p(y_i | v) with specific departures integrated out."""
    psi = particle_parameters(target.family, latents(target.coordinates, v))
    found = _departures(psi, target)
    total = np.einsum("nos,o->sn", found.squared, target.family.noise_std**-2.0)
    density = _density(total, target.run, target, psi[:, -1].T).T
    return density + log_gain(found) + target.run.log_weight[:, None]


def _density(total: np.ndarray, run: Evaluations, target: Target, level: np.ndarray) -> np.ndarray:
    """Log densities (..., n_evaluations) of squares in units of the noise, at log levels."""
    family, way = target.family, target.coordinates.way
    total, setting = np.fmin(total, MOST_SQUARED), (run.n_observed, family.noise_std)
    if not np.isinf(family.noise_dof):
        return student_density_of(total, *setting, family.noise_dof)
    level = level if way.loadings[-1].any() else way.bias[-1]
    return gaussian_density_of(total, *setting, level)


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
        points = (v[part], tuple(target.coordinates.way), rows)
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
    """The log target at a few points v, its gradient and Gauss-Newton curvature.

    Where noise grows, with that of the observed values. Of what specific departures add to gradient
    and curvature, that their sizes depend on v is left out.

    Returns
    -------
    value : ndarray of shape (n_sequences, n_points)
    gradient : ndarray of shape (n_sequences, n_points, k)
    curvature : ndarray of shape (n_sequences, n_points, k, k)
        Of minus the log target; positive definite.
    """
    n, k, n_points = v.shape
    r, slope = bend(target.coordinates.way, v)
    way = target.coordinates.way
    run = select_evaluations(target.weighted, np.repeat(np.arange(n), n_points))
    psi = np.moveaxis(r, 1, 2).reshape(n * n_points, k) @ way.loadings.T + way.bias
    value, gradient, curvature = _quadratics(psi, run, target)
    if target.along is not None:
        u, gain = most_likely(gradient, curvature, k)
        moved = psi + u @ unit_columns(target.along, psi.shape[1]).T
        gradient, curvature = without_departures(*_quadratics(moved, run, target)[1:], k)
        value = value + gain
    slope = np.moveaxis(slope, 1, 2)
    pull, stiffness = _prior_quadratics(v, target.coordinates.components)
    gradient = gradient.reshape(n, n_points, k) * slope + pull
    curvature = curvature.reshape(n, n_points, k, k)
    value = value.reshape(n, n_points) + log_prior(v, target)
    return value, gradient, curvature * slope[..., :, None] * slope[..., None, :] + stiffness


def _quadratics(psi: np.ndarray, run: Evaluations, target: Target) -> tuple:
    """Log likelihoods of evaluations, their gradients (.., k + m) and Gauss-Newton matrices."""
    noise_std, noise_dof = target.family.noise_std, target.family.noise_dof
    parts = theta_quantities(psi, run, target.chart, noise_std)
    value = _density(parts.squared @ noise_std**-2.0, run, target, psi[:, -1]) + run.log_weight
    level = level_weights(parts.squared, run.n_observed, noise_std, noise_dof)
    gradient = level[:, None] * parts.gradient @ target.jacobian
    normal = in_directions(parts.normal, target.chart, target.jacobian)
    return value, gradient, level[:, None, None] * normal


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
