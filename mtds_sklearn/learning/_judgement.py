"""How well a family forecasts the rest of sequences from their first rows."""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import PackedSequences, frozen, truncate_sequences
from mtds_sklearn.inference._adaptive_is import infer
from mtds_sklearn.inference._draws import Draws
from mtds_sklearn.inference._forecast import forecast_rows, posterior_particles
from mtds_sklearn.model._task_map import Family

# Shares of a sequence from which the rest is forecast.
CONTEXTS = (0.25, 0.5)


class Judgement(NamedTuple):
    """How a family forecasts the rest of sequences from their first rows; those with any rest.

    Attributes
    ----------
    density : ndarray of shape (n_judged,)
        Mean log density per value, in nats.
    surprise : ndarray of shape (n_judged,)
        Mean squared error in units of the forecast's variance: 1 is right.
    """

    density: np.ndarray
    surprise: np.ndarray


def judge(sequences: PackedSequences, family: Family, draws: Draws) -> Judgement:
    """Forecast every sequence from its first quarter and its first half."""
    lengths = np.diff(sequences.offsets)
    density, surprise, count = np.zeros((3, len(lengths)))
    within = np.arange(len(sequences.outputs)) - np.repeat(sequences.offsets[:-1], lengths)
    for share in CONTEXTS:
        n_known = np.maximum((share * lengths).astype(np.int64), 1)
        known = (within < np.repeat(n_known, lengths))[:, None]
        context = sequences._replace(
            observed=frozen(sequences.observed & known),
            outputs=frozen(np.where(known, sequences.outputs, 0.0)),
            precision=None,
        )
        posterior = infer(truncate_sequences(context, n_known), family, draws)
        particles = posterior_particles(posterior, context, family)
        rest = sequences.observed & ~known
        wanted = np.where(rest, sequences.outputs, np.nan)
        forecast = forecast_rows(context, particles, np.empty(0), wanted)
        error = np.where(rest, (sequences.outputs - forecast.mean) / forecast.std, 0.0)
        values = (np.where(rest, forecast.log_density, 0.0), error**2, rest)
        for total, each in zip((density, surprise, count), values, strict=True):
            total += np.add.reduceat(each.sum(axis=1, dtype=float), sequences.offsets[:-1])
    seen = count > 0
    return Judgement(density[seen] / count[seen], surprise[seen] / count[seen])


def is_ahead(density: np.ndarray, other: np.ndarray, n_errors: float = 1.0) -> bool:
    """Whether log densities (n_judged,) exceed others by more than so many standard errors."""
    rise = density - other
    return bool(np.mean(rise) > n_errors * np.std(rise) / np.sqrt(len(rise)))
