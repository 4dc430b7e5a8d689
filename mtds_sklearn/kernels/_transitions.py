"""Transition matrices of eight evaluations, from their chart coordinates, and their tangents.

W and `at` are those of `_recursion`; a chart's coordinates are the first of a natural parameter
vector.
"""

from numba import njit

from mtds_sklearn.kernels._lanes import (
    INLINE,
    LEAF,
    fill,
    load,
    load_number,
    square_root,
    store,
    tanh,
)
from mtds_sklearn.kernels._matrices import times_vectors

# Rounds the square root at a double pole, so that a block is smooth in its coordinates there.
POLE_SMOOTHING = 1e-3


@njit(**INLINE)
def is_modal(shape):
    """Whether A consists of blocks; one state is the same in both charts."""
    return shape[3] == 2 or shape[0] == 1


@njit(**INLINE)
def row_width(shape):
    """Entries of a row of A that are kept: those of its own block."""
    return 2 if is_modal(shape) else shape[0]


@njit(**INLINE)
def n_transition(shape):
    """Number of chart coordinates of A."""
    n = shape[0]
    return n if is_modal(shape) else n + n * (n - 1) // 2


@njit(**INLINE)
def _modal_tangent(W, to, half, d, inverse, dhalf, dq):
    """W[to ..] <- derivative of a block of which half the trace has dhalf, the determinant dq.

    inverse: 1 / s, since divisions take as long as twenty products.
    """
    dd = dq - 2.0 * half * dhalf
    ds = 0.5 * d * dd * (inverse * inverse * inverse)
    store(W, to, dhalf)
    store(W, to + 1, ds)
    store(W, to + 2, (d * ds * inverse - dd) * inverse)
    store(W, to + 3, dhalf)


@njit(**LEAF)
def modal_transition(W, at, n):
    """Fill the blocks A and, where there is room, the tangents of the block of each entry.

    q = tanh a, p = tanh(c)(1 + q) are the coefficients of z^2 - p z + q (partial-autocorrelation
    chart of the stability triangle; Barndorff-Nielsen & Schou 1973). The block is the companion
    matrix in the basis of its cosine and sine amplitudes: [[p/2, s], [-d/s, p/2]], d = q - p^2/4,
    s ~ sqrt|d|.
    """
    for i in range(0, n - 1, 2):
        q, t = tanh(load(W, at.psi + i)), tanh(load(W, at.psi + i + 1))
        half = 0.5 * t * (1.0 + q)
        d = q - half * half
        s = square_root(square_root(d * d + POLE_SMOOTHING * POLE_SMOOTHING))
        inverse = 1.0 / s
        store(W, at.A + 2 * i, half)
        store(W, at.A + 2 * i + 1, s)
        store(W, at.A + 2 * i + 2, fill(0.0) - d * inverse)
        store(W, at.A + 2 * i + 3, half)
        if at.with_tangents:
            dq = 1.0 - q * q
            _modal_tangent(W, at.tangents + 4 * i, half, d, inverse, 0.5 * t * dq, dq)
            dhalf = 0.5 * (1.0 - t * t) * (1.0 + q)
            _modal_tangent(W, at.tangents + 4 * i + 4, half, d, inverse, dhalf, fill(0.0))
    if n % 2 == 1:
        q = tanh(load(W, at.psi + n - 1))
        store(W, at.A + 2 * (n - 1), q)
        if at.with_tangents:
            store(W, at.tangents + 4 * (n - 1), 1.0 - q * q)


@njit(**LEAF)
def _inverse_in_place(W, M, n):
    """Gauss-Jordan without pivoting: safe for I + S, whose symmetric part is the identity."""
    for q in range(n):
        pivot = 1.0 / load(W, M + q * n + q)
        store(W, M + q * n + q, 1.0)
        for j in range(n):
            store(W, M + q * n + j, load(W, M + q * n + j) * pivot)
        for i in range(n):
            if i != q:
                f = load(W, M + i * n + q)
                store(W, M + i * n + q, 0.0)
                for j in range(n):
                    old = load(W, M + i * n + j)
                    store(W, M + i * n + j, old - f * load(W, M + q * n + j))


@njit(**LEAF)
def cayley_transition(W, at, n):
    """Fill A = diag(tanh a) Q, Q = (I - S)(I + S)^-1 = 2 (I + S)^-1 - I, and its tangents.

    chart = (a (n), strictly lower entries of S row by row). With M = (I + S)^-1, dQ = -2 M dS M.
    """
    M = at.work
    r = at.psi + n
    for i in range(n):
        store(W, M + i * n + i, 1.0)
        for j in range(i):
            store(W, M + i * n + j, load(W, r))
            store(W, M + j * n + i, fill(0.0) - load(W, r))
            r += 1
    _inverse_in_place(W, M, n)
    scales = M + n * n
    for i in range(n):
        scale = tanh(load(W, at.psi + i))
        store(W, scales + i, scale)
        for j in range(n):
            q = 2.0 * load(W, M + i * n + j) - (1.0 if i == j else 0.0)
            store(W, at.A + i * n + j, scale * q)
            if at.with_tangents:
                for h in range(n):
                    store(W, at.tangents + (i * n + h) * n + j, 0.0)
                store(W, at.tangents + (i * n + i) * n + j, (1.0 - scale * scale) * q)
    if not at.with_tangents:
        return
    to = at.tangents + n * n * n
    for i in range(n):
        for j in range(i):
            for h in range(n):
                scale = -2.0 * load(W, scales + h)
                for g in range(n):
                    turn = load(W, M + h * n + i) * load(W, M + j * n + g)
                    turn = turn - load(W, M + h * n + j) * load(W, M + i * n + g)
                    store(W, to, scale * turn)
                    to += 1


@njit(**LEAF)
def modal_direction(W, at, n, slopes, first, to):
    """to <- change of the blocks of A as the natural vector moves by slopes[first ..]."""
    for i in range(n):
        block = to + 4 * (i // 2)
        entry = at.tangents + 4 * i
        slope = load_number(slopes, first + i)
        for h in range(4 if i // 2 < n // 2 else 1):
            change = slope * load(W, entry + h)
            store(W, block + h, change if i % 2 == 0 else load(W, block + h) + change)


@njit(**LEAF)
def cayley_direction(W, at, n, slopes, first, to, work):
    """to <- change of A as the natural vector moves by slopes[first ..].

    Just after `cayley_transition`, which leaves M and tanh a behind: with A = diag(tanh a) Q,

        dA = diag((1 - tanh^2 a) da) Q - 2 diag(tanh a) M dS M.

    `work`: room for 3 n^2.
    """
    M, scales = at.work, at.work + n * n
    dS, turned, right = work, work + n * n, work + 2 * n * n
    r = first + n
    for i in range(n):
        store(W, dS + i * n + i, 0.0)
        for j in range(n):
            store(W, turned + j * n + i, load(W, M + i * n + j))
        for j in range(i):
            slope = load_number(slopes, r)
            store(W, dS + i * n + j, slope)
            store(W, dS + j * n + i, fill(0.0) - slope)
            r += 1
    times_vectors(W, dS, n, n, turned, n, right)  # (dS M)'
    times_vectors(W, right, n, n, M, n, to)
    for i in range(n):
        scale = load(W, scales + i)
        stretch = load_number(slopes, first + i) * (1.0 - scale * scale)
        for j in range(n):
            q = 2.0 * load(W, M + i * n + j) - (1.0 if i == j else 0.0)
            change = stretch * q - 2.0 * scale * load(W, to + i * n + j)
            store(W, to + i * n + j, change)


@njit(**LEAF)
def modal_pull_back(W, at, n, slope, to):
    """to <- derivatives by the chart coordinates, from those by the entries of the blocks."""
    for i in range(n):
        acc = fill(0.0)
        for h in range(4 if i // 2 < n // 2 else 1):
            acc = acc + load(W, at.tangents + 4 * i + h) * load(W, slope + 4 * (i // 2) + h)
        store(W, to + i, acc)


@njit(**LEAF)
def cayley_pull_back(W, at, n, slope, to, work):
    """to <- derivatives by the chart coordinates, from those by the entries of A, G.

    As `cayley_direction`, the other way round: with Z = M' diag(tanh a) G M', the derivative is
    (1 - tanh^2 a_i) sum_j G_ij Q_ij by a_i, and -2 (Z_ij - Z_ji) by the entry (i, j) of S.
    """
    M, scales = at.work, at.work + n * n
    left, right, turned = work, work + n * n, work + 2 * n * n
    for i in range(n):
        scale, acc = load(W, scales + i), fill(0.0)
        for j in range(n):
            g = load(W, slope + i * n + j)
            q = 2.0 * load(W, M + i * n + j) - (1.0 if i == j else 0.0)
            acc = acc + g * q
            store(W, right + j * n + i, scale * g)
            store(W, left + j * n + i, load(W, M + i * n + j))
        store(W, to + i, (1.0 - scale * scale) * acc)
    times_vectors(W, right, n, n, left, n, turned)  # M' diag(tanh a) G
    times_vectors(W, M, n, n, turned, n, left)
    r = to + n
    for i in range(n):
        for j in range(i):
            store(W, r, 2.0 * (load(W, left + j * n + i) - load(W, left + i * n + j)))
            r += 1
