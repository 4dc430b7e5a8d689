"""What is sampled: log p(y | v) + log p(v) of many points v, and its local quadratics.

Points v stand side by side, (n_sequences, k, n_points).
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import PackedSequences, select_sequences
from mtds_sklearn._threads import run_split
from mtds_sklearn.inference._coordinates import Coordinates, coordinates_of, latents, slopes
from mtds_sklearn.inference._disturbance import gap_weights
from mtds_sklearn.kernels import _particles
from mtds_sklearn.model._chart import differentiate_only
from mtds_sklearn.model._latent_prior import (
    Components,
    component_log_densities,
    log_score_density,
)
from mtds_sklearn.model._lds import (
    Shape,
    is_modal,
    kind_slices,
    modal_entries,
    transition_matrix,
)
from mtds_sklearn.model._likelihood import (
    MOST_SQUARED,
    evaluations,
    gaussian_log_density,
    hold,
    level_weights,
    row_work,
    student_log_density,
    theta_quantities,
)
from mtds_sklearn.model._noise import noise_factor
from mtds_sklearn.model._normal import symmetric
from mtds_sklearn.model._task_map import Family, natural_map, natural_parameters

# Values (row, output, point) of one sequence that are held at a time where noise grows.
CHUNK_VALUES = 1_000_000


class Target(NamedTuple):
    """Posteriors of the v of N sequences, up to their evidence."""

    sequences: PackedSequences
    family: Family
    coordinates: Coordinates


def make_target(sequences: PackedSequences, family: Family) -> Target:
    """Posteriors of the sequences in a family."""
    return Target(sequences, family, coordinates_of(family))


def select_target(target: Target, index: np.ndarray) -> Target:
    """Posteriors of some of the sequences."""
    if len(index) == len(target.sequences.labels):
        return target
    return target._replace(sequences=select_sequences(target.sequences, index))


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
    chart = target.family.chart
    psi = particle_parameters(target.family, latents(target.coordinates, v))
    run = evaluations(target.sequences)
    squared = np.empty((len(psi), chart.shape.n_outputs, v.shape[2]))
    transitions, shape = particle_transitions(psi, chart.shape), tuple(chart.shape)

    def some(part: slice) -> None:
        rows = (run.first_row[part], run.n_rows[part])
        _particles.squared_residuals(
            transitions[part], psi[part], *rows, run.data, shape, chart.gain, squared[part]
        )

    run_split(some, len(psi), float(run.n_rows.sum()) * v.shape[2] * row_work(chart))
    log_weight, family = run.log_weight[:, None], target.family
    if family.growth is not None:
        squared, log_weight = _squares_with_growth(transitions, psi, target)
    squared = np.moveaxis(np.fmin(squared, MOST_SQUARED), 1, 2)
    if np.isinf(family.noise_dof):
        density = gaussian_log_density(
            squared, run.n_observed[:, None], family.noise_std, psi[:, -1]
        )
    else:
        density = student_log_density(
            squared, run.n_observed[:, None], family.noise_std, family.noise_dof
        )
    return density + log_weight


def _squares_with_growth(transitions: np.ndarray, psi: np.ndarray, target: Target) -> tuple:
    """Weighted squares (n_sequences, n_outputs, n_points), and half the sum of the log weights.

    Weights are those of the points' own outputs, while `target.sequences` has those of the values.
    """
    sequences, family = target.sequences, target.family
    weights, n_outputs = gap_weights(sequences, family), family.chart.shape.n_outputs
    squared, log_weight = np.empty((len(psi), n_outputs, psi.shape[2])), np.empty(psi[:, 0].shape)
    for i, (first, last) in enumerate(zip(sequences.offsets, sequences.offsets[1:], strict=False)):
        seen = sequences.observed[first:last, :, None]
        at_once = max(1, CHUNK_VALUES // ((last - first) * n_outputs))
        for start in range(0, psi.shape[2], at_once):
            points = slice(start, start + at_once)
            yhat = _outputs_of(
                transitions[i : i + 1, :, points], psi[i : i + 1, :, points], i, target
            )
            weight = weights[first:last, :, None] / noise_factor(family.growth, yhat)
            error = sequences.outputs[first:last, :, None] - yhat
            squared[i, :, points] = np.sum(np.where(seen, weight * error**2, 0.0), axis=0)
            log_weight[i, points] = 0.5 * np.log(np.where(seen, weight, 1.0)).sum(axis=(0, 1))
    return squared, log_weight


def _outputs_of(transitions: np.ndarray, psi: np.ndarray, i: int, target: Target) -> np.ndarray:
    """Outputs (n_rows, n_outputs, n_points) of points of sequence i, held within the squares."""
    sequences, chart = target.sequences, target.family.chart
    transitions, psi = np.ascontiguousarray(transitions), np.ascontiguousarray(psi)
    n_rows = np.diff(sequences.offsets[i : i + 2])
    rows = (sequences.offsets[i : i + 1], n_rows, np.zeros_like(n_rows), np.array([0, n_rows[0]]))
    yhat = np.empty((n_rows[0], chart.shape.n_outputs, psi.shape[2]))
    _particles.simulate(
        transitions, psi, psi[:, kind_slices(chart.shape)["x0"]].copy(), rows,
        (sequences.inputs, sequences.outputs, sequences.observed), tuple(chart.shape), chart.gain,
        yhat,
    )  # fmt: skip
    return hold(yhat)


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
    normal = symmetric(parts.normal, chart)
    slope = np.moveaxis(slopes(coordinates, v), 1, 2)
    gradient = (level[:, None] * parts.gradient @ jacobian).reshape(n, n_points, k) * slope
    pull, stiffness = _prior_quadratics(v, target.coordinates.components)
    gradient += pull
    curvature = level[:, None, None] * (jacobian.T @ normal @ jacobian)
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
