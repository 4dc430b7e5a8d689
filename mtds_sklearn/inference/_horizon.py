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
    variances_at_horizon,
    with_gap_weights,
)
from mtds_sklearn.inference._draws import Draws
from mtds_sklearn.inference._forecast import (
    Forecast,
    join_forecasts,
    mixture_forecast,
    noise_variances,
    run_through,
    start_run,
)
from mtds_sklearn.inference._image import Image
from mtds_sklearn.inference._levels import with_levels
from mtds_sklearn.inference._mixture import effective_sample_size
from mtds_sklearn.inference._target import particle_parameters
from mtds_sklearn.model._noise import noise_factor
from mtds_sklearn.model._task_map import Family

# Share of the draws that must stay effective before a posterior is inferred afresh.
REFRESH_SHARE = 0.25
CHUNK_SEQUENCES = 16
# Rows beyond the known ones that a posterior is tried on; or as many as are known, if that is more.
LOOK_AHEAD = 8


class Ahead(NamedTuple):
    """What the particles of one sequence say of the rows after those that are known.

    Attributes
    ----------
    yhat : ndarray of shape (n_ahead, n_outputs, n_particles)
        At the horizon.
    variance : ndarray of shape (n_ahead, n_outputs, n_particles) or (1, n_outputs, n_particles)
    log_weights : ndarray of shape (n_ahead + 1, n_particles)
        After 0, 1, ... of these rows.
    """

    yhat: np.ndarray
    variance: np.ndarray
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
    for first in range(0, len(sequences.labels), CHUNK_SEQUENCES):
        index = np.arange(first, min(first + CHUNK_SEQUENCES, len(sequences.labels)))
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
        log_weights = posterior.log_weights.copy()
        for i, ahead in enumerate(_look_ahead(part, posterior, known, horizon, family)):
            n_served = _served(ahead.log_weights, horizon)
            # The first posterior, of no row, serves the first `horizon` rows alike.
            begin = 0 if known[i] == 0 else horizon - 1
            t = np.arange(begin, min(n_served + horizon - 1, len(ahead.yhat)))
            weights = np.exp(ahead.log_weights[np.maximum(t - horizon + 1, 0)])
            at = sequences.offsets[active[i]] + known[i] + t
            variance = ahead.variance if len(ahead.variance) == 1 else ahead.variance[t]
            mixture = (ahead.yhat[t], weights, variance)
            here = mixture_forecast(*mixture, levels, targets[at], image)
            for whole, piece in zip(out, here, strict=True):
                whole[at] = piece
            known[i] += n_served
            log_weights[i] = ahead.log_weights[min(n_served, len(ahead.yhat))]
        go = known + horizon - 1 < lengths[active]
        active, known, near = active[go], known[go], (posterior.z[go], log_weights[go])
    return out


def _known_part(sequences: PackedSequences, known: np.ndarray) -> PackedSequences:
    """The first `known` rows of every sequence; one row with nothing observed if there are none."""
    kept = truncate_sequences(sequences, np.maximum(known, 1))
    hide = np.repeat(known == 0, np.diff(kept.offsets))[:, None]
    return kept._replace(
        observed=frozen(kept.observed & ~hide), outputs=frozen(np.where(hide, 0.0, kept.outputs))
    )


def _look_ahead(sequences, posterior, known, horizon, family):
    """Yield the `Ahead` of every sequence."""
    n_ahead = np.maximum(LOOK_AHEAD, known) + horizon
    lengths = np.minimum(known + n_ahead, np.diff(sequences.offsets))
    part = with_gap_weights(truncate_sequences(sequences, lengths), family)
    psi = particle_parameters(family, np.swapaxes(posterior.z, 1, 2))
    psi = with_levels(psi, _known_part(sequences, known), family)
    yhat, _ = run_through(start_run(psi, family.chart, family.growth), part, skip=known)
    variance, weights = noise_variances(psi, family.noise_std), gap_weights(part, family)
    ends = np.cumsum(lengths - known)
    for i, end in enumerate(ends):
        rows = slice(part.offsets[i] + known[i], part.offsets[i + 1])
        here, own = yhat[end - (lengths[i] - known[i]) : end], variance[i : i + 1]
        log_weights = posterior.log_weights[i]
        certain = own * noise_factor(family.growth, here)
        after = _weights_after(log_weights, here, certain, (part.outputs[rows], weights[rows]))
        if family.chart.gain:
            innovations = np.where(
                part.observed[rows, :, None], part.outputs[rows, :, None] - here, 0.0
            )
            here = at_horizon(here, innovations, psi[i], family.chart, horizon)
            systems = (psi[i], log_weights, family.noise_std, family.chart)
            seen = part.observed[part.offsets[i] : part.offsets[i + 1]]
            own = own + variances_at_horizon(systems, seen, horizon)[known[i] :, :, None]
        yield Ahead(here, own * noise_factor(family.growth, here), after)


def _weights_after(log_weights, yhat, variance, data) -> np.ndarray:
    """Normalised log weights (n_ahead + 1, n_particles) after 0, 1, ... more rows."""
    outputs, weights = data
    log_w = np.empty((len(yhat) + 1, len(log_weights)))
    log_w[0], log_w[1:] = log_weights, 0.0
    for o, weight in enumerate(weights.T):
        own = variance[:, o]
        error = outputs[:, o, None] - yhat[:, o]
        error *= error
        error *= -0.5 * weight[:, None]
        log_w[1:] += error / own
        # What is the same for all particles cancels.
        log_w[1:] -= 0.5 * (weight > 0.0)[:, None] * np.log(own)
    np.cumsum(log_w, axis=0, out=log_w)
    log_w -= log_w.max(axis=1, keepdims=True)
    log_w -= np.log(np.sum(np.exp(log_w), axis=1, keepdims=True))
    return log_w


def _served(log_weights: np.ndarray, horizon: int) -> int:
    """How many posteriors, after 0, 1, ... more rows, are served until one is too thin."""
    useful = log_weights[1 : max(1, len(log_weights) - horizon)]
    thin = effective_sample_size(useful) < REFRESH_SHARE * log_weights.shape[1]
    return 1 + int(np.argmax(np.append(thin, True)))
