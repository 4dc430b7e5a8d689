"""One sequence whose rows arrive one after the other: weights and states carried along.

For a fixed particle the state is deterministic, so that a new row costs one step per particle. When
the weights have become too uneven, a new posterior is inferred from all rows so far, starting from
the weighted particles.
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import PackedSequences, frozen, select_sequences
from mtds_sklearn.inference._adaptive_is import infer
from mtds_sklearn.inference._disturbance import gap_weights, with_gap_weights
from mtds_sklearn.inference._draws import Draws
from mtds_sklearn.inference._forecast import Run, noise_variances, run_through, start_run
from mtds_sklearn.inference._levels import with_levels
from mtds_sklearn.inference._target import particle_parameters
from mtds_sklearn.model._likelihood import LOG_2PI
from mtds_sklearn.model._noise import noise_factor
from mtds_sklearn.model._task_map import Family

# Share of the draws that must stay effective before the posterior is inferred afresh.
REFRESH_SHARE = 0.25


class Online(NamedTuple):
    """Everything known of one sequence, standardised.

    Attributes
    ----------
    history : PackedSequences
        The one sequence so far.
    z : ndarray of shape (n_draws, k)
    log_weights : ndarray of shape (n_draws,)
        Normalised.
    log_evidence, ess : float
    run : Run
        The particles of the one sequence, and their states after its last row.
    variance : ndarray of shape (n_outputs, n_draws) or (n_outputs, 1)
        Of the noise of each particle, before it grows with the output.
    """

    history: PackedSequences
    z: np.ndarray
    log_weights: np.ndarray
    log_evidence: float
    ess: float
    run: Run
    variance: np.ndarray


def start_online(sequences: PackedSequences, family: Family, draws: Draws, near=None) -> list:
    """Infer the posterior of every sequence, and the state of every particle after the last row.

    `near` as in `infer`.
    """
    posterior = infer(sequences, family, draws, near)
    psi = particle_parameters(family, np.swapaxes(posterior.z, 1, 2))
    psi, n_rows = with_levels(psi, sequences, family), np.diff(sequences.offsets)
    _, run = run_through(start_run(psi, family.chart, family.growth), sequences, skip=n_rows)
    variance = noise_variances(psi, family.noise_std)
    numbers = zip(posterior.log_evidence.tolist(), posterior.ess.tolist(), strict=True)
    return [
        Online(
            select_sequences(sequences, [i]), posterior.z[i], posterior.log_weights[i], *known,
            Run(*(part[i : i + 1] for part in run[:3]), *run[3:]), variance[i],
        )
        for i, known in enumerate(numbers)
    ]  # fmt: skip


def extend(online: Online, family: Family, draws: Draws, rows: PackedSequences) -> Online:
    """The posterior after more rows of the sequence (packed as one sequence)."""
    yhat, run = run_through(online.run, rows)
    history = _join(online.history, rows)
    if not rows.observed.any():
        return online._replace(history=history, run=run)
    variance = online.variance * noise_factor(family.growth, yhat)
    weights = gap_weights(with_gap_weights(history, family), family)[-len(rows.inputs) :]
    log_w = online.log_weights + _log_densities(yhat, variance, rows, weights)
    top = log_w.max()
    weights = np.exp(log_w - top)
    total = weights.sum()
    log_w -= top + np.log(total)
    ess = float(total**2 / (weights @ weights))
    if ess < REFRESH_SHARE * len(log_w):
        return start_online(history, family, draws, (online.z[None], log_w[None]))[0]
    return online._replace(
        history=history,
        log_weights=log_w,
        log_evidence=float(online.log_evidence + top + np.log(total)),
        ess=ess,
        run=run,
    )


def _log_densities(
    yhat: np.ndarray, variance: np.ndarray, rows: PackedSequences, weights: np.ndarray
) -> np.ndarray:
    """Log densities (n_particles,) of all observed values of the rows together.

    yhat (n_rows, n_outputs, n_particles), the variance that, or with one number for all particles;
    weights (n_rows, n_outputs).
    """
    squares = rows.outputs[..., None] - yhat
    squares *= squares
    precision = weights[..., None] / variance
    squares *= precision  # zero where nothing is observed
    logs = np.log(precision, out=np.full_like(precision, LOG_2PI), where=weights[..., None] > 0.0)
    return 0.5 * ((logs - LOG_2PI).sum(axis=(0, 1)) - squares.sum(axis=(0, 1)))


def _join(first: PackedSequences, second: PackedSequences) -> PackedSequences:
    """One sequence made of two pieces."""
    n_rows = len(first.inputs) + len(second.inputs)
    return first._replace(
        inputs=frozen(np.concatenate([first.inputs, second.inputs])),
        outputs=frozen(np.concatenate([first.outputs, second.outputs])),
        observed=frozen(np.concatenate([first.observed, second.observed])),
        offsets=frozen(np.array([0, n_rows])),
        row_order=frozen(np.arange(n_rows)),
        precision=None,
    )
