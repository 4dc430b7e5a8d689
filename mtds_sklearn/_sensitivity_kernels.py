"""Sensitivities of predicted outputs, compiled by numba: gradients and Gauss-Newton matrices.

Evaluations, natural parameter vectors, `shape`, `data` and lanes are those of `_kernels`, whose
recursion is differentiated forwards: S_r = d s / d psi_r is carried from row to row for every
active entry that moves the state. Only the entries listed in `active` (n_active,) int64 are
differentiated; `bounds` (9 integers) says where each of the eight kinds starts in `active`.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from mtds_sklearn._kernels import (
    INLINE,
    JIT,
    LEAF,
    advance,
    begin,
    drive,
    layout,
    load_evaluations,
    n_transition,
    room,
    weighted_residual,
)
from mtds_sklearn._lanes import LANES, any_positive, exp, fill, load, store

# Values whose Jacobian is kept before its products are summed: it fits the first-level cache.
BLOCK = 16


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
    low, high : ndarray of int64, shape (n_active,)
        Entry r can move the states low[r] .. high[r] - 1.
    chart : ndarray of int64, shape (n_active,)
        Which natural entry it is.
    into, source : ndarray of int64, shape (n_active,)
        Of an entry of B or K: the state that it drives, counted from low, and the input or output.
    spans : ndarray of int64, shape (5, n_outputs + 1)
        Rows 0 to 2: where the entries of C, D and offset of each output start; 3 and 4: where
        those of C and D stand in psi.
    """

    n_active: int
    n_dynamic: int
    columns: int
    width: int
    low: np.ndarray
    high: np.ndarray
    chart: np.ndarray
    into: np.ndarray
    source: np.ndarray
    spans: np.ndarray


class Place(NamedTuple):
    """Where in W derivatives begin, after what `_kernels.Layout` has.

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
def _find_supports(active, bounds, shape, gain, low, high, into, source):
    n, m, p, block = shape
    B = n_transition(shape)
    x0 = B + n * m
    for r in range(bounds[4]):
        state = 0
        if r < bounds[1]:
            state = active[r] if block == 2 else 0
        elif r < bounds[2]:
            state, source[r] = divmod(active[r] - B, m)
        elif r < bounds[3]:
            state = active[r] - x0
        else:
            state, source[r] = divmod(active[r] - x0 - n, p)
        if not gain:
            low[r] = (state // block) * block
            high[r] = min(low[r] + block, n)
        into[r] = state - low[r]


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
    low, high = np.zeros(n_active, np.int64), np.full(n_active, n)
    into, source = np.zeros(n_active, np.int64), np.zeros(n_active, np.int64)
    spans = np.zeros((5, p + 1), np.int64)
    _find_supports(active, bounds, shape, gain, low, high, into, source)
    _find_spans(active, bounds, shape, spans)
    width = n if gain else shape[3]
    columns = 3 * ((n_active + 2) // 3)
    return Entries(
        n_active, n_dynamic, columns, width, low, high, active.copy(), into, source, spans
    )


@njit(**LEAF)
def begin_sensitivities(W, to, entries, bounds, p):
    """S of the first row, and empty sums."""
    for i in range(to.S, to.end):
        store(W, i, 0.0)
    for r in range(bounds[2], bounds[3]):
        store(W, to.S + r * entries.width + entries.into[r], 1.0)


@njit(**INLINE)
def _add(W, i, value):
    store(W, i, load(W, i) + value)


@njit(**INLINE)
def _push_inputs(W, at, to, shape, entries, bounds, t):
    """S <- S + d (B u) / d B."""
    for r in range(bounds[1], bounds[2]):
        u = load(W, at.U + t * shape[1] + entries.source[r])
        _add(W, to.S + r * entries.width + entries.into[r], u)


@njit(**INLINE)
def _push_transition(W, at, to, shape, entries, bounds):
    """S <- S + (dA) x."""
    n, block = shape[0], shape[3]
    for r in range(bounds[0], bounds[1]):
        a = entries.chart[r]
        first = (a // block) * block if block == 2 else 0
        S = to.S + r * entries.width + first - entries.low[r]
        d = at.dA + a * block * block
        if block == 2 and first + 1 < n:
            x, y = load(W, at.x + first), load(W, at.x + first + 1)
            _add(W, S, load(W, d) * x + load(W, d + 1) * y)
            _add(W, S + 1, load(W, d + 2) * x + load(W, d + 3) * y)
            continue
        for i in range(min(block, n - first)):
            acc = load(W, S + i)
            for j in range(min(block, n - first)):
                acc = acc + load(W, d + i * block + j) * load(W, at.x + first + j)
            store(W, S + i, acc)


@njit(**INLINE)
def _propagate(W, at, to, shape, entries):
    """S <- A S."""
    block, width = shape[3], entries.width
    for r in range(entries.n_dynamic):
        S, first, count = to.S + r * width, entries.low[r], entries.high[r] - entries.low[r]
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
        error = load(W, at.error + entries.source[r])
        _add(W, to.S + r * entries.width + entries.into[r], error)
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
        S, c = to.S + r * width, C + entries.low[r]
        if width == 2 and entries.high[r] - entries.low[r] == 2:
            store(W, G + r, root * (load(W, c) * load(W, S) + load(W, c + 1) * load(W, S + 1)))
            continue
        acc = fill(0.0)
        for i in range(entries.high[r] - entries.low[r]):
            acc = acc + load(W, c + i) * load(W, S + i)
        store(W, G + r, root * acc)
    for r in range(entries.n_dynamic, entries.n_active):
        store(W, G + r, 0.0)
    for r in range(spans[0, o], spans[0, o + 1]):
        _add(W, G + r, root * load(W, at.x + entries.chart[r] - spans[3, o]))
    for r in range(spans[1, o], spans[1, o + 1]):
        _add(W, G + r, root * load(W, at.U + t * m + entries.chart[r] - spans[4, o]))
    for r in range(spans[2, o], spans[2, o + 1]):
        _add(W, G + r, root)


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
                _add(W, to.squares + o, residual * residual)
                _add(W, to.seen, root * load(W, at.inverse + t * p + o))
                _differentiate(W, at, to, shape, entries, o, t, h)
                h += 1
        _propagate(W, at, to, shape, entries)
        _push_transition(W, at, to, shape, entries, bounds)
        if gain:
            _feed_back(W, at, to, shape, entries, bounds, t, start)
        advance(W, at, shape, gain)
    return h


@njit(**LEAF)
def _add_square_tile(W, a, b, columns, count, rows):
    """Products of three columns from a on with three others from b on; rows: where they go."""
    r0, r1, r2 = rows
    n00, n01, n02 = load(W, r0), load(W, r0 + 1), load(W, r0 + 2)
    n10, n11, n12 = load(W, r1), load(W, r1 + 1), load(W, r1 + 2)
    n20, n21, n22 = load(W, r2), load(W, r2 + 1), load(W, r2 + 2)
    for _ in range(count):
        b0, b1, b2 = load(W, b), load(W, b + 1), load(W, b + 2)
        a0 = load(W, a)
        n00, n01, n02 = n00 + a0 * b0, n01 + a0 * b1, n02 + a0 * b2
        a1 = load(W, a + 1)
        n10, n11, n12 = n10 + a1 * b0, n11 + a1 * b1, n12 + a1 * b2
        a2 = load(W, a + 2)
        n20, n21, n22 = n20 + a2 * b0, n21 + a2 * b1, n22 + a2 * b2
        a, b = a + columns, b + columns
    store(W, r0, n00)
    store(W, r0 + 1, n01)
    store(W, r0 + 2, n02)
    store(W, r1, n10)
    store(W, r1 + 1, n11)
    store(W, r1 + 2, n12)
    store(W, r2, n20)
    store(W, r2 + 1, n21)
    store(W, r2 + 2, n22)


@njit(**LEAF)
def _add_corner_tile(W, a, residual, columns, count, rows, gradient):
    """Products of three columns with themselves and with the residuals."""
    r0, r1, r2 = rows
    n00, n10, n11 = load(W, r0), load(W, r1), load(W, r1 + 1)
    n20, n21, n22 = load(W, r2), load(W, r2 + 1), load(W, r2 + 2)
    g0, g1, g2 = load(W, gradient), load(W, gradient + 1), load(W, gradient + 2)
    for h in range(count):
        a0, a1, a2 = load(W, a), load(W, a + 1), load(W, a + 2)
        e = load(W, residual + h)
        n00, n10, n11 = n00 + a0 * a0, n10 + a1 * a0, n11 + a1 * a1
        n20, n21, n22 = n20 + a2 * a0, n21 + a2 * a1, n22 + a2 * a2
        g0, g1, g2 = g0 + a0 * e, g1 + a1 * e, g2 + a2 * e
        a += columns
    store(W, r0, n00)
    store(W, r1, n10)
    store(W, r1 + 1, n11)
    store(W, r2, n20)
    store(W, r2 + 1, n21)
    store(W, r2 + 2, n22)
    store(W, gradient, g0)
    store(W, gradient + 1, g1)
    store(W, gradient + 2, g2)


@njit(**LEAF)
def add_products(W, G, residual, columns, count, gradient, normal):
    """gradient <- gradient + G' residual, normal <- normal + G' G, lower triangle row by row.

    Three columns by three at a time: nine sums in registers for six numbers read.
    """
    for r in range(0, columns, 3):
        row = normal + r * (r + 1) // 2
        rows = (row, row + r + 1, row + 2 * r + 3)
        for s in range(0, r, 3):
            tile = (rows[0] + s, rows[1] + s, rows[2] + s)
            _add_square_tile(W, G + r, G + s, columns, count, tile)
        tile = (rows[0] + r, rows[1] + r, rows[2] + r)
        _add_corner_tile(W, G + r, residual, columns, count, tile, gradient + r)


@njit(**LEAF)
def _gauss_newton_some(W, at, to, shape, gain, entries, bounds, longest):
    """Sums over all rows of what `Place` says."""
    p = shape[2]
    begin(W, at, shape, True)
    begin_sensitivities(W, to, entries, bounds, p)
    step = block_rows(p)
    for t in range(0, longest, step):
        count = sensitivity_rows(
            W, at, to, shape, gain, entries, bounds, t, min(t + step, longest)
        )
        add_products(W, to.G, to.residual, entries.columns, count, to.gradient, to.normal)


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
        for r in range(n_active * (n_active + 1) // 2):
            normal[e + h, r] = scale * W[LANES * (to.normal + r) + h]
        for r in range(bounds[7], bounds[8]):
            seen = W[LANES * to.seen + h]
            gradient[e + h, r] += scale * weighted - weight[e + h] * seen
            normal[e + h, r * (r + 1) // 2 + r] += weight[e + h] * 2.0 * seen


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
    its exact gradient and its Fisher information, 2 per observed value.
    """
    entries = describe(active, bounds, shape, gain)
    at = layout(shape, n_rows.max() if n_rows.shape[0] > 0 else 0, True)
    to = place(at.end, entries, shape[2])
    W = room(to.end)
    for e in range(0, psi.shape[0], LANES):
        longest = load_evaluations(W, at, shape, psi, first_row, n_rows, e, data, precision)
        _gauss_newton_some(W, at, to, shape, gain, entries, bounds, longest)
        _hand_out(W, at, to, entries, bounds, weight, precision, e, sse, gradient, normal)
