"""What the rows of a table say: which sequence each belongs to, and when it was.

Labels and times come in many forms (lists, NumPy arrays, pandas or polars columns, the row index
of a DataFrame). Here they become plain whole numbers; nothing else in the package looks at them.
"""

import datetime
import operator
import warnings
from collections import defaultdict
from itertools import chain, count
from numbers import Number, Real
from typing import Any, NoReturn

import numpy as np

_LARGEST_EXACT_FLOAT = 2.0**53
ROWS_AT_ONCE = 65536

# A hint where labels are missing, whose owner may well have passed them to a search.
ROUTING = (
    "In a search or cross-validation groups and times reach the estimator with "
    "sklearn.set_config(enable_metadata_routing=True)."
)


def as_column(values: Any, n_rows: int, *, name: str, who: str) -> np.ndarray:
    """Turn labels or times into an array of shape (n_rows,) whose dtype keeps them apart.

    Raises
    ------
    ValueError
        If `values` has another shape; the message starts with `who` and calls the values `name`.
    """
    column = _as_array(values)
    if column.ndim != 1:
        got = f"shape {column.shape}" if column.ndim else repr(values)
        raise ValueError(f"{who}: {name} needs one value per row, so 1 dimension; got {got}.")
    if len(column) != n_rows:
        raise ValueError(
            f"{who}: {name} needs one value per row of X: X has {n_rows} rows, "
            f"{name} has {len(column)}."
        )
    return column


def _as_array(values: Any) -> np.ndarray:
    """Convert to an array without turning mixed types into strings or tuples into rows."""
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "to_numpy"):
        return np.asarray(values.to_numpy())
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        return np.asarray(values)
    values = list(values)
    types = set(map(type, values))
    if len(types) == 1 and issubclass(types.pop(), str | bytes | Number | np.generic):
        return np.asarray(values)
    return np.fromiter(values, dtype=object, count=len(values))


def number_labels(column: np.ndarray, who: str) -> tuple[np.ndarray, np.ndarray]:
    """Give every label a number, in the order in which labels first appear.

    Parameters
    ----------
    column : ndarray of shape (n_rows,)
        One hashable label per row.
    who : str
        The complainer in error messages.

    Returns
    -------
    numbers : ndarray of int64, shape (n_rows,)
        ``labels[numbers[r]]`` is the label of row r.
    labels : ndarray of shape (n_sequences,)
        Dates are held as Python objects, which as dictionary keys equal those of pandas.

    Raises
    ------
    ValueError
        If rows have no label (None, NaN, NaT).
    TypeError
        If labels cannot be hashed.
    """
    # Hashing, unlike sorting, works for any mixture of labels; a new one gets the next number. Only
    # some rows at a time are Python objects, which take five times the room.
    number_of: dict = defaultdict(count().__next__)
    starts = range(0, len(column), ROWS_AT_ONCE)
    rows = chain.from_iterable(column[first : first + ROWS_AT_ONCE].tolist() for first in starts)
    try:
        numbers = np.fromiter(map(number_of.__getitem__, rows), np.int64, count=len(column))
    except TypeError as error:
        raise TypeError(f"{who}: groups must hold hashable labels ({error}).") from None
    if column.dtype.kind == "O":
        labels = np.fromiter(number_of, dtype=object, count=len(number_of))
    else:
        labels = np.asarray(list(number_of), dtype=column.dtype)
    _reject_missing(_is_missing(labels)[numbers], "label in groups", who)
    if labels.dtype.kind == "M":
        if np.datetime_data(labels.dtype)[0] == "ns":
            labels = labels.astype("datetime64[us]")
        labels = labels.astype(object)
    return numbers, labels


def number_times(column: np.ndarray, who: str) -> np.ndarray:
    """Turn times into integers, or into dates that are at least as exact as given.

    Parameters
    ----------
    column : ndarray of shape (n_rows,)
        Integers, integer-valued floats, dates, durations or pandas Periods.
    who : str
        The complainer in error messages.

    Returns
    -------
    times : ndarray of shape (n_rows,)
        int64 (consecutive rows of a sequence are 1 apart), or datetime64 or timedelta64 (they
        are one step apart, whatever its length). ``times.astype(np.int64)`` is exact.

    Raises
    ------
    ValueError
        If times are missing, not whole, or neither numbers nor dates.
    """
    _reject_missing(_is_missing(column), "time in times", who)
    times = _from_objects(column, who) if column.dtype.kind == "O" else column
    if times.dtype.kind in "mM":
        return times
    if times.dtype.kind not in "iuf":
        _reject_times(column, np.ones(len(column), dtype=bool), who)
    if times.dtype.kind == "f":
        whole = (times == np.rint(times)) & (np.abs(times) < _LARGEST_EXACT_FLOAT)
        if not whole.all():
            _reject_times(column, ~whole, who)
    return times.astype(np.int64, copy=False)


def _from_objects(column: np.ndarray, who: str) -> np.ndarray:
    """Convert a column of Python objects to datetime64, timedelta64 or float64."""
    types = set(map(type, column))
    if all(hasattr(kind, "freqstr") and hasattr(kind, "ordinal") for kind in types):
        if len(set(map(operator.attrgetter("freqstr"), column))) == 1:
            # Periods count their own unit; as durations they may have a step of several.
            ordinals = map(operator.attrgetter("ordinal"), column)
            return np.fromiter(ordinals, np.int64, count=len(column)).astype("timedelta64")
    elif all(issubclass(kind, datetime.date) for kind in types):
        with warnings.catch_warnings():
            # Dates with a time zone become UTC, where an hour is always an hour.
            warnings.filterwarnings("ignore", "no explicit representation of timezones")
            return column.astype("datetime64[us]")
    elif all(issubclass(kind, datetime.timedelta) for kind in types):
        return column.astype("timedelta64[us]")
    elif all(issubclass(kind, Real) for kind in types):
        return column.astype(np.float64)
    _reject_times(column, np.ones(len(column), dtype=bool), who)


def _reject_times(column: np.ndarray, bad: np.ndarray, who: str) -> NoReturn:
    rows = np.flatnonzero(bad)
    hint = "The levels of a row MultiIndex are (sequence, time)."
    if column.dtype.kind == "f":
        hint = "Steps of another length can be counted: np.rint(times / step)."
    raise ValueError(
        f"{who}: times must be integers, or dates at a constant step; {rows.size} of "
        f"{len(column)} rows have something else, the first is row {rows[0]} with time "
        f"{show(column[rows[0]])}. {hint}"
    )


def _reject_missing(missing: np.ndarray, what: str, who: str) -> None:
    if missing.any():
        rows = np.flatnonzero(missing)
        raise ValueError(
            f"{who}: every row needs a {what}; {rows.size} of {len(missing)} rows have none, "
            f"the first is row {rows[0]}."
        )


def _is_missing(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind in "mM":
        return np.isnat(values)
    if values.dtype.kind == "O":
        return np.frompyfunc(_is_missing_object, 1, 1)(values).astype(bool)
    return np.zeros(len(values), dtype=bool)


def _is_missing_object(value: Any) -> bool:
    try:
        return value is None or bool(value != value)  # NaN and NaT differ from themselves
    except TypeError:
        return True  # pandas.NA says neither yes nor no


def check_steps(
    times: np.ndarray,
    row_order: np.ndarray,
    offsets: np.ndarray,
    *,
    labels: np.ndarray,
    shown_times: np.ndarray,
    who: str,
) -> None:
    """Reject times that do not rise by one and the same step within all sequences.

    Parameters
    ----------
    times : ndarray of shape (n_rows,)
        From `number_times`, in the caller's order.
    row_order : ndarray of int64, shape (n_rows,)
        Sorts the rows by sequence, then by time.
    offsets : ndarray of int64, shape (n_sequences + 1,)
        Sequence i is the sorted rows ``offsets[i]:offsets[i + 1]``.
    labels : ndarray of shape (n_sequences,)
        What messages call the sequences.
    shown_times : ndarray of shape (n_rows,)
        The times as the caller wrote them.
    who : str
        The complainer in error messages.

    Raises
    ------
    ValueError
        If a sequence has a time twice, or a gap.
    """
    grid = _calendar_grid(times[row_order], offsets)
    steps = np.diff(grid.view(np.int64))
    within = np.ones(len(steps), dtype=bool)
    within[offsets[1:-1] - 1] = False  # from the last row of a sequence to the next sequence
    step = 1 if grid.dtype.kind == "i" or not within.any() else steps[np.argmax(within)]
    if step > 0 and np.all(steps == step, where=within):
        return
    usual_step = _most_common(steps[within & (steps > 0)])
    step = 1 if grid.dtype.kind == "i" else usual_step
    wrong = np.flatnonzero(within & (steps != step))
    repeats = wrong[steps[wrong] == 0]
    row = wrong[0] if repeats.size == 0 else repeats[0]
    sequence = show(labels[np.searchsorted(offsets, row, side="right") - 1])
    rows = row_order[row : row + 2]
    start, end = map(show, shown_times[rows])
    if repeats.size:
        raise ValueError(
            f"{who}: the times of a sequence must differ; sequence {sequence} has time {start} "
            f"twice, in rows {rows[0]} and {rows[1]} of X ({repeats.size} repeats in all). "
            f"If the rows belong to several sequences, groups must tell them apart. {ROUTING}"
        )
    hint = ""
    if grid.dtype.kind != "i":
        hint = " Where gaps are no time, as between trading days, count the rows instead."
    elif usual_step != step:
        hint = f" The usual step is {usual_step}; if that is one row, divide times by it."
    raise ValueError(
        f"{who}: the times of a sequence must rise in steps of {_show_step(step, grid)}; "
        f"sequence {sequence} jumps from time {start} to time {end}, in rows {rows[0]} and "
        f"{rows[1]} of X ({wrong.size} such jumps in all). Rows that fall into a gap belong in "
        f"the data, with NaN as their outputs.{hint}"
    )


def _calendar_grid(times: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return sorted dates as months if each sequence keeps to one day and hour of the month."""
    if times.dtype.kind != "M" or np.datetime_data(times.dtype)[0] in ("Y", "M"):
        return times
    starts = np.repeat(offsets[:-1], np.diff(offsets))
    # Month ends keep to the first of the month once they are put off by a day.
    for shifted in (times, times + np.timedelta64(1, "D")):
        months = shifted.astype("datetime64[M]")
        position = shifted - months
        if np.array_equal(position, position[starts]):
            return months
    return times


def _most_common(steps: np.ndarray) -> int:
    values, counts = np.unique(steps, return_counts=True)
    return int(values[np.argmax(counts)]) if values.size else 1


def _show_step(step: int, grid: np.ndarray) -> str:
    """Return the length of a step in words."""
    if grid.dtype.kind == "i":
        return str(step)
    unit, count = np.datetime_data(grid.dtype)
    words = {"Y": "year(s)", "M": "month(s)", "generic": "period(s)"}
    if unit in words:
        return f"{step * count} {words[unit]}"
    return str(np.timedelta64(step * count, unit).astype("timedelta64[us]").item())


def show(value: Any) -> str:
    """Return the text of a label or time as a message should show it."""
    if isinstance(value, np.datetime64):
        return np.datetime_as_string(value, unit="auto")
    if value is None:
        return "None (rows without labels are one sequence)"
    return repr(str(value)) if isinstance(value, str) else str(value)
