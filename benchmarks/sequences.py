"""Sequences as the comparison hands them to methods, and what methods hand back."""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from sklearn.utils import Bunch

INTERVAL = (0.05, 0.95)  # whose coverage is counted: the central 90 %


class Sequence(NamedTuple):
    """Inputs (n_rows, n_inputs) and outputs (n_rows, n_outputs), NaN where not observed."""

    inputs: np.ndarray
    outputs: np.ndarray


class Forecast(NamedTuple):
    """Forecast of every row of a sequence; all (n_rows, n_outputs)."""

    mean: np.ndarray
    low: np.ndarray  # ends of the central 90 % interval
    high: np.ndarray
    log_density: np.ndarray  # of what came, NaN where nothing did


def gaussian_forecast(mean: np.ndarray, std: np.ndarray, truth: np.ndarray) -> Forecast:
    """Forecast of normal values."""
    low, high = (mean + std * norm.ppf(level) for level in INTERVAL)
    return Forecast(mean, low, high, norm.logpdf(truth, mean, std))


def revealed(sequence: Sequence, n_rows: int) -> Sequence:
    """Hide the outputs after the first `n_rows` rows."""
    outputs = sequence.outputs.copy()
    outputs[n_rows:] = np.nan
    return sequence._replace(outputs=outputs)


def sequences_of(bunch: Bunch) -> list[Sequence]:
    """The sequences of a bunch of `mtds_sklearn.datasets`."""
    starts = np.flatnonzero(np.diff(bunch.groups)) + 1
    both = np.split(bunch.X, starts), np.split(bunch.y.reshape(len(bunch.y), -1), starts)
    return [Sequence(*one) for one in zip(*both, strict=True)]


def stack(sequences: list[Sequence], first_label: int = 0) -> dict[str, np.ndarray]:
    """Rows of all sequences with their labels: what `fit` of an estimator takes."""
    groups = np.repeat(first_label + np.arange(len(sequences)), [len(s.inputs) for s in sequences])
    return {
        "X": np.concatenate([s.inputs for s in sequences]),
        "y": np.concatenate([s.outputs for s in sequences]),
        "groups": groups,
    }


def unstack_rows(values: np.ndarray, sequences: list[Sequence]) -> list[np.ndarray]:
    """Rows of values, cut into those of each sequence."""
    return np.split(values, np.cumsum([len(s.inputs) for s in sequences])[:-1])
