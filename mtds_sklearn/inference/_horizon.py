"""Forecasts at a fixed horizon: row t from the outputs up to row t - h, for every t in one pass.

The posterior after c rows serves the rows after it as well: its particles are re-weighted by the
likelihood of each new row, as long as their effective sample size allows; then the posterior is
inferred afresh. So a sequence of T rows costs a few posteriors, not T.
"""

import numpy as np
from scipy.special import logsumexp

from mtds_sklearn._sequences import PackedSequences, frozen, select_sequences, truncate_sequences
from mtds_sklearn.inference._adaptive_is import Draws, effective_sample_size, infer
from mtds_sklearn.inference._forecast import Forecast, Particles, mixture_forecast
from mtds_sklearn.model._likelihood import LOG_2PI, particle_outputs
from mtds_sklearn.model._task_map import Family, natural_parameters

# Share of the draws that must stay effective before a posterior is inferred afresh.
REFRESH_SHARE = 0.25
CHUNK_SEQUENCES = 20
# Rows beyond the known ones that a posterior is tried on; or as many as are known, if that is more.
LOOK_AHEAD = 8


def forecast_at_horizon(
    sequences: PackedSequences,
    family: Family,
    draws: Draws,
    horizon: int,
    levels: np.ndarray,
    targets: np.ndarray | None,
) -> Forecast:
    """Forecast packed row t of every sequence from what is observed up to row t - horizon."""
    parts = []
    for first in range(0, len(sequences.labels), CHUNK_SEQUENCES):
        index = np.arange(first, min(first + CHUNK_SEQUENCES, len(sequences.labels)))
        part = select_sequences(sequences, index)
        rows = slice(sequences.offsets[index[0]], sequences.offsets[index[-1] + 1])
        wanted = None if targets is None else targets[rows]
        parts.append(_forecast(part, family, draws, horizon, levels, wanted))
    return Forecast(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _forecast(sequences, family, draws, horizon, levels, targets) -> Forecast:
    n_rows, p = sequences.outputs.shape
    if targets is None:
        targets = np.full((n_rows, p), np.nan)
    out = Forecast(
        np.empty((n_rows, p)),
        np.empty((n_rows, p)),
        np.empty((n_rows, p, len(levels))),
        np.empty((n_rows, p)),
    )
    lengths = np.diff(sequences.offsets)
    known = np.zeros(len(lengths), dtype=np.int64)
    active = np.arange(len(lengths))
    while len(active):
        ahead = known[active] + np.maximum(LOOK_AHEAD, known[active]) + horizon
        part = select_sequences(sequences, active)
        part = truncate_sequences(part, np.minimum(ahead, lengths[active]))
        particles = _posterior_after(part, known[active], family, draws)
        yhat, _ = particle_outputs(particles.psi, part, particles.chart)
        for i, task in enumerate(active):
            rows = np.arange(part.offsets[i], part.offsets[i + 1])
            log_w = _weights_after(yhat[rows], particles, i, part, rows, known[task])
            # Posteriors after known, known + 1, ... rows are served until one is too thin.
            log_w = log_w[: max(1, len(rows) - known[task] - horizon + 1)]
            thin = effective_sample_size(log_w) < REFRESH_SHARE * log_w.shape[1]
            served = 1 + int(np.argmax(np.append(thin[1:], True)))
            first = 0 if known[task] == 0 else known[task] + horizon - 1
            t = np.arange(first, min(known[task] + served + horizon - 1, len(rows)))
            after = np.maximum(t - horizon + 1, 0) - known[task]
            at = sequences.offsets[task] + t
            here = mixture_forecast(
                yhat[rows[t]], _reweighted(particles, i, log_w), after, levels, targets[at]
            )
            for whole, piece in zip(out, here, strict=True):
                whole[at] = piece
            known[task] += served
        active = active[known[active] + horizon - 1 < lengths[active]]
    return out


def _posterior_after(sequences, known, family, draws) -> Particles:
    """Particles of every sequence given its first `known` rows."""
    kept = truncate_sequences(sequences, np.maximum(known, 1))
    if np.any(known == 0):
        hide = np.repeat(known == 0, np.diff(kept.offsets))[:, None]
        kept = kept._replace(
            observed=frozen(kept.observed & ~hide),
            outputs=frozen(np.where(hide, 0.0, kept.outputs)),
        )
    posterior = infer(kept, family, draws)
    noise = np.broadcast_to(family.noise_std, (len(known), len(family.noise_std)))
    psi = natural_parameters(family, posterior.z)
    return Particles(psi, posterior.log_weights, noise, family.chart)


def _reweighted(particles: Particles, i: int, log_weights: np.ndarray) -> Particles:
    """Sequence i's particles under several sets of weights (n_prefixes, n_particles)."""
    n = len(log_weights)
    return Particles(
        np.broadcast_to(particles.psi[i], (n, *particles.psi[i].shape)),
        log_weights,
        np.broadcast_to(particles.noise_std[i], (n, particles.noise_std.shape[1])),
        particles.chart,
    )


def _weights_after(yhat, particles, i, sequences, rows, known) -> np.ndarray:
    """Log weights (n_prefixes, n_particles) after known, known + 1, ... rows of sequence i."""
    std = np.exp(particles.psi[i, :, -1:]) * particles.noise_std[i]
    later = rows[known:]
    standard = (sequences.outputs[later][:, None] - yhat[known:]) / std
    step = -0.5 * (standard**2 + LOG_2PI) - np.log(std)
    step = np.sum(np.where(sequences.observed[later][:, None], step, 0.0), axis=2)
    start = particles.log_weights[i]
    log_w = start + np.vstack([np.zeros((1, len(start))), np.cumsum(step, axis=0)])
    return log_w - logsumexp(log_w, axis=1, keepdims=True)
