"""Sensitivities of predicted outputs, compiled by numba: gradients and Gauss-Newton matrices.

Evaluations, natural parameter vectors, `shape`, `data` and lanes are those of `_recursion`, whose
recursion is differentiated forwards: S_r = d s / d psi_r is carried from row to row for every
active entry that moves the state. Only the entries listed in `active` (n_active,) int64 are
differentiated; `bounds` (9 integers) says where each of the eight kinds starts in `active`.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from mtds_sklearn.kernels._lanes import (
    INLINE,
    JIT,
    LANES,
    LEAF,
    add,
    any_positive,
    exp,
    fill,
    load,
    store,
)
from mtds_sklearn.kernels._products import add_gradient, add_products
from mtds_sklearn.kernels._recursion import (
    advance,
    begin,
    drive,
    layout,
    load_evaluations,
    room,
    weighted_residual,
)
from mtds_sklearn.kernels._transitions import n_transition

# Values whose Jacobian is kept before its products are summed: it fits the first-level cache.
BLOCK = 16
LOW, HIGH, NATURAL, INTO, SOURCE = range(5)


class Entries(NamedTuple):
    """What the active entries are; their numbers count within `active`.

    Attributes
    ----------
    n_active, n_dynamic : int
        How many there are, and how many of them, the first, can move the state.
    columns : int
        n_active, rounded up to a multiple of 3.
    width : int
        Most states that one of them can move.
    table : ndarray of int64, shape (5, n_active)
        Entry r can move the states table[LOW, r] .. table[HIGH, r] - 1; it is the natural entry
        table[NATURAL, r]; an entry of B or K drives the state table[INTO, r], counted from LOW, by
        the input or output table[SOURCE, r].
    spans : ndarray of int64, shape (5, n_outputs + 1)
        Rows 0 to 2: where the entries of C, D and offset of each output start; 3 and 4: where
        those of C and D stand in psi.
    """

    n_active: int
    n_dynamic: int
    columns: int
    width: int
    table: np.ndarray
    spans: np.ndarray


class Place(NamedTuple):
    """Where in W derivatives begin, after what `_recursion.Layout` has.

    Attributes
    ----------
    S : int
        Sensitivities of the state, `width` for each entry.
    G, residual : int
        Jacobian of a block of values, `columns` for each, and their residuals, by the roots of
        their weights.
    gradient, normal, squares, seen : int
        Sums over the rows: G' residual, G' G (lower triangle row by row), squared residuals of
        each output, number of values.
    end : int
    """

    S: int
    G: int
    residual: int
    gradient: int
    normal: int
    squares: int
    seen: int
    end: int


@njit(**LEAF)
def place(end, entries, p):
    """Places from `end` on."""
    columns = entries.columns
    rows = p * block_rows(p)
    G = end + entries.n_dynamic * entries.width
    residual = G + rows * columns
    gradient = residual + rows
    normal = gradient + columns
    squares = normal + columns * (columns + 1) // 2
    return Place(end, G, residual, gradient, normal, squares, squares + p, squares + p + 1)


@njit(**INLINE)
def block_rows(p):
    """Rows of a block of values."""
    return max(1, BLOCK // p)


@njit(**LEAF)
def _find_supports(active, bounds, shape, gain, table):
    n, m, p, block = shape
    B = n_transition(shape)
    x0 = B + n * m
    for r in range(active.shape[0]):
        table[LOW, r], table[HIGH, r], table[NATURAL, r] = 0, n, active[r]
    for r in range(bounds[4]):
        state = 0
        if r < bounds[1]:
            state = active[r] if block == 2 else 0
        elif r < bounds[2]:
            state, table[SOURCE, r] = divmod(active[r] - B, m)
        elif r < bounds[3]:
            state = active[r] - x0
        else:
            state, table[SOURCE, r] = divmod(active[r] - x0 - n, p)
        if not gain:
            table[LOW, r] = (state // block) * block
            table[HIGH, r] = min(table[LOW, r] + block, n)
        table[INTO, r] = state - table[LOW, r]


@njit(**LEAF)
def _find_spans(active, bounds, shape, spans):
    n, m, p = shape[0], shape[1], shape[2]
    base = n_transition(shape) + n * m + n + n * p
    for h in range(3):
        width = n if h == 0 else (m if h == 1 else 1)
        r = bounds[4 + h]
        for o in range(p + 1):
            while r < bounds[5 + h] and active[r] < base + o * width:
                r += 1
            spans[h, o] = r
            if h < 2:
                spans[3 + h, o] = base + o * width
        base += p * width


@njit(**JIT)
def describe(active, bounds, shape, gain):
    """Entries of `active`. With a gain every entry but the noise's moves every state."""
    n, p = shape[0], shape[2]
    n_active = active.shape[0]
    n_dynamic = bounds[7] if gain else bounds[3]
    table, spans = np.zeros((5, n_active), np.int64), np.zeros((5, p + 1), np.int64)
    _find_supports(active, bounds, shape, gain, table)
    _find_spans(active, bounds, shape, spans)
    width = n if gain else shape[3]
    columns = 3 * ((n_active + 2) // 3)
    return Entries(n_active, n_dynamic, columns, width, table, spans)


@njit(**LEAF)
def begin_sensitivities(W, to, entries, bounds, p):
    """S of the first row, and empty sums."""
    for i in range(to.S, to.end):
        store(W, i, 0.0)
    for r in range(bounds[2], bounds[3]):
        store(W, to.S + r * entries.width + entries.table[INTO, r], 1.0)


@njit(**INLINE)
def _push_inputs(W, at, to, shape, entries, bounds, t):
    """S <- S + d (B u) / d B."""
    for r in range(bounds[1], bounds[2]):
        u = load(W, at.U + t * shape[1] + entries.table[SOURCE, r])
        add(W, to.S + r * entries.width + entries.table[INTO, r], u)


@njit(**INLINE)
def _push_transition(W, at, to, shape, entries, bounds):
    """S <- S + (dA) x."""
    n, block = shape[0], shape[3]
    size = min(block, n)  # of a tangent; a full chart of two states has the block 3
    for r in range(bounds[0], bounds[1]):
        a = entries.table[NATURAL, r]
        first = (a // block) * block if block == 2 else 0
        S = to.S + r * entries.width + first - entries.table[LOW, r]
        d = at.tangents + a * size * size
        if block == 2 and first + 1 < n:
            x, y = load(W, at.x + first), load(W, at.x + first + 1)
            add(W, S, load(W, d) * x + load(W, d + 1) * y)
            add(W, S + 1, load(W, d + 2) * x + load(W, d + 3) * y)
            continue
        for i in range(min(size, n - first)):
            acc = load(W, S + i)
            for j in range(min(size, n - first)):
                acc = acc + load(W, d + i * size + j) * load(W, at.x + first + j)
            store(W, S + i, acc)


@njit(**INLINE)
def _propagate(W, at, to, shape, entries):
    """S <- A S."""
    block, width = shape[3], entries.width
    for r in range(entries.n_dynamic):
        S, first, count = (
            to.S + r * width,
            entries.table[LOW, r],
            entries.table[HIGH, r] - entries.table[LOW, r],
        )
        if block == 2:
            for i in range(0, count - 1, 2):
                A = at.A + 2 * (first + i)
                a, b = load(W, S + i), load(W, S + i + 1)
                store(W, S + i, load(W, A) * a + load(W, A + 1) * b)
                store(W, S + i + 1, load(W, A + 2) * a + load(W, A + 3) * b)
            if count % 2 == 1:
                last = load(W, at.A + 2 * (first + count - 1))
                store(W, S + count - 1, last * load(W, S + count - 1))
            continue
        for i in range(count):
            acc = load(W, at.A + i * count) * load(W, S)
            for j in range(1, count):
                acc = acc + load(W, at.A + i * count + j) * load(W, S + j)
            store(W, at.work + i, acc)
        for i in range(count):
            store(W, S + i, load(W, at.work + i))


@njit(**INLINE)
def _feed_back(W, at, to, shape, entries, bounds, t, h):
    """S <- S + (dK) e + K de, for the values h, h + 1, .. of row t."""
    n, p = shape[0], shape[2]
    for r in range(bounds[3], bounds[4]):
        error = load(W, at.error + entries.table[SOURCE, r])
        add(W, to.S + r * entries.width + entries.table[INTO, r], error)
    for o in range(p):
        inverse = load(W, at.inverse + t * p + o)
        if any_positive(inverse):
            for r in range(entries.n_dynamic):
                change = inverse * load(W, to.G + h * entries.columns + r)
                S = to.S + r * entries.width
                for i in range(n):
                    store(W, S + i, load(W, S + i) - load(W, at.K + i * p + o) * change)
            h += 1


@njit(**INLINE)
def _differentiate(W, at, to, shape, entries, o, t, h):
    """Jacobian row h: root of the weight times d yhat / d each entry, of output o in row t."""
    m, p, width, spans = shape[1], shape[2], entries.width, entries.spans
    root = load(W, at.root + t * p + o)
    G = to.G + h * entries.columns
    C = at.psi + spans[3, o]
    for r in range(entries.n_dynamic):
        S, c = to.S + r * width, C + entries.table[LOW, r]
        if width == 2 and entries.table[HIGH, r] - entries.table[LOW, r] == 2:
            store(W, G + r, root * (load(W, c) * load(W, S) + load(W, c + 1) * load(W, S + 1)))
            continue
        acc = fill(0.0)
        for i in range(entries.table[HIGH, r] - entries.table[LOW, r]):
            acc = acc + load(W, c + i) * load(W, S + i)
        store(W, G + r, root * acc)
    for r in range(entries.n_dynamic, entries.n_active):
        store(W, G + r, 0.0)
    for r in range(spans[0, o], spans[0, o + 1]):
        add(W, G + r, root * load(W, at.x + entries.table[NATURAL, r] - spans[3, o]))
    for r in range(spans[1, o], spans[1, o + 1]):
        add(W, G + r, root * load(W, at.U + t * m + entries.table[NATURAL, r] - spans[4, o]))
    for r in range(spans[2, o], spans[2, o + 1]):
        add(W, G + r, root)


@njit(**LEAF)
def sensitivity_rows(W, at, to, shape, gain, entries, bounds, first, last):
    """Rows first .. last - 1: residuals and Jacobian of values that any lane has; their number."""
    p = shape[2]
    h = 0
    for t in range(first, last):
        drive(W, at, shape, t)
        _push_inputs(W, at, to, shape, entries, bounds, t)
        start = h
        for o in range(p):
            residual = weighted_residual(W, at, shape, gain, o, t)
            root = load(W, at.root + t * p + o)
            if any_positive(root):
                store(W, to.residual + h, residual)
                add(W, to.squares + o, residual * residual)
                add(W, to.seen, root * load(W, at.inverse + t * p + o))
                _differentiate(W, at, to, shape, entries, o, t, h)
                h += 1
        _propagate(W, at, to, shape, entries)
        _push_transition(W, at, to, shape, entries, bounds)
        if gain:
            _feed_back(W, at, to, shape, entries, bounds, t, start)
        advance(W, at, shape, gain)
    return h


@njit(**LEAF)
def _gauss_newton_some(W, at, to, shape, gain, entries, bounds, longest, with_normal):
    """Sums over all rows of what `Place` says."""
    p = shape[2]
    begin(W, at, shape)
    begin_sensitivities(W, to, entries, bounds, p)
    step = block_rows(p)
    for t in range(0, longest, step):
        count = sensitivity_rows(W, at, to, shape, gain, entries, bounds, t, min(t + step, longest))
        if with_normal:
            add_products(W, to.G, to.residual, entries.columns, count, to.gradient, to.normal)
        else:
            add_gradient(W, to.G, to.residual, entries.columns, count, to.gradient)


@njit(**LEAF)
def _hand_out(W, at, to, entries, bounds, weight, precision, e, sse, gradient, normal):
    """Results of the lanes from their sums."""
    store(W, at.work, exp(-2.0 * load(W, at.level)))
    n_active = entries.n_active
    for h in range(min(LANES, sse.shape[0] - e)):
        scale = weight[e + h] * W[LANES * at.work + h]
        weighted = 0.0
        for o in range(sse.shape[1]):
            square = W[LANES * (to.squares + o) + h]
            sse[e + h, o] = square / precision[o]
            weighted += square
        for r in range(n_active):
            gradient[e + h, r] = scale * W[LANES * (to.gradient + r) + h]
        seen = weight[e + h] * W[LANES * to.seen + h]
        for r in range(bounds[7], bounds[8]):
            gradient[e + h, r] += scale * weighted - seen
        if normal.shape[0] == 0:
            continue
        for r in range(n_active * (n_active + 1) // 2):
            normal[e + h, r] = scale * W[LANES * (to.normal + r) + h]
        for r in range(bounds[7], bounds[8]):
            normal[e + h, r * (r + 1) // 2 + r] += 2.0 * seen


@njit(**JIT)
def gauss_newton_theta(
    psi, first_row, n_rows, weight, data, shape, gain, active, bounds, precision,
    sse, gradient, normal,
):  # fmt: skip
    """Squared residuals, gradient and Gauss-Newton matrix in the active entries, each evaluation.

    With R^-1 = diag(precision) / s^2 (s the sequence's noise level), G the Jacobian of yhat and r
    the residuals: sse (E, p) <- their sums of weighted squares, gradient (E, n_active)
    <- weight G' R^-1 r = weight d log p(y | psi) / d psi, normal (E, n_active (n_active + 1) / 2)
    <- weight G' R^-1 G, its lower triangle row by row, for weight (E,) >= 0. The noise entry gets
    its exact gradient and its Fisher information, 2 per observed value. With room for no matrix,
    normal (0, ..), only the gradient is computed, which takes a fraction of the time.
    """
    entries = describe(active, bounds, shape, gain)
    at = layout(shape, n_rows.max() if n_rows.shape[0] > 0 else 0, True)
    to = place(at.end, entries, shape[2])
    W = room(to.end)
    for e in range(0, psi.shape[0], LANES):
        longest = load_evaluations(W, at, shape, psi, first_row, n_rows, e, data, precision)
        with_normal = normal.shape[0] > 0
        _gauss_newton_some(W, at, to, shape, gain, entries, bounds, longest, with_normal)
        _hand_out(W, at, to, entries, bounds, weight, precision, e, sse, gradient, normal)
