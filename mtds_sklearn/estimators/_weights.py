"""Weights of sequences, from the row weights that scikit-learn hands around."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array

from mtds_sklearn._rows import show
from mtds_sklearn._sequences import PackedSequences, frozen, select_sequences

# Labels that are passed by position arrive as weights.
LABELS = "Labels of sequences are passed by name, as groups=..."


def check_weight(sample_weight: ArrayLike, n_rows: int, *, who: str) -> np.ndarray:
    """Row weights as float64 of shape (n_rows,).

    Raises
    ------
    ValueError
        If there is not one finite weight, at least 0, for every row.
    """
    try:
        weight = check_array(
            sample_weight, dtype=np.float64, ensure_2d=False, input_name="sample_weight"
        )
    except ValueError as error:
        raise ValueError(
            f"{who}: sample_weight must be finite numbers ({error}). {LABELS}"
        ) from error
    if weight.ndim != 1:
        raise ValueError(
            f"{who}: sample_weight needs one value per row, so 1 dimension; it has shape "
            f"{weight.shape}"
        )
    if len(weight) != n_rows:
        raise ValueError(
            f"{who}: sample_weight needs one value per row of X: X has {n_rows} rows, "
            f"sample_weight has {len(weight)}"
        )
    n_negative = np.count_nonzero(weight < 0.0)
    if n_negative:
        raise ValueError(
            f"{who}: sample_weight must be at least 0; {n_negative} of {n_rows} weights are "
            f"negative, the smallest is {weight.min():g}"
        )
    return weight


def check_constant(weight: np.ndarray, sequences: PackedSequences, *, who: str) -> np.ndarray:
    """Weight (n_sequences,) of each sequence from those of the caller's rows (n_rows,).

    Raises
    ------
    ValueError
        If the rows of a sequence differ in weight.
    """
    packed, first = weight[sequences.row_order], sequences.offsets[:-1]
    low, high = np.minimum.reduceat(packed, first), np.maximum.reduceat(packed, first)
    mixed = np.flatnonzero(low != high)
    if len(mixed):
        i = mixed[0]
        raise ValueError(
            f"{who}: sample_weight must be the same for all rows of a sequence; it differs in "
            f"{len(mixed)} of {len(low)} sequences, the first is {show(sequences.labels[i])} with "
            f"weights from {low[i]:g} to {high[i]:g}. {LABELS}"
        )
    return low


def weigh_sequences(
    sequences: PackedSequences, sample_weight: ArrayLike | None, *, who: str
) -> PackedSequences:
    """The sequences that count, with their weights.

    Raises
    ------
    ValueError
        If weights are out of range or differ within a sequence, or nothing observed counts.
    """
    if sample_weight is None:
        return sequences
    weight = check_weight(sample_weight, len(sequences.row_order), who=who)
    weight = check_constant(weight, sequences, who=who)
    chosen = select_sequences(sequences, weight > 0.0)
    if not chosen.observed.any():
        raise ValueError(
            f"{who}: y has no observed value in a sequence that counts; sample_weight is zero "
            f"in {np.count_nonzero(weight == 0.0)} of {len(weight)} sequences"
        )
    return chosen._replace(weights=frozen(weight[weight > 0.0]))
