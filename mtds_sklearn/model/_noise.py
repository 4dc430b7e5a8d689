"""Noise that grows with the output: constant below a unit, proportional to the output above it.

The noise of an output that is y in the user's units has the variance

    sigma^2 h(y) / size,     h(y) = 1 + (y / unit)^2,

which is that of a constant part and one that is proportional to y (as of an assay). `size` is the
h that sigma belongs to. Forecasts take y from each particle's own output; where y has been
observed, in learning as in inference, it stands for itself: values count with the weight
size / h(y), so that everything stays a weighted least-squares problem.
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._scaling import Scaling
from mtds_sklearn._sequences import PackedSequences, frozen
from mtds_sklearn._transforms import along


class Growth(NamedTuple):
    """How the noise of standardised outputs grows.

    Attributes
    ----------
    zero : ndarray of shape (n_outputs,)
        The standardised output at y = 0.
    unit : ndarray of shape (n_outputs,)
        Where one part of the noise is as large as the other, standardised; inf: it does not grow.
    size : ndarray of shape (n_outputs,)
        h where the noise is sigma.
    """

    zero: np.ndarray
    unit: np.ndarray
    size: np.ndarray


def make_growth(y: np.ndarray, unit: np.ndarray, scaling: Scaling) -> Growth:
    """Growth of the noise of outputs y (n_rows, n_outputs), NaN where not observed.

    `unit` (n_outputs,) is in the units of y. Observed values have the mean weight one.
    """
    weight = 1.0 / (1.0 + (y / unit) ** 2)
    known = np.isfinite(weight)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known.any(axis=0), np.where(known, weight, 0.0).sum(axis=0) / count, 1.0)
    scale = scaling.output_scale
    return Growth(-scaling.output_mean / scale, unit / scale, 1.0 / mean)


def noise_factor(growth: Growth | None, outputs: np.ndarray) -> np.ndarray | float:
    """h / size at standardised outputs (n_rows, n_outputs, ...); 1 without growth."""
    if growth is None:
        return 1.0
    zero, unit, size = (along(part, outputs) for part in growth)
    return (1.0 + ((outputs - zero) / unit) ** 2) / size


def with_growth_weights(sequences: PackedSequences, growth: Growth | None) -> PackedSequences:
    """Standardised sequences, every value weighted by what its own size says of its noise."""
    if growth is None:
        return sequences
    weights = np.where(sequences.observed, 1.0 / noise_factor(growth, sequences.outputs), 0.0)
    return sequences._replace(precision=frozen(weights))


def at_zero(growth: Growth | None, noise_std: np.ndarray) -> np.ndarray:
    """Noise (n_outputs,) of outputs that are y = 0, for the noise sigma; sigma without growth."""
    return noise_std if growth is None else noise_std / np.sqrt(growth.size)


def unit_of(growth: Growth | None, scaling: Scaling) -> np.ndarray:
    """The units of growth (n_outputs,) in the units of y; inf where the noise does not grow."""
    scale = scaling.output_scale
    return np.full(len(scale), np.inf) if growth is None else growth.unit * scale
