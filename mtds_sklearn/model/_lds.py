"""One linear dynamical system: its matrices, its natural parameter vector, its chart.

Three descriptions of the same system, from the outside in:

- `LDS`: the matrices A, B, C, D, offset, x0, K in the recursion of `mtds_sklearn._kernels`;
- psi, the *natural* vector the kernels read: chart coordinates of A, then the other entries as they
  are;
- theta, the *free* entries: psi = const + basis @ theta (`Chart`), with the gauge of each block
  fixed.

Modal chart. A is block diagonal; a 2x2 block with coordinates (a, c) is [[p/2, s], [-d/s, p/2]]
with q = tanh a, p = tanh(c)(1 + q), d = q - p^2/4, s = (d^2 + 1e-6)^(1/4): every stable pair of
poles, real or complex, in one smooth chart (Barndorff-Nielsen & Schou 1973; Jones 1980). Whatever
commutes with the block (a two-dimensional family) could be moved between C and (x0, B, K) without
changing any output. The gauge fixes it: a block has a unit direction g in output space with
g' C = (1, 0), so that the two states are the in-phase and quadrature amplitudes of the block's
output along g, x0 holds them at the first row, and each column of B or K holds those of an impulse.
The other n_outputs - 1 directions of C are free.

Cayley chart. A = diag(tanh a) Q with Q = (I - S)(I + S)^-1 and S skew-symmetric: every matrix of
spectral norm below one whose left singular vectors are the axes (Bird & Williams,
arXiv:1910.05026, appendix).
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn import _kernels

KINDS = ("A", "B", "x0", "K", "C", "D", "offset", "noise")


class LDS(NamedTuple):
    """Matrices of linear dynamical systems, stacked along the leading axes.

    Attributes
    ----------
    A : ndarray of shape (..., n_states, n_states)
    B : ndarray of shape (..., n_states, n_inputs)
    C : ndarray of shape (..., n_outputs, n_states)
    D : ndarray of shape (..., n_outputs, n_inputs)
    offset : ndarray of shape (..., n_outputs)
    x0 : ndarray of shape (..., n_states)
        State handed to the first row: x_1 = x0 + B u_1.
    K : ndarray of shape (..., n_states, n_outputs)
        Gain on the innovation of the row before.
    """

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    offset: np.ndarray
    x0: np.ndarray
    K: np.ndarray


class Shape(NamedTuple):
    """Sizes of a system.

    `block` is 2 for the modal chart and max(n_states, 3) for the Cayley chart.
    """

    n_states: int
    n_inputs: int
    n_outputs: int
    block: int


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


def is_modal(shape: Shape) -> bool:
    """Whether the chart is modal (one state is the same in both charts)."""
    return shape.block == 2 or shape.n_states <= 1


def kind_sizes(shape: Shape) -> tuple:
    """Number of natural entries of each kind, in the order of KINDS."""
    n, m, p, _ = shape
    n_chart = n if is_modal(shape) else n + n * (n - 1) // 2
    return (n_chart, n * m, n, n * p, p * n, p * m, p, 1)


def kind_slices(shape: Shape) -> dict:
    """Slice of each kind in the natural vector."""
    ends = np.cumsum((0, *kind_sizes(shape)))
    return {kind: slice(int(a), int(b)) for kind, a, b in zip(KINDS, ends, ends[1:], strict=False)}


def transition_matrix(chart_coordinates: np.ndarray, shape: Shape) -> np.ndarray:
    """A (..., n_states, n_states) from its chart coordinates (..., n_chart)."""
    n = shape.n_states
    A = np.zeros((*chart_coordinates.shape[:-1], n, n))
    if not is_modal(shape):
        S = np.zeros_like(A)
        rows, columns = np.tril_indices(n, -1)
        S[..., rows, columns] = chart_coordinates[..., n:]
        S -= np.swapaxes(S, -1, -2).copy()
        Q = 2.0 * np.linalg.inv(np.eye(n) + S) - np.eye(n)
        return np.tanh(chart_coordinates[..., :n, None]) * Q
    for i in range(0, n - 1, 2):
        half, upper, lower = modal_entries(chart_coordinates[..., i], chart_coordinates[..., i + 1])
        A[..., i, i] = A[..., i + 1, i + 1] = half
        A[..., i, i + 1], A[..., i + 1, i] = upper, lower
    if n % 2:
        A[..., n - 1, n - 1] = np.tanh(chart_coordinates[..., n - 1])
    return A


def modal_entries(a: np.ndarray, c: np.ndarray) -> tuple:
    """Diagonal, upper and lower entry (...) of the 2x2 blocks with coordinates a, c (...)."""
    q = np.tanh(a)
    half = 0.5 * np.tanh(c) * (1.0 + q)
    d = q - half**2
    s = (d**2 + _kernels.POLE_SMOOTHING**2) ** 0.25
    return half, s, -d / s


def transition_coordinates(A: np.ndarray, shape: Shape) -> np.ndarray:
    """Chart coordinates (..., n_chart) of matrices A (..., n_states, n_states) of its form.

    `transition_matrix` gives A back; other coordinates may do so too (see below).
    """
    n = shape.n_states
    if is_modal(shape):
        out = np.zeros(A.shape[:-1])
        for i in range(0, n - 1, 2):
            half = A[..., i, i]
            q = half**2 - A[..., i, i + 1] * A[..., i + 1, i]
            out[..., i] = np.arctanh(q)
            out[..., i + 1] = np.arctanh(2.0 * half / (1.0 + q))
        if n % 2:
            out[..., n - 1] = np.arctanh(A[..., n - 1, n - 1])
        return out
    # Rows of A are tanh(a_i) times rows of Q. The sign of each a_i is free; I + Q is most regular
    # when the diagonal of Q is positive, and S exists only when det Q = 1 (else the weakest row is
    # turned back).
    diagonal = np.einsum("...ii->...i", A)
    scale = np.where(diagonal < 0.0, -1.0, 1.0) * np.linalg.norm(A, axis=-1)
    improper = np.linalg.det(A / scale[..., None]) < 0.0
    weakest = np.argmin(np.abs(diagonal / scale), axis=-1)
    scale = np.where((np.arange(n) == weakest[..., None]) & improper[..., None], -scale, scale)
    Q = A / scale[..., None]
    S = np.linalg.solve(np.swapaxes(np.eye(n) + Q, -1, -2), np.swapaxes(np.eye(n) - Q, -1, -2))
    S = np.swapaxes(S, -1, -2)
    rows, columns = np.tril_indices(n, -1)
    return np.concatenate([np.arctanh(scale), S[..., rows, columns]], axis=-1)


def lds_from_natural(psi: np.ndarray, shape: Shape) -> LDS:
    """Matrices of natural vectors psi (..., n_natural), stacked along the leading axes."""
    n, m, p, _ = shape
    at = kind_slices(shape)
    lead = psi.shape[:-1]
    return LDS(
        A=transition_matrix(psi[..., at["A"]], shape),
        B=psi[..., at["B"]].reshape((*lead, n, m)),
        C=psi[..., at["C"]].reshape((*lead, p, n)),
        D=psi[..., at["D"]].reshape((*lead, p, m)),
        offset=psi[..., at["offset"]],
        x0=psi[..., at["x0"]],
        K=psi[..., at["K"]].reshape((*lead, n, p)),
    )


def natural_from_lds(lds: LDS, shape: Shape, log_level: float = 0.0) -> np.ndarray:
    """Natural vectors (..., n_natural) of systems whose A has the form of the chart."""
    lead = lds.A.shape[:-2]
    flat = {kind: getattr(lds, kind).reshape((*lead, -1)) for kind in KINDS[1:7]}
    parts = [transition_coordinates(lds.A, shape), *flat.values(), np.full((*lead, 1), log_level)]
    return np.concatenate(parts, axis=-1)


def theta_names(chart: Chart) -> list:
    """Readable names of the entries of theta, such as 'A[0].frequency' or 'C[1, 0]'."""
    names = []
    for kind, i, j in chart.entries:
        if kind == "A" and is_modal(chart.shape):
            single = i == chart.shape.n_states - 1 and i % 2 == 0
            role = "pole" if single else ("damping", "frequency")[i % 2]
            names.append(f"A[{i // 2}].{role}")
        elif kind in ("B", "K", "C", "D"):
            names.append(f"{kind}[{i}, {j}]")
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


def make_chart(shape: Shape, directions: np.ndarray, free: tuple, gain: bool = False) -> Chart:
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
    """
    n, m, p, _ = shape
    at = kind_slices(shape)
    n_natural = at["noise"].stop
    const = np.zeros(n_natural)
    entries, columns = [], []
    widths = {"A": 1, "B": max(m, 1), "x0": 1, "K": p, "C": max(n, 1), "D": max(m, 1)}
    for kind in KINDS:
        if kind == "C" and is_modal(shape):
            _modal_emission(shape, directions, kind in free, at["C"].start, const, entries, columns)
        elif kind in free:
            for h in range(at[kind].start, at[kind].stop):
                column = np.zeros(n_natural)
                column[h] = 1.0
                columns.append(column)
                i, j = divmod(h - at[kind].start, widths.get(kind, 1))
                entries.append((kind, i, j))
    basis = np.stack(columns, axis=1) if columns else np.zeros((n_natural, 0))
    active = np.flatnonzero(np.any(basis != 0.0, axis=1))
    starts = [at[kind].start for kind in KINDS] + [n_natural]
    bounds = tuple(int(b) for b in np.searchsorted(active, starts))
    return Chart(shape, directions, free, tuple(entries), const, basis, active, bounds, gain)


def _modal_emission(shape, directions, free, base, const, entries, columns):
    """C in the gauge g' C = (1, 0) of each block: its constant part, and its free directions."""
    n, p = shape.n_states, shape.n_outputs
    for state in range(n):
        direction = directions[state // 2]
        rows = base + np.arange(p) * n + state
        if state % 2 == 0:
            const[rows] = direction
        if not free:
            continue
        for j, free_direction in enumerate(complement(direction).T):
            column = np.zeros(len(const))
            column[rows] = free_direction
            columns.append(column)
            entries.append(("C", state, j))
