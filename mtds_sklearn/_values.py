"""Inputs and outputs as numbers: what they must be, and which outputs are observed."""

from typing import Any

import numpy as np


def as_matrix(values: Any, name: str, who: str) -> np.ndarray:
    """Convert to float64 with 2 dimensions; a vector becomes one column only for y."""
    try:
        if hasattr(values, "iloc"):  # pandas: NA needs to be told what it is as a float
            values = values.to_numpy(dtype=np.float64, na_value=np.nan)
        if np.iscomplexobj(values):
            raise ValueError("Complex data not supported")
        if np.ma.isMaskedArray(values):
            values = values.astype(np.float64).filled(np.nan)
        matrix = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{who}: {name} must be real numbers ({error}).") from error
    if matrix.ndim == 1 and name == "y":
        return matrix[:, np.newaxis]
    if matrix.ndim != 2:
        needed = "1 or 2 dimensions" if name == "y" else "2 dimensions"
        raise ValueError(f"{who}: {name} must have {needed}; it has shape {matrix.shape}.")
    return matrix


def split_outputs(
    outputs: Any, n_rows: int, n_outputs: int | None, who: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the outputs with zeros for what is not observed, and what is observed."""
    if outputs is None:
        if n_outputs is None:
            raise ValueError(f"{who}: n_outputs is required if there are no outputs.")
        shape = (n_rows, n_outputs)
        return np.zeros(shape), np.zeros(shape, dtype=bool)
    outputs = as_matrix(outputs, "y", who)
    if len(outputs) != n_rows:
        raise ValueError(
            f"{who}: X and y need the same number of rows: X has {n_rows}, y has {len(outputs)}."
        )
    if n_outputs not in (None, outputs.shape[1]):
        raise ValueError(f"{who}: y must have {n_outputs} columns; it has {outputs.shape[1]}.")
    reject_values(np.isinf(outputs), "y must be finite, or NaN where it was not observed", who)
    observed = ~np.isnan(outputs)
    return outputs if observed.all() else np.where(observed, outputs, 0.0), observed


def reject_values(bad: np.ndarray, rule: str, who: str) -> None:
    if bad.any():
        rows = np.flatnonzero(bad.any(axis=1))
        raise ValueError(
            f"{who}: {rule}; {np.count_nonzero(bad)} of {bad.size} values are not, "
            f"the first is in row {rows[0]}."
        )
