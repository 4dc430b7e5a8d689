"""Units: inputs and outputs of size one inside the package, whatever they are outside."""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import PackedSequences, frozen


class Scaling(NamedTuple):
    """Inside, an input is ``u / input_scale``, an output ``(y - output_mean) / output_scale``."""

    input_scale: np.ndarray
    """Units of the inputs, shape (n_inputs,), positive."""
    output_mean: np.ndarray
    """Units of the outputs, shape (n_outputs,)."""
    output_scale: np.ndarray
    """Units of the outputs, shape (n_outputs,), positive."""


def fit_scaling(sequences: PackedSequences) -> Scaling:
    """Measure the size of inputs and outputs over all rows.

    Parameters
    ----------
    sequences : PackedSequences
        The sequences, in the caller's units.

    Returns
    -------
    scaling : Scaling
        Inputs: root mean square, 1.0 for a column of zeros. They are never centred, for an input
        of zero means that nothing happens. Outputs: mean and standard deviation of the observed
        values; a constant column has its absolute value (1.0 if that is zero) as scale, a column
        without observations has mean 0.0 and scale 1.0.
    """
    output_mean, output_scale = _moments(sequences.outputs, sequences.observed)
    return Scaling(
        input_scale=frozen(_root_mean_square(sequences.inputs)),
        output_mean=frozen(output_mean),
        output_scale=frozen(output_scale),
    )


def apply_scaling(sequences: PackedSequences, scaling: Scaling) -> PackedSequences:
    """Return the sequences with inputs and outputs divided by their scales, outputs centred.

    Parameters
    ----------
    sequences : PackedSequences
        The sequences, in the caller's units.
    scaling : Scaling
        From `fit_scaling`, of these or of other sequences with the same columns.

    Returns
    -------
    scaled : PackedSequences
        Outputs that are not observed stay 0.0.
    """
    outputs = sequences.outputs - scaling.output_mean
    outputs /= scaling.output_scale
    outputs[~sequences.observed] = 0.0
    inputs = sequences.inputs / scaling.input_scale
    return sequences._replace(inputs=frozen(inputs), outputs=frozen(outputs))


def _root_mean_square(inputs: np.ndarray) -> np.ndarray:
    # Squares of 1e-200 or 1e200 leave the range of floats; squares of value / peak do not.
    high, low = inputs.max(axis=0, initial=0.0), inputs.min(axis=0, initial=0.0)
    peak = _or_one(np.maximum(high, -low))
    return _or_one(peak * np.sqrt(_sum_of_squares(inputs / peak) / len(inputs)))


def _moments(outputs: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale of the observed values of each column."""
    n_observed = np.maximum(np.count_nonzero(observed, axis=0), 1)
    low = outputs.min(axis=0, initial=np.inf, where=observed)
    high = outputs.max(axis=0, initial=-np.inf, where=observed)
    low, high = np.where(low > high, 0.0, (low, high))  # columns without observations
    # From the middle of the range, in units of half the range, all sums are safe: a small
    # deviation from a large mean is not lost, and no square over- or underflows.
    centre, half_range = low / 2 + high / 2, _or_one(high / 2 - low / 2)
    position = outputs - centre
    position /= half_range
    shift = position.sum(axis=0, where=observed) / n_observed
    position -= shift
    position[~observed] = 0.0
    mean = centre + half_range * shift
    scale = half_range * np.sqrt(_sum_of_squares(position) / n_observed)
    return mean, _or_one(np.where(low < high, scale, np.abs(mean)))


def _sum_of_squares(columns: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->j", columns, columns)


def _or_one(scale: np.ndarray) -> np.ndarray:
    return np.where(scale > 0.0, scale, 1.0)
