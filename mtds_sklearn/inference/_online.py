"""One sequence whose rows arrive one after the other: weights and states carried along.

For a fixed particle the state is deterministic, so that a new row costs one step per particle. When
the weights have become too uneven, the posterior is inferred afresh from all rows so far, starting
near where the particles are.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from mtds_sklearn import _kernels
from mtds_sklearn._sequences import PackedSequences, frozen, select_sequences
from mtds_sklearn.inference._adaptive_is import (
    N_COMPONENTS,
    Draws,
    effective_sample_size,
    infer,
)
from mtds_sklearn.inference._forecast import Particles
from mtds_sklearn.inference._mixture import systematic
from mtds_sklearn.model._lds import kind_slices
from mtds_sklearn.model._likelihood import LOG_2PI, particle_outputs
from mtds_sklearn.model._task_map import Family, natural_parameters

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
    log_evidence, ess : float
    psi : ndarray of shape (n_draws, n_natural)
    states : ndarray of shape (n_draws, n_states)
        Handed to the next row.
    """

    history: PackedSequences
    z: np.ndarray
    log_weights: np.ndarray
    log_evidence: float
    ess: float
    psi: np.ndarray
    states: np.ndarray


def start_online(sequences: PackedSequences, family: Family, draws: Draws, starts=None) -> list:
    """Infer the posterior of every sequence, and the state of every particle after the last row."""
    posterior = infer(sequences, family, draws, starts)
    psi = natural_parameters(family, posterior.z)
    _, states = particle_outputs(psi, sequences, family.chart)
    return [
        Online(
            select_sequences(sequences, [i]), posterior.z[i], posterior.log_weights[i],
            float(posterior.log_evidence[i]), float(posterior.ess[i]), psi[i], states[i],
        )
        for i in range(len(sequences.labels))
    ]  # fmt: skip


def extend(online: Online, family: Family, draws: Draws, rows: PackedSequences) -> Online:
    """The posterior after more rows of the sequence (packed as one sequence)."""
    chart = family.chart
    states = online.states.copy()
    yhat = np.empty((len(states), chart.shape.n_outputs))
    log_w = online.log_weights.copy()
    data = (rows.inputs, rows.outputs, rows.observed)
    std = np.exp(online.psi[:, -1:]) * family.noise_std
    log_std = np.log(std)
    for row in range(len(rows.inputs)):
        _kernels.advance_states(online.psi, states, row, data, tuple(chart.shape), chart.gain, yhat)
        step = -0.5 * (((rows.outputs[row] - yhat) / std) ** 2 + LOG_2PI) - log_std
        log_w += step @ rows.observed[row].astype(np.float64)
    total = logsumexp(log_w)
    history = _join(online.history, rows)
    ess = float(effective_sample_size(log_w))
    if ess < REFRESH_SHARE * len(log_w):
        weights = np.exp(log_w - total)[None]
        starts = online.z[systematic(weights, N_COMPONENTS)[0]][None]
        return start_online(history, family, draws, starts)[0]
    evidence = float(online.log_evidence + total)
    return Online(history, online.z, log_w - total, evidence, ess, online.psi, states)


def _join(first: PackedSequences, second: PackedSequences) -> PackedSequences:
    """One sequence made of two pieces."""
    n_rows = len(first.inputs) + len(second.inputs)
    return first._replace(
        inputs=frozen(np.concatenate([first.inputs, second.inputs])),
        outputs=frozen(np.concatenate([first.outputs, second.outputs])),
        observed=frozen(np.concatenate([first.observed, second.observed])),
        offsets=frozen(np.array([0, n_rows])),
        row_order=frozen(np.arange(n_rows)),
    )


def future_particles(online: Online, family: Family) -> Particles:
    """Particles of the rows to come: x0 is the state handed to the next row."""
    psi = online.psi.copy()
    psi[:, kind_slices(family.chart.shape)["x0"]] = online.states
    return Particles(psi[None], online.log_weights[None], family.noise_std[None], family.chart)
