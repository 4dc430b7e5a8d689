"""Charts: which entries of a system are free, and how they make its natural vector.

The gauge of a modal block. Whatever commutes with the block (a two-dimensional family) could be
moved between C and (x0, B, K) without changing any output. So a block has a unit direction g in
output space with g' C = (1, 0): the two states are the in-phase and quadrature amplitudes of the
block's output along g, x0 holds them at the first row, and each column of B or K holds those of an
impulse. The other n_outputs - 1 directions of C are free. In the Cayley chart all entries are.
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn.model._lds import KINDS, Shape, is_modal, kind_sizes, kind_slices


class Chart(NamedTuple):
    """How the free entries theta make the natural vector psi = const + basis @ theta.

    Attributes
    ----------
    shape : Shape
    directions : ndarray of shape (n_blocks, n_outputs)
        Unit output direction of each modal block; empty for the Cayley chart.
    free : tuple of str
        Kinds of entries that theta holds.
    entries : tuple of (kind, i, j)
        What each entry of theta is; stable under growth by another block.
    const : ndarray of shape (n_natural,)
    basis : ndarray of shape (n_natural, n_theta)
    active : ndarray of int64, shape (n_active,)
        Natural entries that theta moves, ascending.
    bounds : tuple of 9 int
        Where each of the eight kinds starts in `active`.
    gain : bool
        Whether the recursion feeds innovations back.
    n_noise : int
        The first so many states, two for each output in turn, are driven by the innovations of
        their own output alone and seen by it alone: coloured noise.
    """

    shape: Shape
    directions: np.ndarray
    free: tuple
    entries: tuple
    const: np.ndarray
    basis: np.ndarray
    active: np.ndarray
    bounds: tuple
    gain: bool
    n_noise: int = 0


def theta_names(chart: Chart) -> list:
    """Readable names of the entries of theta, such as 'A[0].frequency' or 'C[1, 0]'.

    Blocks and states of the family are counted from 0, apart from those of the noise.
    """
    names = []
    for kind, i, j in chart.entries:
        if kind in ("A", "K") and i < chart.n_noise:
            names.append(f"noise[{i // 2}].{kind}[{i % 2}]")
            continue
        if kind in ("A", "B", "x0", "K") or (kind == "C" and is_modal(chart.shape)):
            i -= chart.n_noise
        elif kind == "C":
            j -= chart.n_noise
        if kind == "A" and is_modal(chart.shape):
            single = i == chart.shape.n_states - chart.n_noise - 1 and i % 2 == 0
            role = "pole" if single else ("damping", "frequency")[i % 2]
            names.append(f"A[{i // 2}].{role}")
        elif kind in ("B", "K", "C", "D"):
            names.append(f"{kind}[{i}, {j}]")
        elif kind == "noise":
            names.append(kind)  # there is one
        else:
            names.append(f"{kind}[{i}]")
    return names


def complement(direction: np.ndarray) -> np.ndarray:
    """Orthonormal basis (n_outputs, n_outputs - 1) of what is orthogonal to a unit direction.

    The Householder reflection that maps the direction (n_outputs,) to an axis; the axis is the
    direction's largest entry, so that the other columns stay close to the other axes.
    """
    axis = int(np.argmax(np.abs(direction)))
    v = direction.copy()
    v[axis] += np.copysign(1.0, direction[axis])
    reflection = np.eye(len(v)) - 2.0 * np.outer(v, v) / (v @ v)
    return np.delete(reflection, axis, axis=1)


def make_chart(
    shape: Shape, directions: np.ndarray, free: tuple, gain: bool = False, n_noise: int = 0
) -> Chart:
    """Chart whose theta holds the entries of the kinds `free`, in the order of KINDS.

    Parameters
    ----------
    shape : Shape
    directions : ndarray of shape (n_blocks, n_outputs)
        Unit output direction of each modal block; not read for the Cayley chart.
    free : tuple of str
        Kinds of entries that theta holds; the others stay zero, but C of a modal block stays at
        its direction.
    gain : bool
        Whether the recursion feeds innovations back.
    n_noise : int
        See `Chart`; for them theta holds poles and own gains only.
    """
    at = kind_slices(shape)
    n_natural = at["noise"].stop
    const, columns = np.zeros(n_natural), {}
    for kind in KINDS:
        if kind == "C" and is_modal(shape):
            _modal_emission(shape, directions, kind in free, n_noise, const, columns)
            continue
        if kind == "C" and n_noise:
            states = np.arange(n_noise)
            const[at["C"].start + (states // 2) * shape.n_states + states] = 1.0
        for entry in entry_names(kind, shape) if kind in free else ():
            if not is_held(entry, shape, n_noise):
                columns[entry] = np.zeros(n_natural)
                columns[entry][at[kind].start + natural_place(entry, shape)] = 1.0
    basis = np.stack([*columns.values()], axis=1) if columns else np.zeros((n_natural, 0))
    active = np.flatnonzero(np.any(basis != 0.0, axis=1))
    bounds = _bounds(active, shape)
    parts = (shape, directions, free, tuple(columns), const, basis, active, bounds)
    return Chart(*parts, gain, n_noise)


def differentiate_only(chart: Chart, moved: np.ndarray) -> Chart:
    """The chart for derivatives in those natural entries alone that are `moved` (bool)."""
    active = chart.active[moved[chart.active]]
    return chart._replace(active=active, bounds=_bounds(active, chart.shape))


def _bounds(active: np.ndarray, shape: Shape) -> tuple:
    """Where each of the eight kinds starts in `active`, and its end."""
    slices = kind_slices(shape).values()
    starts = [part.start for part in slices] + [max(part.stop for part in slices)]
    return tuple(int(b) for b in np.searchsorted(active, starts))


def n_family_states(chart: Chart) -> int:
    """Number of states without those of the noise."""
    return chart.shape.n_states - chart.n_noise


def _widths(shape: Shape) -> dict:
    """Row lengths of the blocks; those that are vectors have rows of one."""
    n, m, p, _ = shape
    return {"B": m, "K": p, "C": n, "D": m}


def entry_names(kind: str, shape: Shape) -> list:
    """(kind, i, j) of the natural entries of a kind, in their order."""
    size = dict(zip(KINDS, kind_sizes(shape), strict=True))[kind]
    width = _widths(shape).get(kind, 1)
    return [(kind, *divmod(h, width)) for h in range(size)]


def natural_place(entry: tuple, shape: Shape) -> int:
    """Where the natural entry of such a name stands within its kind."""
    kind, i, j = entry
    return i * _widths(shape).get(kind, 1) + j


def is_held(entry: tuple, shape: Shape, n_noise: int) -> bool:
    """Whether the first n_noise states, being noise, keep a natural entry where it is."""
    kind, i, j = entry
    if kind == "K":
        return i < n_noise and j != i // 2
    if kind == "C":
        return j < n_noise
    if kind == "A" and not is_modal(shape):
        # Of the skew entries (row, column < row) those of family states among themselves are free.
        skew = i - shape.n_states
        return skew >= 0 and np.tril_indices(shape.n_states, -1)[1][skew] < n_noise
    return kind in ("B", "x0") and i < n_noise


def _modal_emission(shape, directions, free, n_noise, const, columns):
    """C in the gauge g' C = (1, 0) of each block: its constant part, and its free directions."""
    n, p = shape.n_states, shape.n_outputs
    base = kind_slices(shape)["C"].start
    for state in range(n):
        direction = directions[state // 2]
        rows = base + np.arange(p) * n + state
        if state % 2 == 0:
            const[rows] = direction
        if not free or state < n_noise:
            continue
        for j, free_direction in enumerate(complement(direction).T):
            column = np.zeros(len(const))
            column[rows] = free_direction
            columns["C", state, j] = column
