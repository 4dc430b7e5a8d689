"""Tables of sequences: from lists and back, and which rows come first in each sequence."""

from collections.abc import Hashable, Sequence
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike

from mtds_sklearn._sequences import PackedSequences, pack_sequences, unpack_rows

__all__ = ["mask_future", "rows_in_context", "stack_sequences", "unstack"]


def mask_future(
    y: ArrayLike, groups: ArrayLike | None, times: ArrayLike | None, context: int | float
) -> np.ndarray:
    """Hide all but the first rows of each sequence: the `y_context` of a forecast.

    Parameters
    ----------
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Outputs; NaN where they were not observed.
    groups, times : array-like of shape (n_rows,) or None
        Sequence of each row and its place in it; None: one sequence, the order given.
    context : int or float
        Rows to keep of each sequence, or the share of its rows, rounded down.

    Returns
    -------
    y_context : ndarray with the shape of `y`
        NaN in the rows after the context.

    Raises
    ------
    ValueError
        If `context` is out of range, or the arguments do not fit together.
    """
    sequences = pack_sequences(
        np.zeros((len(y), 1)), y, labels=groups, times=times, who="mask_future"
    )
    first = rows_in_context(sequences, context, who="mask_future")
    kept = np.where(first[:, np.newaxis] & sequences.observed, sequences.outputs, np.nan)
    values = unpack_rows(kept, sequences)
    return values[:, 0] if np.ndim(y) == 1 else values


def rows_in_context(sequences: PackedSequences, context: int | float, *, who: str) -> np.ndarray:
    """Mark the first rows of each sequence.

    Parameters
    ----------
    sequences : PackedSequences
        The sequences.
    context : int or float
        Rows to mark in each sequence, or the share of its rows, rounded down.
    who : str
        The complainer in error messages.

    Returns
    -------
    first : ndarray of bool, shape (n_rows,)
        In packed order.

    Raises
    ------
    ValueError
        If `context` is neither an integer >= 0 nor a float strictly between 0 and 1.
    """
    is_count = isinstance(context, Integral) and not isinstance(context, bool) and context >= 0
    is_share = isinstance(context, Real) and not isinstance(context, Integral) and 0 < context < 1
    if not (is_count or is_share):
        raise ValueError(
            f"{who}: context must be an integer >= 0 (rows) or a float strictly between 0 and 1 "
            f"(share of the rows), got {context!r}"
        )
    lengths = np.diff(sequences.offsets)
    # Rounding down must not turn 0.29 * 100 = 28.999... into 28.
    n_first = np.floor(context * lengths + 1e-9) if is_share else np.full(len(lengths), context)
    place = np.arange(len(sequences.row_order)) - np.repeat(sequences.offsets[:-1], lengths)
    return place < np.repeat(n_first, lengths)


def stack_sequences(
    list_U: Sequence[ArrayLike] | None, list_Y: Sequence[ArrayLike]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Put a list of sequences, which may differ in length, into one table.

    Parameters
    ----------
    list_U : sequence of array-like of shape (n_rows_i,) or (n_rows_i, n_inputs), or None
        Inputs of each sequence; None: there are none, and X is one column of zeros.
    list_Y : sequence of array-like of shape (n_rows_i,) or (n_rows_i, n_outputs)
        Outputs of each sequence; NaN where they were not observed.

    Returns
    -------
    X : ndarray of shape (n_rows, n_inputs)
        Inputs, sequence after sequence.
    y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
        Outputs.
    groups : ndarray of int, shape (n_rows,)
        Place of the sequence in the list.
    times : ndarray of int, shape (n_rows,)
        Place of the row in its sequence.

    Raises
    ------
    ValueError
        If the lists, or the members of a pair, differ in length.
    """
    list_Y = [np.asarray(Y, dtype=np.float64) for Y in list_Y]
    lengths = np.array([len(Y) for Y in list_Y], dtype=np.int64)
    if list_U is None:
        list_U = [np.zeros((length, 1)) for length in lengths]
    list_U = [np.asarray(U, dtype=np.float64) for U in list_U]
    list_U = [U.reshape(-1, 1) if U.ndim == 1 else U for U in list_U]
    given = [len(U) for U in list_U]
    if given != lengths.tolist() or not given:
        raise ValueError(
            "stack_sequences needs at least one sequence, and inputs and outputs of the same "
            f"lengths; got {len(given)} inputs of {given} rows and {len(lengths)} outputs of "
            f"{lengths.tolist()} rows"
        )
    groups = np.repeat(np.arange(len(lengths)), lengths)
    times = np.concatenate([np.arange(length) for length in lengths])
    return np.concatenate(list_U), np.concatenate(list_Y), groups, times


def unstack(values: ArrayLike, groups: Sequence[Hashable]) -> list[np.ndarray]:
    """Cut a table into its sequences: the way back from `stack_sequences`.

    Parameters
    ----------
    values : array-like of shape (n_rows, ...)
        One entry per row, such as forecasts.
    groups : array-like of shape (n_rows,)
        Sequence of each row.

    Returns
    -------
    sequences : list of ndarray of shape (n_rows_i, ...)
        In order of first appearance; rows keep their order.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    values = np.asarray(values)
    if len(values) != len(groups):
        raise ValueError(
            f"unstack needs one label for each of the {len(values)} rows, got {len(groups)}"
        )
    rows: dict[Hashable, list[int]] = {}
    for row, label in enumerate(groups):
        rows.setdefault(label, []).append(row)
    return [values[members] for members in rows.values()]
