"""E-step: the posterior of each sequence's latent z, given the shared parameters.

A mode of log p(y_i | z) + log p(z) is found by Levenberg-Marquardt; the posterior there is the Gaussian
whose precision is the Gauss-Newton matrix I + J' R^-1 J (Laplace). The posterior of a short or
oscillating sequence has several modes, so that now and then (`search`) the modes are looked for from several
starts: the current mean and the best few of shared quasi-random prior points, ranked at several
temperatures, because at temperature 1 one lucky phase can hide all other regions.
"""

import numpy as np

from mtds_sklearn import _kernels
from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.learning._posterior import (
    TaskPosterior,
    cubature_points,
    divergence,
    select,
)
from mtds_sklearn.model._likelihood import (
    Evaluations,
    evaluations,
    log_likelihood,
    predicted_outputs,
    squared_residuals,
)
from mtds_sklearn.model._task_map import Family, natural_map, natural_parameters

TEMPERATURES = (1.0, 10.0, 100.0)
STARTS_PER_TEMPERATURE = 2
SEARCH_STEPS, TRACK_STEPS = 12, 6
# Rises of the log posterior, in nats, below which a climb ends: while choosing a mode, and at the end.
SEARCH_TOLERANCE, TRACK_TOLERANCE = 1e-2, 1e-6


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
    _kernels.maximize_latent(
        z, bias, loadings, run.first_row, run.n_rows, run.data, tuple(chart.shape), chart.gain,
        chart.active, chart.bounds, family.noise_std**-2.0, max_steps, tol, objective,
        hessian,
    )  # fmt: skip
    return z, objective, hessian


def misfit(points: np.ndarray, sequences: PackedSequences, family: Family) -> np.ndarray:
    """Weighted squared residuals (n_sequences, n_points) of every sequence at every shared point.

    Where no sequence has inputs of its own the points are simulated once, and the misfit is three matrix
    products; otherwise every pair is simulated.
    """
    chart = family.chart
    psi = natural_parameters(family, points)
    precision = family.noise_std**-2.0
    n_sequences, n_points = len(sequences.labels), len(points)
    longest = int(np.argmax(np.diff(sequences.offsets)))
    if chart.gain or not inputs_are_shared(sequences, longest):
        run = evaluations(sequences, repeats=n_points)
        squared = squared_residuals(np.tile(psi, (n_sequences, 1)), run, chart)
        return (squared @ precision).reshape(n_sequences, n_points)
    run = evaluations(sequences, repeats=n_points, index=np.array([longest]))
    yhat = predicted_outputs(psi, run, chart)[0].reshape(n_points, -1)
    return _shared_misfit(yhat, sequences, precision, run.n_rows[0])


def inputs_are_shared(sequences: PackedSequences, longest: int) -> bool:
    """Whether the inputs of every sequence are the first rows of the longest sequence's inputs."""
    if not np.any(sequences.inputs):
        return True
    reference = sequences.inputs[sequences.offsets[longest] : sequences.offsets[longest + 1]]
    within = np.arange(len(sequences.inputs)) - np.repeat(
        sequences.offsets[:-1], np.diff(sequences.offsets)
    )
    return bool(np.array_equal(sequences.inputs, reference[within]))


def _shared_misfit(yhat, sequences, precision, n_rows) -> np.ndarray:
    """sum w y^2 - 2 sum w y f + sum w f^2 with the weights w = observed / noise variance."""
    n_sequences, p = len(sequences.labels), len(precision)
    lengths = np.diff(sequences.offsets)
    rows = np.repeat(np.arange(n_sequences), lengths)
    within = np.arange(len(sequences.outputs)) - np.repeat(sequences.offsets[:-1], lengths)
    weight = np.zeros((n_sequences, n_rows, p))
    weighted = np.zeros_like(weight)
    weight[rows, within] = sequences.observed * precision
    weighted[rows, within] = sequences.outputs * weight[rows, within]
    total = np.add.reduceat(
        np.sum(sequences.outputs**2 * sequences.observed * precision, axis=1), sequences.offsets[:-1]
    )
    weight, weighted = weight.reshape(n_sequences, -1), weighted.reshape(n_sequences, -1)
    return total[:, None] - 2.0 * weighted @ yhat.T + weight @ (yhat**2).T


def best_starts(points: np.ndarray, misfits: np.ndarray, per_temperature: int) -> np.ndarray:
    """Best points (n_sequences, n_starts, k) of each sequence at every temperature."""
    penalty = 0.5 * np.sum(points**2, axis=1)
    starts = []
    for temperature in TEMPERATURES:
        cost = 0.5 * misfits / temperature + penalty
        starts.append(np.argpartition(cost, per_temperature - 1, axis=1)[:, :per_temperature])
    return points[np.concatenate(starts, axis=1)]


def laplace(z: np.ndarray, hessian: np.ndarray) -> TaskPosterior:
    """Gaussian with the given modes and precisions."""
    return TaskPosterior(z, np.linalg.cholesky(np.linalg.inv(hessian)))


def expected_log_likelihood(
    posterior: TaskPosterior, sequences: PackedSequences, family: Family
) -> np.ndarray:
    """E_q log p(y_i | z_i) of every sequence by cubature, in nats."""
    points = cubature_points(posterior)
    n, n_points, k = points.shape
    psi = natural_parameters(family, points.reshape(n * n_points, k))
    run = evaluations(sequences, repeats=n_points)
    values = log_likelihood(psi, run, family.chart, family.noise_std)
    return values.reshape(n, n_points).mean(axis=1)


def sequence_bounds(
    posterior: TaskPosterior, sequences: PackedSequences, family: Family
) -> np.ndarray:
    """Lower bound of log p(y_i) of every sequence: E_q log p(y_i | z_i) - KL(q_i || p)."""
    return expected_log_likelihood(posterior, sequences, family) - divergence(posterior)


def e_step(
    sequences: PackedSequences,
    family: Family,
    posterior: TaskPosterior,
    points: np.ndarray | None = None,
) -> TaskPosterior:
    """New posteriors; a sequence keeps its old one where the new one would lower its bound.

    With `points`, shared quasi-random prior points (n_points, k), every sequence also starts from
    the best of them.
    """
    n, k = posterior.mean.shape
    if k == 0:
        return posterior
    if points is None:
        z, _, hessian = climb(posterior.mean, evaluations(sequences), family, TRACK_STEPS)
    else:
        z, hessian = _search(sequences, family, posterior, points)
    proposal = laplace(z, hessian)
    better = sequence_bounds(proposal, sequences, family) > sequence_bounds(
        posterior, sequences, family
    )
    return select(posterior, proposal, better)


def _search(sequences, family, posterior, points) -> tuple:
    """Best mode of each sequence over its starts, and the Gauss-Newton matrix there."""
    n, k = posterior.mean.shape
    starts = best_starts(points, misfit(points, sequences, family), STARTS_PER_TEMPERATURE)
    starts = np.concatenate([posterior.mean[:, None, :], starts], axis=1)
    run = evaluations(sequences, repeats=starts.shape[1])
    z, objective, _ = climb(starts.reshape(-1, k), run, family, SEARCH_STEPS, SEARCH_TOLERANCE)
    best = np.argmax(objective.reshape(n, -1), axis=1)
    z = z.reshape(n, -1, k)[np.arange(n), best]
    z, _, hessian = climb(z, evaluations(sequences), family, TRACK_STEPS)
    return z, hessian
