"""Forecasts at a fixed horizon: row t from the outputs up to row t - h, for every t in one pass.

The posterior after c rows serves the rows after it as well: its particles are re-weighted by the
likelihood of each new row, as long as their effective sample size allows; then a new posterior is
inferred, starting from the weighted particles. So a sequence of T rows costs a few posteriors.
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import (
    PackedSequences,
    frozen,
    select_sequences,
    truncate_sequences,
)
from mtds_sklearn.inference._adaptive_is import infer
from mtds_sklearn.inference._disturbance import (
    at_horizon,
    gap_weights,
    places,
    variances_at_horizon,
    with_gap_weights,
)
from mtds_sklearn.inference._draws import Draws
from mtds_sklearn.inference._forecast import (
    chunks,
    join_forecasts,
    noise_variances,
    run_through,
    start_run,
)
from mtds_sklearn.inference._image import Image
from mtds_sklearn.inference._levels import with_levels
from mtds_sklearn.inference._mixture import effective_sample_size
from mtds_sklearn.inference._mixture_rows import Forecast, MixtureRows, mixture_forecast
from mtds_sklearn.inference._target import particle_parameters
from mtds_sklearn.model._noise import noise_factor
from mtds_sklearn.model._task_map import Family

# Share of the draws that must stay effective before a posterior is inferred afresh.
REFRESH_SHARE = 0.25
# Values (row, output, particle) of all sequences that are held at a time, at most.
CHUNK_VALUES = 3_000_000
# Rows beyond the known ones that a posterior is tried on; or as many as are known, if that is more.
LOOK_AHEAD = 8


class Ahead(NamedTuple):
    """What particles say of the rows after those that are known of each sequence.

    Attributes
    ----------
    yhat : ndarray of shape (n_rows, n_outputs, n_particles)
        At the horizon.
    variance : ndarray of shape (n_rows, n_outputs, n_particles) or (n_rows, n_outputs, 1)
    offsets : ndarray of int, shape (n_sequences + 1,)
        Of these rows.
    log_weights : ndarray of shape (n_rows + n_sequences, n_particles)
        Of each sequence after 0, 1, ... of its rows, sequences below each other.
    """

    yhat: np.ndarray
    variance: np.ndarray
    offsets: np.ndarray
    log_weights: np.ndarray


def forecast_at_horizon(
    sequences: PackedSequences,
    family: Family,
    draws: Draws,
    horizon: int,
    levels: np.ndarray,
    targets: np.ndarray | None,
    image: Image | None = None,
) -> Forecast:
    """Forecast packed row t of every sequence from what is observed up to row t - horizon.

    `levels`, `targets` and `image` as in `forecast_rows`.
    """
    if targets is None:
        targets = np.full(sequences.outputs.shape, np.nan)
    parts = []
    for index in chunks(sequences, CHUNK_VALUES // len(draws.points)):
        rows = slice(sequences.offsets[index[0]], sequences.offsets[index[-1] + 1])
        part = select_sequences(sequences, index)
        parts.append(_forecast(part, family, draws, horizon, levels, targets[rows], image))
    return join_forecasts(parts)


def _forecast(sequences, family, draws, horizon, levels, targets, image) -> Forecast:
    lengths, shape = np.diff(sequences.offsets), targets.shape
    out = Forecast(
        np.empty(shape), np.empty(shape), np.empty((*shape, len(levels))), np.empty(shape)
    )
    active, known, near = np.arange(len(lengths)), np.zeros(len(lengths), dtype=np.int64), None
    while len(active):
        part = select_sequences(sequences, active)
        posterior = infer(_known_part(part, known), family, draws, near)
        ahead = _look_ahead(part, posterior, known, horizon, family)
        served = _served(ahead, horizon)
        rows, which = _rows_served(ahead, known, served, horizon)
        mixtures = MixtureRows(
            ahead.yhat[rows], ahead.variance[rows], np.exp(ahead.log_weights), which
        )
        n_ahead, first = np.diff(ahead.offsets), ahead.offsets[:-1]
        at = rows + np.repeat(sequences.offsets[active] + known - first, n_ahead)[rows]
        for whole, piece in zip(
            out, mixture_forecast(mixtures, levels, targets[at], image), strict=True
        ):
            whole[at] = piece
        log_weights = ahead.log_weights[_first_weights(ahead) + np.minimum(served, n_ahead)]
        known = known + served
        go = known + horizon - 1 < lengths[active]
        active, known, near = active[go], known[go], (posterior.z[go], log_weights[go])
    return out


def _first_weights(ahead: Ahead) -> np.ndarray:
    """Where the log weights of each sequence begin."""
    return ahead.offsets[:-1] + np.arange(len(ahead.offsets) - 1)


def _rows_served(ahead: Ahead, known: np.ndarray, served: np.ndarray, horizon: int) -> tuple:
    """Rows ahead that the first `served` posteriors of each sequence forecast, and their weights.

    The first posterior, of no row, serves the first `horizon` rows alike.
    """
    owner, t = places(ahead.offsets)
    begin = np.where(known == 0, 0, horizon - 1)[owner]
    rows = np.flatnonzero((t >= begin) & (t < served[owner] + horizon - 1))
    after = np.maximum(t[rows] - horizon + 1, 0)
    return rows, _first_weights(ahead)[owner[rows]] + after


def _known_part(sequences: PackedSequences, known: np.ndarray) -> PackedSequences:
    """The first `known` rows of every sequence; one row with nothing observed if there are none."""
    kept = truncate_sequences(sequences, np.maximum(known, 1))
    hide = np.repeat(known == 0, np.diff(kept.offsets))[:, None]
    return kept._replace(
        observed=frozen(kept.observed & ~hide), outputs=frozen(np.where(hide, 0.0, kept.outputs))
    )


def _look_ahead(sequences, posterior, known, horizon, family) -> Ahead:
    n_ahead = np.maximum(LOOK_AHEAD, known) + horizon
    lengths = np.minimum(known + n_ahead, np.diff(sequences.offsets))
    part = with_gap_weights(truncate_sequences(sequences, lengths), family)
    psi = particle_parameters(family, np.swapaxes(posterior.z, 1, 2))
    psi = with_levels(psi, _known_part(sequences, known), family)
    yhat, _ = run_through(start_run(psi, family.chart, family.growth), part, skip=known)
    owner, within = places(part.offsets)
    rows = np.flatnonzero(within >= known[owner])
    offsets = np.concatenate([[0], np.cumsum(lengths - known)])
    variance = noise_variances(psi, family.noise_std)[owner[rows]]
    certain = variance * noise_factor(family.growth, yhat)
    data = (part.outputs[rows], gap_weights(part, family)[rows])
    after = _weights_after(posterior.log_weights, yhat, certain, data, offsets)
    if family.chart.gain:
        innovations = np.where(
            part.observed[rows, :, None], part.outputs[rows, :, None] - yhat, 0.0
        )
        yhat = at_horizon(yhat, innovations, (psi, family.chart), offsets, horizon)
        systems = (psi, posterior.log_weights, family.noise_std, family.chart)
        seen = (part.observed, part.offsets)
        variance += variances_at_horizon(*systems, seen, horizon)[rows, :, None]
    return Ahead(yhat, variance * noise_factor(family.growth, yhat), offsets, after)


def _weights_after(log_weights, yhat, variance, data, offsets) -> np.ndarray:
    """Normalised log weights (n_rows + n_sequences, n_particles) after 0, 1, ... more rows."""
    outputs, weights = data
    gain = np.zeros((len(yhat), log_weights.shape[1]))
    for o, weight in enumerate(weights.T):
        own = variance[:, o]
        error = outputs[:, o, None] - yhat[:, o]
        error *= error
        error *= -0.5 * weight[:, None]
        gain += error / own
        # What is the same for all particles cancels.
        gain -= 0.5 * (weight > 0.0)[:, None] * np.log(own)
    owner, t = places(offsets)
    first = offsets[:-1] + np.arange(len(log_weights))
    log_w = np.empty((len(gain) + len(log_weights), log_weights.shape[1]))
    log_w[first] = log_weights
    for step in range(t.max(initial=-1) + 1):
        rows = np.flatnonzero(t == step)
        to = first[owner[rows]] + step
        log_w[to + 1] = log_w[to] + gain[rows]
    log_w -= log_w.max(axis=1, keepdims=True)
    log_w -= np.log(np.sum(np.exp(log_w), axis=1, keepdims=True))
    return log_w


def _served(ahead: Ahead, horizon: int) -> np.ndarray:
    """How many posteriors (n_sequences,), after 0, 1, ... rows, are served until one is too thin.

    At least one; those of the last `horizon` rows serve no row that is known of.
    """
    n_ahead, first = np.diff(ahead.offsets), _first_weights(ahead)
    n_useful = np.maximum(n_ahead - horizon, 0)
    _, after = places(np.append(first, len(ahead.log_weights)))
    least = REFRESH_SHARE * ahead.log_weights.shape[1]
    thin = (after > 0) & (effective_sample_size(ahead.log_weights) < least)
    number = np.where(thin, after, len(ahead.log_weights))
    return np.minimum(np.minimum.reduceat(number, first), n_useful + 1)
