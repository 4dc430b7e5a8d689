"""What unseen innovations add to the variance of outputs, for families with a gain.

Kernels: `kernels/_gains.py`, where the recursion is derived.
"""

import numpy as np

from mtds_sklearn._sequences import PackedSequences, frozen, value_precision
from mtds_sklearn.inference._mixture import systematic
from mtds_sklearn.kernels import _gains
from mtds_sklearn.model._chart import Chart
from mtds_sklearn.model._lds import LDS, lds_from_natural
from mtds_sklearn.model._noise import noise_factor, with_growth_weights
from mtds_sklearn.model._task_map import Family, natural_parameters

# The variance depends so little on the particle that its mean over these many stands for all.
N_SYSTEMS = 64


def unseen_variances(
    psi: np.ndarray,
    share: np.ndarray,
    noise_std: np.ndarray,
    chart: Chart,
    rows: tuple,
    later: int = 0,
) -> np.ndarray:
    """Variances (n_rows, n_outputs) that unseen innovations add, averaged over some systems.

    What is not seen before a row adds G P G' to the outputs `later` rows after it, G = C A^later.

    Parameters
    ----------
    psi : ndarray of shape (n_sequences, n_systems, n_natural)
    share : ndarray of shape (n_sequences, n_systems)
        Weights of the systems, which sum to one for each sequence.
    noise_std : ndarray of shape (n_sequences, n_outputs)
    rows : tuple of observed (n_rows, n_outputs) and offsets (n_sequences + 1,)
    later : int, default=0
    """
    observed, offsets = (frozen(array) for array in rows)  # one kind of array for the kernel
    n, n_systems, _ = psi.shape
    lds = lds_from_natural(psi.reshape(n * n_systems, -1), chart.shape)
    variance = (noise_std[:, None] * np.exp(psi[..., -1:])) ** 2
    out = np.zeros(observed.shape)
    spans = (np.repeat(offsets[:-1], n_systems), np.repeat(np.diff(offsets), n_systems))
    systems = (*_matrices(lds), lds.C @ np.linalg.matrix_power(lds.A, later))
    _gains.accumulated_variances(
        systems, variance.reshape(n * n_systems, -1), share.ravel(), (*spans, observed), out
    )
    return out


def _matrices(lds: LDS) -> tuple:
    return lds.A, lds.A @ lds.K, np.ascontiguousarray(lds.C)


def spread_systems(psi: np.ndarray, log_weights: np.ndarray) -> tuple:
    """N_SYSTEMS of the particles (n_sequences, n_natural, n_particles), by systematic resampling.

    Returns their psi (n_sequences, N_SYSTEMS, n_natural) and equal shares.
    """
    picks = systematic(np.exp(log_weights), N_SYSTEMS)
    chosen = np.swapaxes(np.take_along_axis(psi, picks[:, None], axis=2), 1, 2)
    return chosen, np.full(chosen.shape[:2], 1.0 / N_SYSTEMS)


def with_gap_weights(sequences: PackedSequences, family: Family) -> PackedSequences:
    """The sequences, values after gaps weighted by R / (R + C P C') of the family's mean system.

    And by their growth of noise, if there is one.

    What the recursion predicts after a gap is less certain than what it predicts without; a weight
    that all sequences take from one system depends on what is observed and on nothing else.
    """
    sequences = with_growth_weights(sequences, family.growth)
    if not family.chart.gain or not sequences.observed.any():
        return sequences
    n = len(sequences.labels)
    mean = natural_parameters(family, np.zeros((1, family.loadings.shape[1])))
    psi, noise = np.repeat(mean[None], n, axis=0), np.tile(family.noise_std, (n, 1))
    rows = (sequences.observed, sequences.offsets)
    added = unseen_variances(psi, np.ones((n, 1)), noise, family.chart, rows)
    variance = family.noise_std**2 * np.exp(2.0 * mean[0, -1])
    weights = np.where(sequences.observed, variance / (variance + added), 0.0)
    if family.growth is not None:  # the innovations before the gap were as large as those after
        weights *= sequences.precision
    return sequences._replace(precision=frozen(weights))


def gap_weights(sequences: PackedSequences, family: Family) -> np.ndarray:
    """Weights (n_rows, n_outputs) of gaps alone, of sequences `with_gap_weights`."""
    return value_precision(sequences) * noise_factor(family.growth, sequences.outputs)


def after(sequences: PackedSequences, before: np.ndarray | None) -> tuple:
    """What is observed and offsets, as `rows` of the functions above and below.

    With `before` (n_before, n_outputs), what was observed of the one sequence, it comes first: what
    was not leaves the state that it hands on uncertain.
    """
    if before is None or before.all():
        return sequences.observed, sequences.offsets
    observed = np.concatenate([before, sequences.observed])
    return observed, np.array([0, len(observed)])


def drive_paths(noise: np.ndarray, psi: np.ndarray, chart: Chart, rows: tuple) -> np.ndarray:
    """Sampled noise (n_rows, n_outputs, n_paths) with what it does to later outputs, in place.

    psi (n_sequences, n_natural, n_paths) belongs to the paths; rows as in `unseen_variances`.
    """
    observed, offsets = (frozen(array) for array in rows)  # one kind of array for the kernel
    lds = lds_from_natural(np.swapaxes(psi, 1, 2), chart.shape)
    _gains.drive_states(_matrices(lds), (offsets[:-1], np.diff(offsets), observed), noise)
    return noise


def at_horizon(
    yhat: np.ndarray, innovations: np.ndarray, run: tuple, offsets: np.ndarray, horizon: int
) -> np.ndarray:
    """One-step forecasts turned into forecasts at a horizon.

    The state that has not seen the last h - 1 innovations lacks what they fed in:

        yhat_t(h) = yhat_t(1) - sum_{j=1}^{h-1} C A^j K e_{t-j}.

    Parameters
    ----------
    yhat, innovations : ndarray of shape (n_rows, n_outputs, n_particles)
        Innovations are 0 where nothing is observed. Rows before the first of each sequence are
        taken for known.
    run : tuple of psi (n_sequences, n_natural, n_particles) and chart
    offsets : ndarray of int, shape (n_sequences + 1,)
    """
    psi, chart = run
    lds = lds_from_natural(np.swapaxes(psi, 1, 2), chart.shape)
    owner, within = places(offsets)
    yhat, response = yhat.copy(), lds.A @ lds.K
    for j in range(1, min(horizon, within.max(initial=0) + 1)):
        late = np.flatnonzero(within >= j)
        echo = (lds.C @ response)[owner[late]]
        yhat[late] -= np.einsum("tsop,tps->tos", echo, innovations[late - j])
        response = lds.A @ response
    return yhat


def places(offsets: np.ndarray) -> tuple:
    """The sequence of each row, and its number within the sequence."""
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return owner, np.arange(offsets[-1]) - offsets[owner]


def variances_at_horizon(
    psi: np.ndarray,
    log_weights: np.ndarray,
    noise_std: np.ndarray,
    chart: Chart,
    rows: tuple,
    horizon: int,
) -> np.ndarray:
    """What the innovations that a forecast at a horizon has not seen add to its variances.

    Those of the last h - 1 rows, and those that were missing before (P as in `kernels/_gains.py`):

        sum_{j=1}^{h-1} C A^j K R K' A'^j C' + G P_{t-h+1} G',   G = C A^{h-1}.

    Parameters
    ----------
    psi : ndarray of shape (n_sequences, n_natural, n_particles)
    log_weights : ndarray of shape (n_sequences, n_particles)
    noise_std : ndarray of shape (n_outputs,)
    rows : tuple of observed (n_rows, n_outputs) and offsets (n_sequences + 1,)
        From the first rows of the sequences on.

    Returns
    -------
    added : ndarray of shape (n_rows, n_outputs)
    """
    observed, offsets = rows
    noise_std = np.broadcast_to(noise_std, (len(psi), len(noise_std)))
    setting = (*spread_systems(psi, log_weights), noise_std, chart)
    owner, within = places(offsets)
    last = unseen_variances(*setting, (np.zeros_like(observed), offsets))
    added = last[offsets[owner] + np.minimum(within, horizon - 1)]
    missing = unseen_variances(*setting, (observed, offsets), later=horizon - 1)
    late = np.flatnonzero(within >= horizon - 1)
    added[late] += missing[late - horizon + 1]
    return added
