"""One linear dynamical system: its matrices, its natural parameter vector, its chart.

Three descriptions of the same system, from the outside in:

- `LDS`: the matrices A, B, C, D, offset, x0, K in the recursion of `kernels/_recursion.py`;
- psi, the *natural* vector the kernels read: chart coordinates of A, then the other entries as they
  are;
- theta, the *free* entries: psi = const + basis @ theta (`_chart.Chart`), with the gauge of each
  block fixed.

In the modal chart A is block diagonal; a 2x2 block with coordinates (a, c) is [[p/2, s], [-d/s,
p/2]] with q = tanh a, p = tanh(c)(1 + q), d = q - p^2/4, s = (d^2 + 1e-6)^(1/4): every stable pair
of poles, real or complex, in one smooth chart (Barndorff-Nielsen & Schou 1973; Jones 1980). In the
Cayley chart A = diag(tanh a) Q with Q = (I - S)(I + S)^-1 and S skew-symmetric: every matrix of
spectral norm below one whose left singular vectors are the axes (Bird & Williams,
arXiv:1910.05026, appendix).
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn.kernels import _transitions

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
        What an innovation adds to the state of its own row, as it is handed on.
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
    s = (d**2 + _transitions.POLE_SMOOTHING**2) ** 0.25
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
