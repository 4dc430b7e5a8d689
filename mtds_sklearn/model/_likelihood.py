"""What the model says of data: predicted outputs, the Gaussian log density, its derivatives.

The log density of the observed values of a sequence stands here once:

    log p(y | psi) = -1/2 sum_o [ sum_t w_to (y_to - yhat_to)^2 / (s sigma_o)^2
                                  + n_o (log 2 pi + 2 log sigma_o + 2 log s) - sum_t log w_to ]

with n_o observed values of output o, noise_std sigma, weights w (1 unless a gap before makes a
value less certain), and the sequence's noise level s = exp(psi[-1]). With `noise_dof` nu finite
the level is not known: s^2 ~ inverse gamma(nu / 2, nu / 2) is integrated out, which leaves a
Student t density of all values of the sequence together,

    log p(y | psi) = log Gamma((nu + n) / 2) - log Gamma(nu / 2) - n/2 log(nu pi)
                     - sum_o n_o log sigma_o + 1/2 sum log w - (nu + n)/2 log(1 + Q / nu),

with n values in all and Q the sum of weighted squares above at s = exp(psi[-1]) (Lange, Little &
Taylor, J. Am. Stat. Assoc. 84, 1989).
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from mtds_sklearn._sequences import (
    PackedSequences,
    observed_counts,
    value_precision,
)
from mtds_sklearn._threads import run_split
from mtds_sklearn.kernels import _forward, _sensitivities, _together
from mtds_sklearn.model._chart import Chart
from mtds_sklearn.model._lds import is_modal
from mtds_sklearn.model._normal import normal_entries

LOG_2PI = float(np.log(2.0 * np.pi))
# No sum of squares is larger. Where innovations that are fed back grow without bound, thousands of
# rows would leave infinity, and then NaN: such parameters are as good as impossible, no more.
MOST_SQUARED = 1e100


def hold(values: np.ndarray) -> np.ndarray:
    """Keep outputs or states, in place, where their squares are at most MOST_SQUARED."""
    most = MOST_SQUARED**0.5  # NaN, which infinities leave, is none of the smaller numbers
    return np.fmax(np.fmin(values, most, out=values), -most, out=values)


class Evaluations(NamedTuple):
    """Pairs of a sequence and a parameter vector, as the kernels want them.

    Attributes
    ----------
    first_row, n_rows : ndarray of int64, shape (n_evaluations,)
        Packed rows first_row to first_row + n_rows - 1 are the sequence.
    data : tuple of (inputs, outputs, weights)
        Of all packed rows; see `PackedSequences`.
    n_observed : ndarray of shape (n_evaluations, n_outputs)
        Number of observed values.
    log_weight : ndarray of shape (n_evaluations,)
        1/2 sum log w over the observed values.
    """

    first_row: np.ndarray
    n_rows: np.ndarray
    data: tuple
    n_observed: np.ndarray
    log_weight: np.ndarray


def lengths_of(sequences: PackedSequences) -> np.ndarray:
    """Number (n_sequences,) of rows; `np.diff` takes several times as long."""
    return sequences.offsets[1:] - sequences.offsets[:-1]


def evaluations(
    sequences: PackedSequences, repeats: int = 1, index: np.ndarray | None = None
) -> Evaluations:
    """Evaluate each sequence (or those of `index`) `repeats` times in a row."""
    lengths = lengths_of(sequences)
    if index is None:
        index = np.arange(len(lengths))
    index = np.repeat(index, repeats)
    data = (sequences.inputs, sequences.outputs, value_precision(sequences))
    counts, weights = observed_counts(sequences)[index], log_weights(sequences)[index]
    return Evaluations(sequences.offsets[index], lengths[index], data, counts, weights)


def select_evaluations(run: Evaluations, index: np.ndarray) -> Evaluations:
    """Some of the evaluations, in the given order."""
    parts = (run.first_row[index], run.n_rows[index], run.data)
    return Evaluations(*parts, run.n_observed[index], run.log_weight[index])


def log_weights(sequences: PackedSequences) -> np.ndarray:
    """1/2 sum log w (n_sequences,) over the observed values of each sequence."""
    if sequences.precision is None:
        return np.zeros(len(sequences.labels))
    logs = np.log(np.where(sequences.observed, sequences.precision, 1.0)).sum(axis=1)
    return 0.5 * np.add.reduceat(logs, sequences.offsets[:-1])


def gaussian_log_density(
    squared: np.ndarray,
    n_observed: np.ndarray,
    noise_std: np.ndarray,
    log_level: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Log density (...) of squared residuals (..., n_outputs), in nats.

    Parameters
    ----------
    squared, n_observed : ndarray of shape (..., n_outputs)
        Sums of squared residuals, and how many values each sum is of.
    noise_std : ndarray of shape (n_outputs,)
    log_level : ndarray of shape (...) or float
        Log noise level of each sequence.
    """
    return gaussian_density_of(squared @ noise_std**-2.0, n_observed, noise_std, log_level)


def gaussian_density_of(
    total: np.ndarray,
    n_observed: np.ndarray,
    noise_std: np.ndarray,
    log_level: np.ndarray | float = 0.0,
) -> np.ndarray:
    """As `gaussian_log_density` of sums (...) over all outputs, in units of noise_std."""
    constant = n_observed @ (LOG_2PI + 2.0 * np.log(noise_std))
    n = 2.0 * np.sum(n_observed, axis=-1)
    return -0.5 * (total * np.exp(-2.0 * log_level) + constant + n * log_level)


def student_log_density(
    squared: np.ndarray, n_observed: np.ndarray, noise_std: np.ndarray, dof: float
) -> np.ndarray:
    """As `gaussian_log_density`, the noise level of each sequence integrated out.

    `dof` is nu of its prior, s^2 ~ inverse gamma(nu / 2, nu / 2); inf leaves the level at 1.
    """
    return student_density_of(squared @ noise_std**-2.0, n_observed, noise_std, dof)


def student_density_of(
    total: np.ndarray, n_observed: np.ndarray, noise_std: np.ndarray, dof: float
) -> np.ndarray:
    """As `student_log_density` of sums (...) over all outputs, in units of noise_std."""
    if np.isinf(dof):
        return gaussian_density_of(total, n_observed, noise_std)
    n = np.sum(n_observed, axis=-1)
    return (
        gammaln(0.5 * (dof + n)) - gammaln(0.5 * dof) - 0.5 * n * np.log(dof * np.pi)
        - n_observed @ np.log(noise_std) - 0.5 * (dof + n) * np.log1p(total / dof)
    )  # fmt: skip


def level_weights(
    squared: np.ndarray, n_observed: np.ndarray, noise_std: np.ndarray, dof: float
) -> np.ndarray:
    """E[1 / s^2 | y] (...) = (nu + n) / (nu + Q) of each sequence, by which its values count."""
    if np.isinf(dof):
        return np.ones(squared.shape[:-1])
    total = np.sum(squared / noise_std**2, axis=-1)
    return (dof + np.sum(n_observed, axis=-1)) / (dof + total)


def squared_residuals(psi: np.ndarray, run: Evaluations, chart: Chart) -> np.ndarray:
    """Sums (n_evaluations, n_outputs) of weighted squares, psi (n_evaluations, n_natural)."""
    out, shape = np.empty((len(psi), chart.shape.n_outputs)), tuple(chart.shape)

    def some(part: slice) -> None:
        rows = (run.first_row[part], run.n_rows[part])
        _forward.squared_residuals(psi[part], *rows, run.data, shape, chart.gain, out[part])

    run_split(some, len(psi), float(run.n_rows.sum()) * row_work(chart))
    return np.fmin(out, MOST_SQUARED)


def row_work(chart: Chart) -> float:
    """Multiplications of one row, roughly."""
    n, m, p, block = chart.shape
    return n * (min(block, n) + m + p) + p * (n + m)


def log_likelihood(
    psi: np.ndarray, run: Evaluations, chart: Chart, noise_std: np.ndarray
) -> np.ndarray:
    """log p(y | psi) (n_evaluations,) of psi (n_evaluations, n_natural), in nats."""
    squared = squared_residuals(psi, run, chart)
    density = gaussian_log_density(squared, run.n_observed, noise_std, psi[:, -1])
    return density + run.log_weight


def predicted_outputs(psi: np.ndarray, run: Evaluations, chart: Chart) -> tuple:
    """Predicted outputs of the evaluations one after the other, and the states they hand on.

    Parameters
    ----------
    psi : ndarray of shape (n_evaluations, n_natural)

    Returns
    -------
    yhat : ndarray of shape (sum of n_rows, n_outputs)
    states : ndarray of shape (n_evaluations, n_states)
    """
    start = np.concatenate([[0], np.cumsum(run.n_rows)])
    yhat = np.empty((start[-1], chart.shape.n_outputs))
    states = np.empty((len(psi), chart.shape.n_states))
    _forward.simulate(
        psi, run.first_row, run.n_rows, start, run.data, tuple(chart.shape), chart.gain,
        yhat, states,
    )  # fmt: skip
    return yhat, states


class ThetaQuantities(NamedTuple):
    """Per evaluation: squared residuals, gradient and Gauss-Newton matrix in the active entries.

    Of matrices those entries are stored that `normal_entries` names: half of the numbers to add
    up, or a tenth, where outputs are many.

    Attributes
    ----------
    squared : ndarray of shape (n_evaluations, n_outputs)
        Not multiplied by the weight of the evaluation.
    gradient : ndarray of shape (n_evaluations, n_active)
    normal : ndarray of shape (n_evaluations, n_normal)
    """

    squared: np.ndarray
    gradient: np.ndarray
    normal: np.ndarray


def theta_quantities(
    psi: np.ndarray,
    run: Evaluations,
    chart: Chart,
    noise_std: np.ndarray,
    weight: np.ndarray | None = None,
) -> ThetaQuantities:
    """Gradient and Gauss-Newton matrix of log p(y | psi) in the active entries.

    Each evaluation's are multiplied by its weight (n_evaluations,), one if None.
    """
    count, n_active = len(psi), len(chart.active)
    out = ThetaQuantities(
        np.empty((count, chart.shape.n_outputs)),
        np.empty((count, n_active)),
        np.empty((count, len(normal_entries(chart)[0]))),
    )
    weight = np.ones(count) if weight is None else weight
    shape, entries = tuple(chart.shape), (chart.active, chart.bounds, noise_std**-2.0)
    together = are_fewer_together(chart) and weigh_alike(run)

    def some(part: slice) -> None:
        rows, parts = (run.first_row[part], run.n_rows[part], weight[part]), [a[part] for a in out]
        given = (psi[part], *rows, run.data, shape)
        if together:
            _together.gauss_newton_together(*given, *entries, *parts)
        else:
            _sensitivities.gauss_newton_theta(*given, chart.gain, *entries, *parts)

    run_split(some, count, sensitivity_work(run, chart))
    return out


def are_fewer_together(chart: Chart) -> bool:
    """Whether products summed for all outputs together are fewer than for each (`_together`)."""
    n, m, p, _ = chart.shape
    if chart.gain or not is_modal(chart.shape) or p < 3:
        return False
    n_dynamic, n_own = chart.bounds[3], (chart.bounds[7] - chart.bounds[4]) / p
    return (2 * n_dynamic + n + m + 1 + p) ** 2 < p * (n_dynamic + n_own) ** 2


def weigh_alike(run: Evaluations) -> bool:
    """Whether all outputs of a row have the same weight, in all rows."""
    weights = run.data[2]
    return bool(np.array_equal(weights[:, 1:], weights[:, :-1]))


def sensitivity_work(run: Evaluations, chart: Chart) -> float:
    """Multiplications of the sensitivities of all evaluations and their squares, roughly."""
    n_active = len(chart.active)
    row = row_work(chart) + n_active * (2.0 * chart.shape.block + chart.shape.n_outputs * n_active)
    return float(run.n_rows.sum()) * row
