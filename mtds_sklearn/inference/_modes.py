"""Modes of log p(y | z) + log p(z), looked for by Levenberg-Marquardt from several starts.

The posterior of a short or oscillating sequence has several modes. Starts are the best few of
shared quasi-random prior points, ranked at several temperatures: at temperature 1 one lucky phase
can hide all other regions.
"""

import numpy as np

from mtds_sklearn._sequences import PackedSequences, observed_counts
from mtds_sklearn._threads import run_split
from mtds_sklearn.kernels import _latents
from mtds_sklearn.model._chart import Chart
from mtds_sklearn.model._likelihood import (
    Evaluations,
    evaluations,
    lengths_of,
    predicted_outputs,
    row_work,
    squared_residuals,
)
from mtds_sklearn.model._task_map import Family, natural_map, natural_parameters

TEMPERATURES = (1.0, 10.0, 100.0)
STARTS_PER_TEMPERATURE = 2
# Points that are simulated for every sequence where sequences have inputs of their own.
POINTS_WITH_INPUTS = 256
# What is simulated at once, so that a search needs little memory: pairs of a sequence and a point,
# points where all sequences share their inputs.
MOST_PAIRS, POINTS_AT_ONCE = 16384, 512
SEARCH_STEPS, TRACK_STEPS = 12, 6
# Rises of the log posterior, in nats, below which a climb ends: to choose a mode, and at the end.
SEARCH_TOLERANCE, TRACK_TOLERANCE = 1e-2, 1e-6
# Eigenvalues that are no more than rounding, of matrices with a diagonal of ones.
ROUNDING = 1e-12


def climb(
    z: np.ndarray, run: Evaluations, family: Family, max_steps: int, tol: float = TRACK_TOLERANCE
) -> tuple:
    """Levenberg-Marquardt from each start z (n_evaluations, k).

    Returns
    -------
    z : ndarray of shape (n_evaluations, k)
        Modes.
    objective : ndarray of shape (n_evaluations,)
        log p(y | z) - |z|^2 / 2 up to constants that do not depend on z.
    hessian : ndarray of shape (n_evaluations, k, k)
        Gauss-Newton matrix I + J' R^-1 J at the mode.
    """
    chart = family.chart
    loadings, bias = natural_map(family)
    z = np.array(z, order="C")
    objective = np.empty(len(z))
    hessian = np.empty((len(z), z.shape[1], z.shape[1]))
    setting = (run.data, tuple(chart.shape), chart.gain, family.noise_std**-2.0, max_steps, tol)

    def some(part: slice) -> None:
        rows, found = (run.first_row[part], run.n_rows[part]), (objective[part], hessian[part])
        _latents.maximize_latent(z[part], bias, loadings, *rows, *setting, *found)

    run_split(some, len(z), max_steps * run.n_rows.sum() * _tangent_work(chart, z.shape[1]))
    return z, objective, hessian


def _tangent_work(chart: Chart, k: int) -> float:
    """Multiplications of one row with its derivatives in k latents and their squares, roughly."""
    return row_work(chart) * (1.0 + 2.0 * k) + chart.shape.n_outputs * k * k


def inverse_factor(matrices: np.ndarray) -> np.ndarray:
    """Lower Cholesky factors of the inverses of positive definite matrices (..., k, k).

    With P the reversal of order and P H P = M M', the factor of H^-1 is P M^-T P. Where outputs
    have next to no noise, H spans ten orders of magnitude, and its inverse, if computed, is not
    positive definite.
    """
    reverse = matrices[..., ::-1, ::-1]
    try:
        factors = np.linalg.cholesky(reverse)
    except np.linalg.LinAlgError:
        factors = np.linalg.cholesky(_made_definite(reverse))
    return np.tril(np.swapaxes(np.linalg.inv(factors), -1, -2)[..., ::-1, ::-1])


def _made_definite(matrices: np.ndarray) -> np.ndarray:
    """Matrices (..., k, k) that rounding made indefinite with more on the diagonal; others stay.

    Innovations that do not die away make outputs change by factors of 1e15 with z, along one
    direction: next to that rounding drowns the prior. Where a matrix has overflowed stands I.
    """
    identity = np.eye(matrices.shape[-1])
    finite = np.isfinite(matrices).all(axis=(-2, -1), keepdims=True)
    matrices = np.where(finite, matrices, identity)
    diagonal = np.einsum("...jj->...j", matrices)
    scale = np.sqrt(diagonal)
    smallest = np.linalg.eigvalsh(matrices / (scale[..., None] * scale[..., None, :]))[..., :1]
    more = np.where(smallest > ROUNDING, 0.0, 2.0 * ROUNDING) * diagonal
    return matrices + more[..., None] * identity


def misfit(points: np.ndarray, sequences: PackedSequences, family: Family) -> np.ndarray:
    """Weighted squared residuals (n_sequences, n_points) of every sequence at every shared point.

    In units of the noise; where its level depends on the point, twice what the level takes from the
    log density is added. Where no sequence has inputs of its own the points are simulated once, and
    the misfit is three matrix products; otherwise every pair is simulated.
    """
    psi = natural_parameters(family, points)
    longest = int(np.argmax(lengths_of(sequences)))
    if family.chart.gain or not inputs_are_shared(sequences, longest):
        total = _own_misfit(psi, sequences, family)
    else:
        total = _shared_misfit(psi, sequences, family, longest)
    if "noise" not in family.chart.free:
        return total
    count = observed_counts(sequences).sum(axis=1)
    return total * np.exp(-2.0 * psi[:, -1]) + 2.0 * np.outer(count, psi[:, -1])


def inputs_are_shared(sequences: PackedSequences, longest: int) -> bool:
    """Whether the inputs of every sequence are the first rows of the longest sequence's inputs."""
    if not np.any(sequences.inputs):
        return True
    reference = sequences.inputs[sequences.offsets[longest] : sequences.offsets[longest + 1]]
    within = np.arange(len(sequences.inputs)) - np.repeat(
        sequences.offsets[:-1], lengths_of(sequences)
    )
    return bool(np.array_equal(sequences.inputs, reference[within]))


def _own_misfit(psi: np.ndarray, sequences: PackedSequences, family: Family) -> np.ndarray:
    """Every pair simulated."""
    n_sequences, n_points = len(sequences.labels), len(psi)
    total = np.empty((n_sequences, n_points))
    at_once = max(1, MOST_PAIRS // n_points)
    for first in range(0, n_sequences, at_once):
        index = np.arange(first, min(first + at_once, n_sequences))
        run = evaluations(sequences, repeats=n_points, index=index)
        squared = squared_residuals(np.tile(psi, (len(index), 1)), run, family.chart)
        total[index] = (squared @ family.noise_std**-2.0).reshape(len(index), n_points)
    return total


def _shared_misfit(
    psi: np.ndarray, sequences: PackedSequences, family: Family, longest: int
) -> np.ndarray:
    """sum w y^2 - 2 sum w y f + sum w f^2 with the weights w = observed / noise variance."""
    n_sequences, p = sequences.labels.size, sequences.outputs.shape[1]
    lengths = lengths_of(sequences)
    rows = np.repeat(np.arange(n_sequences), lengths)
    within = np.arange(len(sequences.outputs)) - np.repeat(sequences.offsets[:-1], lengths)
    weight = np.zeros((n_sequences, lengths[longest], p))
    weighted = np.zeros_like(weight)
    weight[rows, within] = sequences.observed * family.noise_std**-2.0
    weighted[rows, within] = sequences.outputs * weight[rows, within]
    squares = np.sum(sequences.outputs * weighted[rows, within], axis=1)
    total = np.tile(np.add.reduceat(squares, sequences.offsets[:-1])[:, None], len(psi))
    weight, weighted = weight.reshape(n_sequences, -1), weighted.reshape(n_sequences, -1)
    if np.all(weight == weight[0]):
        weight = weight[:1]  # the same sum for all of them
    for first in range(0, len(psi), POINTS_AT_ONCE):
        some = psi[first : first + POINTS_AT_ONCE]
        run = evaluations(sequences, repeats=len(some), index=np.array([longest]))
        f = predicted_outputs(some, run, family.chart)[0].reshape(len(some), -1)
        part = total[:, first : first + len(some)]
        part += (weight @ (f**2).T) - 2.0 * (weighted @ f.T)
    return total


def best_starts(points: np.ndarray, misfits: np.ndarray, per_temperature: int) -> np.ndarray:
    """Best points (n_sequences, n_starts, k) of each sequence at every temperature."""
    penalty = 0.5 * np.sum(points**2, axis=1)
    chosen = []
    for temperature in TEMPERATURES:
        cost = misfits * (0.5 / temperature)
        cost += penalty
        for _ in range(per_temperature):  # faster than to sort what costs much more
            best = np.argmin(cost, axis=1)
            cost[np.arange(len(cost)), best] = np.inf
            chosen.append(best)
    return points[np.stack(chosen, axis=1)]


def search_starts(sequences: PackedSequences, family: Family, points: np.ndarray) -> np.ndarray:
    """Starts (n_sequences, n_starts, k): the best points of every sequence at every temperature."""
    longest = int(np.argmax(lengths_of(sequences)))
    if family.chart.gain or not inputs_are_shared(sequences, longest):
        points = points[:POINTS_WITH_INPUTS]
    return best_starts(points, misfit(points, sequences, family), STARTS_PER_TEMPERATURE)
