"""The one form in which sequences travel through the package.

Rows of all sequences stand below each other, never padded; sequence i is the rows
``offsets[i]:offsets[i + 1]``. This is the last place that can reject data.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mtds_sklearn._rows import as_column, check_steps, number_labels, number_times
from mtds_sklearn._values import as_matrix, reject_values, split_outputs

# What the first level of a row index is not called: a family read the wrong way round can pass
# for one, where labels happen to be consecutive integers.
TIME_NAMES = ("time", "times", "timestamp", "datetime")


class PackedSequences(NamedTuple):
    """Sequences below each other; all arrays are read-only and C-contiguous."""

    inputs: np.ndarray
    """float64, shape (n_rows, n_inputs)."""
    outputs: np.ndarray
    """float64, shape (n_rows, n_outputs); 0.0 where not observed."""
    observed: np.ndarray
    """bool, shape (n_rows, n_outputs)."""
    offsets: np.ndarray
    """int64, shape (n_sequences + 1,); sequence i is the rows ``offsets[i]:offsets[i + 1]``."""
    labels: np.ndarray
    """Any dtype, shape (n_sequences,); one label per sequence."""
    row_order: np.ndarray
    """int64, shape (n_rows,); packed row r is the caller's row ``row_order[r]``."""
    weights: np.ndarray | None = None
    """float64, shape (n_sequences,): how often each sequence counts in learning; None: once."""
    precision: np.ndarray | None = None
    """float64, shape (n_rows, n_outputs): share of the noise's precision that a value has, 0 where
    not observed; None: 1 wherever it is observed."""


def value_precision(sequences: PackedSequences) -> np.ndarray:
    """Relative precision (n_rows, n_outputs) of all values, 0 where they are not observed."""
    given = sequences.precision
    # Read-only either way: numba compiles every kernel anew for the other kind of array.
    return frozen(sequences.observed.astype(np.float64)) if given is None else given


def observed_counts(sequences: PackedSequences) -> np.ndarray:
    """Number (n_sequences, n_outputs) of observed values, float64."""
    if sequences.observed.all():
        return np.outer(np.diff(sequences.offsets), np.ones(sequences.observed.shape[1]))
    # Sums from the first row on; `reduceat` would turn all values into floats first.
    total = np.cumsum(sequences.observed, axis=0, dtype=np.int32)
    return np.diff(total[sequences.offsets[1:] - 1], axis=0, prepend=0).astype(np.float64)


def are_seen(sequences: PackedSequences) -> np.ndarray:
    """Which sequences have an observed value, bool (n_sequences,)."""
    return np.maximum.reduceat(sequences.observed.any(axis=1), sequences.offsets[:-1])


def resolve_rows(X: Any, groups: Any, times: Any, *, who: str = "resolve_rows") -> tuple[Any, Any]:
    """Find the labels and the times of the rows of X.

    Arguments come first. What is not given as an argument is taken from the row index of `X`,
    if `X` is a DataFrame whose index has the two levels (sequence, time).

    Parameters
    ----------
    X : array-like or DataFrame
        The inputs, one row per time step.
    groups, times : array-like of shape (n_rows,) or None
        What the caller passed.
    who : str, default="resolve_rows"
        The complainer in error messages.

    Returns
    -------
    labels, times : array-like of shape (n_rows,) or None
        None where neither an argument nor the index tells.

    Raises
    ------
    ValueError
        If the row index of `X` is needed and has more than two levels, or the first is called a
        time and the second is not.
    """
    index = getattr(X, "index", None)
    n_levels = getattr(index, "nlevels", 1)
    if n_levels == 1 or (groups is not None and times is not None):
        return groups, times
    if n_levels > 2:
        raise ValueError(
            f"{who}: a row index of X with several levels must have two, (sequence, time); it has "
            f"{n_levels}: {list(index.names)}. Pass groups and times, or drop the other levels."
        )
    first, second = (str(name).lower() in TIME_NAMES for name in index.names)
    if first and not second:
        raise ValueError(
            f"{who}: a row index of X must have the levels (sequence, time), in this order; its "
            f"levels are called {list(index.names)}. X.swaplevel() puts the sequence first."
        )
    labels = index.get_level_values(0) if groups is None else groups
    return labels, index.get_level_values(1) if times is None else times


def pack_sequences(
    inputs: ArrayLike,
    outputs: ArrayLike | None,
    *,
    labels: Any = None,
    times: Any = None,
    n_outputs: int | None = None,
    needs_observation: bool = False,
    who: str = "pack_sequences",
) -> PackedSequences:
    """Check the rows of all sequences and sort them by sequence, then by time.

    Parameters
    ----------
    inputs : array-like of shape (n_rows, n_inputs)
        The inputs, one row per time step, all finite.
    outputs : array-like of shape (n_rows,) or (n_rows, n_outputs), or None
        The outputs, NaN where not observed. None: nothing is observed.
    labels : array-like of shape (n_rows,), optional
        The sequence of each row, any hashable values. None: all rows are one sequence, labelled 0.
        Sequences are put in the order in which their labels first appear.
    times : array-like of shape (n_rows,), optional
        The time of each row: integers that rise by 1 within a sequence, or dates, durations or
        pandas Periods that rise by one step, the same for all sequences (calendar months and
        years count as steps, time zones are turned into UTC). Sequences may start at different
        times. None: caller's order.
    n_outputs : int, optional
        The number of outputs; required if `outputs` is None.
    needs_observation : bool, default=False
        Whether to reject outputs without any observed value.
    who : str, default="pack_sequences"
        The complainer in error messages.

    Returns
    -------
    sequences : PackedSequences
        Nothing of the caller's is changed. Rows that are in order already are not copied.

    Raises
    ------
    ValueError
        If shapes disagree, values are infinite, labels or times are missing, or the times of a
        sequence have duplicates or gaps.
    """
    inputs = as_matrix(inputs, "X", who)
    n_rows = len(inputs)
    if n_rows == 0:
        raise ValueError(f"{who}: X needs at least 1 row; it has shape {inputs.shape}.")
    reject_values(~np.isfinite(inputs), "X must be finite", who)
    outputs, observed = split_outputs(outputs, n_rows, n_outputs, who)
    if needs_observation and not observed.any():
        raise ValueError(
            f"{who}: y has no observed value; at least 1 of its {observed.size} must not be NaN."
        )
    row_order, offsets, sequence_labels = _order_rows(n_rows, labels, times, who)
    in_order = np.array_equal(row_order, np.arange(n_rows))
    rows = slice(None) if in_order else row_order
    return PackedSequences(
        inputs=frozen(inputs[rows]),
        outputs=frozen(outputs[rows]),
        observed=frozen(observed[rows]),
        offsets=frozen(offsets),
        labels=frozen(sequence_labels),
        row_order=frozen(row_order),
    )


def unpack_rows(values: np.ndarray, sequences: PackedSequences) -> np.ndarray:
    """Return values that are in packed order in the caller's row order.

    Parameters
    ----------
    values : ndarray of shape (n_rows, ...)
        One entry per packed row.
    sequences : PackedSequences
        The sequences that the rows belong to.

    Returns
    -------
    values : ndarray of shape (n_rows, ...)
        A writable copy.
    """
    unpacked = np.empty(values.shape, dtype=values.dtype)
    unpacked[sequences.row_order] = values
    return unpacked


def select_sequences(sequences: PackedSequences, indices: ArrayLike) -> PackedSequences:
    """Return some of the sequences, whole, in the given order.

    Parameters
    ----------
    sequences : PackedSequences
        The sequences to choose from.
    indices : array-like of shape (n_selected,), or slice
        Integers (negative ones count from the end, repeated ones repeat the sequence) or a mask of
        shape (n_sequences,).

    Returns
    -------
    selected : PackedSequences
        The caller is taken to own just these rows, in the order they had.
    """
    indices = np.arange(len(sequences.labels))[indices]
    lengths = np.diff(sequences.offsets)[indices]
    offsets = _offsets_of(lengths)
    rows = np.repeat(sequences.offsets[indices] - offsets[:-1], lengths) + np.arange(offsets[-1])
    row_order = np.empty(len(rows), dtype=np.int64)
    row_order[np.argsort(sequences.row_order[rows], kind="stable")] = np.arange(len(rows))
    return PackedSequences(
        inputs=frozen(sequences.inputs[rows]),
        outputs=frozen(sequences.outputs[rows]),
        observed=frozen(sequences.observed[rows]),
        offsets=frozen(offsets),
        labels=frozen(sequences.labels[indices]),
        row_order=frozen(row_order),
        weights=None if sequences.weights is None else frozen(sequences.weights[indices]),
        precision=_precision_of(sequences, rows),
    )


def truncate_sequences(sequences: PackedSequences, lengths: ArrayLike) -> PackedSequences:
    """Return the first rows of every sequence.

    Parameters
    ----------
    sequences : PackedSequences
        The sequences to shorten.
    lengths : array-like of int, shape (n_sequences,)
        How many rows to keep, from 1 to the sequence's own number.

    Returns
    -------
    shortened : PackedSequences
        Its ``row_order`` numbers its own rows in packed order.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    offsets = _offsets_of(lengths)
    rows = np.repeat(sequences.offsets[:-1] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return PackedSequences(
        inputs=frozen(sequences.inputs[rows]),
        outputs=frozen(sequences.outputs[rows]),
        observed=frozen(sequences.observed[rows]),
        offsets=frozen(offsets),
        labels=sequences.labels,
        row_order=frozen(np.arange(len(rows))),
        weights=sequences.weights,
        precision=_precision_of(sequences, rows),
    )


def _precision_of(sequences: PackedSequences, rows: np.ndarray) -> np.ndarray | None:
    return None if sequences.precision is None else frozen(sequences.precision[rows])


def frozen(array: np.ndarray) -> np.ndarray:
    """Return the array C-contiguous and read-only, so that kernels meet one kind of array.

    A view where it can be: whoever owns the array may go on writing to it.
    """
    array = np.ascontiguousarray(array).view()
    array.flags.writeable = False
    return array


def _offsets_of(lengths: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _order_rows(
    n_rows: int, labels: Any, times: Any, who: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order of the rows, the offsets of the sequences and their labels."""
    if labels is None:
        numbers, sequence_labels = np.zeros(n_rows, dtype=np.int64), np.zeros(1, dtype=np.int64)
        if times is None:
            return np.arange(n_rows), np.array([0, n_rows]), sequence_labels
    else:
        column = as_column(labels, n_rows, name="groups", who=who)
        numbers, sequence_labels = number_labels(column, who)
    offsets = _offsets_of(np.bincount(numbers))
    if times is None:
        return np.argsort(numbers, kind="stable"), offsets, sequence_labels
    column = as_column(times, n_rows, name="times", who=who)
    times = number_times(column, who)
    row_order = np.lexsort((times, numbers))
    check_steps(times, row_order, offsets, labels=sequence_labels, shown_times=column, who=who)
    return row_order, offsets, sequence_labels
