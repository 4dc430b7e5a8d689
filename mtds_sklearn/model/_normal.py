"""What of Gauss-Newton matrices in the active entries of a chart can differ from zero.

Without a gain an output does not move with the entries of C, D and offset of another one, so that
two such entries of different outputs have nothing in common; and the noise level has nothing in
common with any entry. Of a matrix only the other entries are stored, those of its lower triangle
row by row.
"""

from functools import lru_cache

import numpy as np

from mtds_sklearn._sequences import frozen
from mtds_sklearn.model._chart import Chart
from mtds_sklearn.model._lds import Shape, kind_slices

# Charts whose entries are remembered: growth comes by a handful.
REMEMBERED = 64


def normal_entries(chart: Chart) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (n_normal,) of what is stored of a Gauss-Newton matrix."""
    return _entries(chart.active.tobytes(), chart.shape, chart.gain)


def symmetric(normal: np.ndarray, chart: Chart) -> np.ndarray:
    """Matrices (..., n_active, n_active) from what is stored of them (..., n_normal)."""
    where = _places(chart.active.tobytes(), chart.shape, chart.gain)
    zero = np.zeros((*normal.shape[:-1], 1))
    return np.concatenate([normal, zero], axis=-1)[..., where]


def in_directions(normal: np.ndarray, chart: Chart, directions: np.ndarray) -> np.ndarray:
    """d' H d (..., k, k) of matrices H that are stored as (..., n_normal), for d (n_active, k)."""
    rows, columns = normal_entries(chart)
    products = directions[rows][:, :, None] * directions[columns][:, None, :]
    other = np.where((rows == columns)[:, None, None], 0.0, np.swapaxes(products, 1, 2))
    k = directions.shape[1]
    return (normal @ (products + other).reshape(-1, k * k)).reshape(*normal.shape[:-1], k, k)


@lru_cache(maxsize=REMEMBERED)
def _entries(active: bytes, shape: Shape, gain: bool) -> tuple[np.ndarray, np.ndarray]:
    active = np.frombuffer(active, dtype=np.int64)
    everything, nothing, noise = -1, -2, shape.n_outputs
    output = np.full(len(active), everything)  # that moves with an entry
    for kind, part in kind_slices(shape).items():
        inside = (active >= part.start) & (active < part.stop)
        if kind == "noise":
            output[inside] = noise
        elif kind == "K" and not gain:
            output[inside] = nothing
        elif kind in ("C", "D", "offset") and not gain:
            output[inside] = (active[inside] - part.start) * noise // (part.stop - part.start)
    rows, columns = np.tril_indices(len(active))
    met = (output[columns] == everything) & (output[rows] < noise)
    met = (met | (output[columns] == output[rows])) & (output[rows] != nothing)
    return frozen(rows[met]), frozen(columns[met])


@lru_cache(maxsize=REMEMBERED)
def _places(active: bytes, shape: Shape, gain: bool) -> np.ndarray:
    """Where each entry of a matrix (n_active, n_active) is stored; zeros come last."""
    rows, columns = _entries(active, shape, gain)
    size = len(active) // np.dtype(np.int64).itemsize
    where = np.full((size, size), len(rows))
    where[rows, columns] = where[columns, rows] = np.arange(len(rows))
    return frozen(where)
