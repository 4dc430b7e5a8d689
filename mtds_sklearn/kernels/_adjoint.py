"""Gradients of the log likelihood by one sweep back over the rows.

Evaluations, natural parameter vectors, `shape`, `data` and lanes are those of `_recursion`. Where a
gradient alone is wanted, sensitivities of every entry are too much: the recursion is run forwards
once, its states and residuals are kept, and derivatives are carried from the last row to the first
(the adjoint, or reverse, way; Griewank & Walther, *Evaluating Derivatives*, 2008). Written g(v) for
the derivative of the log likelihood by v, times s^2 (s the sequence's noise level), and w_t for the
weights over the noise variances,

    g(yhat_t) = w_t e_t - K' g(s_{t+1}), the latter where y_t is observed
    g(x_t)    = A' g(s_{t+1}) + C' g(yhat_t),   g(s_t) = g(x_t),   g(s_{T+1}) = 0

    g(A) = sum_t g(s_{t+1}) x_t',   g(B) = sum_t g(x_t) u_t',   g(K) = sum_t g(s_{t+1}) e_t'
    g(C) = sum_t g(yhat_t) x_t',    g(D) = sum_t g(yhat_t) u_t',  g(offset) = sum_t g(yhat_t)
    g(x0) = g(s_1)

and g(A) is turned into derivatives by the chart coordinates of A at the end (`_transitions`). The
sums are worked out for a few rows at a time, so that they stay in registers meanwhile.
"""

from typing import NamedTuple

from numba import njit

from mtds_sklearn.kernels._lanes import JIT, LANES, LEAF, add, exp, fill, load, store
from mtds_sklearn.kernels._matrices import add_outer, times_blocks, transpose_times
from mtds_sklearn.kernels._recursion import (
    advance,
    begin,
    drive,
    layout,
    load_evaluations,
    longest_of,
    room,
    weighted_residual,
)
from mtds_sklearn.kernels._transitions import (
    cayley_pull_back,
    is_modal,
    modal_pull_back,
    row_width,
)

# Rows whose derivatives are kept until their products are summed: they fit the first-level cache.
BLOCK = 16


class Place(NamedTuple):
    """Where in W things of the sweep begin, after what `_recursion.Layout` has.

    Attributes
    ----------
    X, residual : int
        States x of all rows, and one more; weighted residuals of all rows.
    states, outputs, errors : int
        g(s) of a block of rows, and one more; g(yhat) and e of these rows.
    A, natural : int
        g(A), stored as A is; g of the natural vector.
    work : int
        Room to pull g(A) back.
    squares, seen : int
        Squared residuals of each output, number of values.
    end : int
    """

    X: int
    residual: int
    states: int
    outputs: int
    errors: int
    A: int
    natural: int
    work: int
    squares: int
    seen: int
    end: int


@njit(**LEAF)
def _place(end, shape, longest, n_natural):
    """Places from `end` on."""
    n, p = shape[0], shape[2]
    residual = end + (longest + 1) * n
    states = residual + longest * p
    outputs = states + (BLOCK + 1) * n
    errors = outputs + BLOCK * p
    A = errors + BLOCK * p
    natural = A + n * row_width(shape)
    work = natural + n_natural
    squares = work + 3 * n * n
    seen = squares + p
    return Place(end, residual, states, outputs, errors, A, natural, work, squares, seen, seen + 1)


@njit(**LEAF)
def _run_forwards(W, at, to, shape, gain, longest):
    """States and residuals of all rows, and the sums of squares."""
    n, p = shape[0], shape[2]
    for i in range(n):
        store(W, to.X + i, load(W, at.x0 + i))
    for i in range(to.squares, to.end):
        store(W, i, 0.0)
    for t in range(longest):
        x = to.X + t * n
        drive(W, at, shape, t, x, x)
        for o in range(p):
            place = t * p + o
            residual = weighted_residual(W, at, shape, gain, o, t)
            store(W, to.residual + place, residual)
            add(W, to.squares + o, residual * residual)
            add(W, to.seen, load(W, at.root + place) * load(W, at.inverse + place))
        advance(W, at, shape, gain, x, x + n)


@njit(**LEAF)
def _back_one_row(W, at, to, shape, gain, t, r):
    """g(yhat) and g(s) of row t, the row r of its block."""
    n, p = shape[0], shape[2]
    later, here, outputs = to.states + (r + 1) * n, to.states + r * n, to.outputs + r * p
    if gain:
        for o in range(p):
            store(W, outputs + o, 0.0)
        transpose_times(W, at.K, n, p, later, outputs)
    for o in range(p):
        place = t * p + o
        root, residual = load(W, at.root + place), load(W, to.residual + place)
        change = root * residual
        if gain:
            inverse = load(W, at.inverse + place)
            store(W, to.errors + r * p + o, inverse * residual)
            change = change - root * inverse * load(W, outputs + o)
        store(W, outputs + o, change)
        add(W, to.natural + at.offset + o, change)
    if is_modal(shape):
        times_blocks(W, at.A, n, later, here, 2)
    else:
        for i in range(n):
            store(W, here + i, 0.0)
        transpose_times(W, at.A, n, n, later, here)
    transpose_times(W, at.C, p, n, outputs, here)


@njit(**LEAF)
def _add_products(W, at, to, shape, gain, first, count):
    """Products of the rows first .. first + count - 1."""
    n, m, p = shape[0], shape[1], shape[2]
    later, x, u = to.states + n, to.X + first * n, at.U + first * m
    if is_modal(shape):
        for i in range(0, n, 2):
            size = min(2, n - i)
            add_outer(W, later + i, x + i, (size, size), (n, n), count, to.A + 2 * i)
    else:
        add_outer(W, later, x, (n, n), (n, n), count, to.A)
    add_outer(W, to.outputs, x, (p, n), (p, n), count, to.natural + at.C)
    if m > 0:
        add_outer(W, to.states, u, (n, m), (n, m), count, to.natural + at.B)
        add_outer(W, to.outputs, u, (p, m), (p, m), count, to.natural + at.D)
    if gain:
        add_outer(W, later, to.errors, (n, p), (n, p), count, to.natural + at.K)


@njit(**LEAF)
def _sweep_back(W, at, to, shape, gain, longest):
    """g of the natural vector, but for the noise level."""
    n = shape[0]
    for i in range(to.A, to.work):
        store(W, i, 0.0)
    n_blocks = (longest + BLOCK - 1) // BLOCK
    count = longest - (n_blocks - 1) * BLOCK
    for i in range(n):
        store(W, to.states + count * n + i, 0.0)
    for block in range(n_blocks - 1, -1, -1):
        first = block * BLOCK
        for r in range(count - 1, -1, -1):
            _back_one_row(W, at, to, shape, gain, first + r, r)
        _add_products(W, at, to, shape, gain, first, count)
        count = BLOCK
        for i in range(n):
            store(W, to.states + count * n + i, load(W, to.states + i))
    for i in range(n):
        store(W, to.natural + at.x0 + i, load(W, to.states + BLOCK * n + i))
    if is_modal(shape):
        modal_pull_back(W, at, n, to.A, to.natural)
    else:
        cayley_pull_back(W, at, n, to.A, to.natural, to.work)


@njit(**LEAF)
def _hand_out(W, at, to, active, weight, precision, e, sse, gradient):
    """Results of the lanes."""
    scale, weighted = exp(-2.0 * load(W, at.level)), fill(0.0)
    for o in range(sse.shape[1]):
        weighted = weighted + load(W, to.squares + o)
    for i in range(to.natural, to.natural + at.level):
        store(W, i, scale * load(W, i))
    store(W, to.natural + at.level, scale * weighted - load(W, to.seen))
    for h in range(min(LANES, sse.shape[0] - e)):
        for o in range(sse.shape[1]):
            sse[e + h, o] = W[LANES * (to.squares + o) + h] / precision[o]
        for r in range(active.shape[0]):
            gradient[e + h, r] = weight[e + h] * W[LANES * (to.natural + active[r]) + h]


@njit(**JIT)
def gradient_theta(
    psi, first_row, n_rows, weight, data, shape, gain, active, precision, sse, gradient
):
    """Squared residuals and gradient in the active entries, each evaluation.

    sse (E, p) <- sums of weighted squares, gradient (E, n_active) <- weight d log p(y | psi) /
    d psi in the entries `active` (n_active,) int64, for weight (E,) >= 0 and noise of variance
    s^2 / precision. Without a gain its entries have no derivative.
    """
    longest = longest_of(n_rows)
    at = layout(shape, longest, is_modal(shape))
    to = _place(at.end, shape, longest, psi.shape[1])
    W = room(to.end)
    for e in range(0, psi.shape[0], LANES):
        here = load_evaluations(W, at, shape, psi, first_row, n_rows, e, data, precision)
        begin(W, at, shape)
        _run_forwards(W, at, to, shape, gain, here)
        _sweep_back(W, at, to, shape, gain, here)
        _hand_out(W, at, to, active, weight, precision, e, sse, gradient)
