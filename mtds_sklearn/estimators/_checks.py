"""Checks of what a caller hands over: clean values come back, or a message with numbers."""

from collections.abc import Sequence
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike

# Private names of scikit-learn are imported in this file only, so that a change there is one edit.
from sklearn.utils import _safe_indexing as take_rows
from sklearn.utils import check_array
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _num_samples as count_rows
from sklearn.utils.validation import validate_data

from mtds_sklearn._warnings import warn_caller

__all__ = [
    "HasMethods",
    "Interval",
    "StrOptions",
    "as_columns",
    "check_count",
    "check_horizon",
    "check_inputs",
    "check_levels",
    "check_names",
    "check_targets",
    "count_rows",
    "names_of",
    "take_rows",
    "warn_if_reordered",
]


def check_targets(
    y: ArrayLike,
    *,
    n_rows: int,
    n_outputs: int | None = None,
    names: list[str] | None = None,
    name: str = "y",
    who: str,
) -> np.ndarray:
    """Targets as float64, NaN where they were not observed.

    Parameters
    ----------
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Targets in the units of the user.
    n_rows : int
        Number of rows of X.
    n_outputs : int, default=None
        Number of outputs seen in `fit`; None accepts any number.
    names : list of str, default=None
        Their names, if they had any; a table with other names is refused.
    name, who : str
        Name of the argument and of whoever complains, for messages.

    Returns
    -------
    targets : ndarray with the shape of `y`
        float64; may share memory with `y`.

    Raises
    ------
    ValueError
        If `y` is None, has another number of rows or outputs, outputs of other names, or a value
        that is infinite or no number.
    """
    if y is None:
        raise ValueError(
            f"This {who} estimator requires {name} to be passed, but the target {name} is None."
        )
    # Infinities are counted below, so that the message can tell them from NaN, which is welcome.
    try:
        targets = check_array(
            y, dtype=np.float64, ensure_2d=False, ensure_all_finite=False, input_name=name
        )
    except ValueError as error:
        raise ValueError(
            f"{who}: {name} must be numbers, NaN where nothing was observed ({error})"
        ) from error
    if len(targets) != n_rows:
        raise ValueError(
            f"{who}: {name} needs one row for each of the {n_rows} rows of X, got {len(targets)}; "
            "what was not observed is NaN"
        )
    n_given = as_columns(targets).shape[1]
    if n_outputs is not None and n_given != n_outputs:
        raise ValueError(
            f"{who}: {name} needs the {n_outputs} outputs seen in fit, got {n_given} outputs"
        )
    check_names(y, names, name=name, what="outputs", who=who)
    n_infinite = np.count_nonzero(np.isinf(targets))
    if n_infinite:
        raise ValueError(
            f"{who}: {name} must be finite, or NaN where nothing was observed; "
            f"got {n_infinite} infinite values out of {targets.size}"
        )
    return targets


def names_of(y: ArrayLike) -> list[str] | None:
    """Names of the outputs of a table; None where they are not strings, or y is no table."""
    names = list(getattr(y, "columns", []))
    return names if names and all(isinstance(name, str) for name in names) else None


def check_names(
    values: ArrayLike, names: list[str] | None, *, name: str, what: str, who: str
) -> None:
    """Refuse a table with other columns than in `fit`, or a row of one in another order.

    Raises
    ------
    ValueError
        If both have names, and not the same.
    """
    given = names_of(values)
    if names and given is None and hasattr(values, "iloc") and values.ndim == 1:
        labels = values.index.tolist()
        given = labels if set(labels) == set(names) else None
    if names and given and names != given:
        raise ValueError(
            f"{who}: {name} needs the {what} seen in fit, in their order, {names}; got {given}"
        )


def check_inputs(estimator, X: ArrayLike, *, who: str, **options: bool) -> np.ndarray:
    """Inputs (n_rows, n_inputs) as float64, all finite.

    Parameters
    ----------
    estimator : estimator object
        Sizes and names are checked against it or, with ``reset=True``, written on it.
    X : array-like of shape (n_rows, n_inputs)
        Inputs of the user.
    who : str
        Who complains.
    **options : bool
        Of `validate_data`.

    Raises
    ------
    ValueError
        If `X` is None or has no column, or holds something else than finite numbers.
    """
    _check_columns(X, who)
    try:
        inputs = validate_data(estimator, X, dtype=np.float64, ensure_all_finite=False, **options)
    except ValueError as error:
        if not str(error).startswith(("could not convert", "setting an array element")):
            raise
        raise ValueError(f"{who}: X must be a table of numbers ({error})") from error
    check_finite(inputs, who=who)
    return inputs


def _check_columns(X: ArrayLike, who: str) -> None:
    """Refuse what scikit-learn would refuse without saying what to do."""
    nothing = "where nothing drives the sequences, pass a column of zeros, np.zeros((n_rows, 1))"
    if X is None:
        raise ValueError(f"{who}: X is None; {nothing}")
    shape = getattr(X, "shape", ())
    if len(shape) == 2 and shape[0] and shape[1] == 0:
        raise ValueError(
            f"{who}: X has 0 feature(s) (shape={shape}) while a minimum of 1 is required; {nothing}"
        )
    names = getattr(X, "columns", []) if len(shape) == 2 else []  # a lazy table has no shape
    words = [name for name in names if not _is_numeric(X[name])]
    if words:
        raise ValueError(
            f"{who}: X must hold numbers; {len(words)} of its {shape[1]} columns do not: {words}. "
            "Which sequence a row belongs to and when it was is passed as groups and times"
        )


def _is_numeric(column: ArrayLike) -> bool:
    """Whether a column is made of numbers; dates are none, although they can be counted."""
    values = np.asarray(column)
    try:
        values.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        return False
    return values.dtype.kind not in "mM"


def check_finite(inputs: np.ndarray, *, who: str) -> None:
    """Refuse inputs (n_rows, n_inputs) that are not complete.

    Raises
    ------
    ValueError
        If a value is NaN or infinite.
    """
    bad = ~np.isfinite(inputs)
    if bad.any():
        n_missing = np.count_nonzero(np.isnan(inputs))
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{who}: X must be complete and finite; {n_missing} of {inputs.size} values are NaN "
            f"and {np.count_nonzero(bad) - n_missing} are infinite, the first in row {row}, column "
            f"{column}. Inputs are what is known in advance: fill gaps in them, hide only y"
        )


def as_columns(values: np.ndarray) -> np.ndarray:
    """Return targets of shape (n_rows,) or (n_rows, n_outputs) as (n_rows, n_outputs)."""
    return values.reshape(-1, 1) if values.ndim == 1 else values


def check_levels(quantiles: Sequence[float] | None, *, who: str) -> np.ndarray:
    """Quantile levels as a float64 array (n_levels,); None gives none of them.

    Raises
    ------
    ValueError
        If `quantiles` is not a non-empty sequence of numbers strictly between 0 and 1.
    """
    if quantiles is None:
        return np.empty(0)
    try:
        levels = np.asarray(quantiles, dtype=np.float64)
    except (TypeError, ValueError):
        levels = np.empty(0)
    # Written as "all inside", so that NaN is refused as well.
    if levels.ndim != 1 or levels.size == 0 or not np.all((levels > 0) & (levels < 1)):
        raise ValueError(
            f"{who}: quantiles must be a non-empty sequence of levels strictly between 0 and 1, "
            f"got {quantiles!r}"
        )
    return levels


def check_horizon(horizon: int | None, *, who: str) -> int | None:
    """Return the forecast horizon in rows: None, or an integer of at least 1.

    Raises
    ------
    ValueError
        If `horizon` is anything else.
    """
    if horizon is None:
        return None
    if isinstance(horizon, bool) or not isinstance(horizon, Integral) or horizon < 1:
        raise ValueError(f"{who}: horizon must be None or an integer >= 1, got {horizon!r}")
    return int(horizon)


def warn_if_reordered(X: ArrayLike, *, who: str, **columns: ArrayLike) -> None:
    """Warn of columns whose row index is that of a DataFrame X in another order.

    Rows are matched by position, so that one of the two was sorted, or shuffled, without the other.
    """
    index = X.index if hasattr(X, "iloc") else None
    for name, column in columns.items():
        other = column.index if hasattr(column, "iloc") else None
        if index is None or other is None or len(other) != len(index) or other.equals(index):
            continue
        if set(other) == set(index):
            n_moved = np.count_nonzero(other.to_numpy() != index.to_numpy())
            warn_caller(
                f"{who}: the row indexes of X and {name} hold the same labels in another order "
                f"({n_moved} of {len(index)} rows differ), and rows are matched by position. If "
                "one of them was sorted or shuffled, the other needs the same"
            )


def check_count(count: int, *, name: str, who: str) -> int:
    """Return how many of something are asked for: an integer of at least 1.

    Raises
    ------
    ValueError
        If `count` is anything else.
    """
    if isinstance(count, bool) or not isinstance(count, Integral) or count < 1:
        raise ValueError(f"{who}: {name} must be an integer >= 1, got {count!r}")
    return int(count)
