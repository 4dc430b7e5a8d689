"""Sensitivities of predicted outputs, compiled by numba: gradients and Gauss-Newton matrices.

Evaluations, natural parameter vectors, `shape`, `data` and lanes are those of `_recursion`, whose
recursion is differentiated forwards: S_r = d s / d psi_r is carried from row to row for every
active entry that moves the state. Entries and their columns of the Jacobian are those of
`_entries`.
"""

from typing import NamedTuple

from numba import njit

from mtds_sklearn.kernels._entries import (
    COLUMN,
    GROUP,
    HIGH,
    INTO,
    LOW,
    NATURAL,
    SOURCE,
    describe,
)
from mtds_sklearn.kernels._kinds import Bounds, Counts1, Data, Flag, Numbers1, Numbers2, Shape
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
    rolled,
    store,
)
from mtds_sklearn.kernels._matrices import times_blocks, times_vector, times_vectors
from mtds_sklearn.kernels._products import add_products
from mtds_sklearn.kernels._recursion import (
    advance,
    begin,
    correct,
    drive,
    forget,
    is_time_to_forget,
    layout,
    load_evaluations,
    longest_of,
    room,
    weighted_residual,
)
from mtds_sklearn.kernels._transitions import is_modal

# Values whose Jacobian is kept before its products are summed: it fits the first-level cache.
BLOCK = 16


class Place(NamedTuple):
    """Where in W derivatives begin, after what `_recursion.Layout` has.

    Attributes
    ----------
    S : int
        Sensitivities of the state, `width` for each entry.
    step, rows : int
        Time steps of a block of values, and the most rows of the Jacobian of a group in it.
    G, residual : int
        Jacobian of a block of values, `columns` for each, group after group, and their residuals,
        by the roots of their weights.
    gradient, normal, squares, seen : int
        Sums over the rows: G' residual and G' G (lower triangle row by row) of each group, squared
        residuals of each output, number of values.
    end : int
    """

    S: int
    step: int
    rows: int
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
    columns, n_groups = entries.columns, entries.n_groups
    step = BLOCK if n_groups == p else block_rows(p)
    rows = step * p // n_groups
    G = end + entries.n_dynamic * entries.width
    residual = G + n_groups * rows * columns
    gradient = residual + n_groups * rows
    normal = gradient + n_groups * columns
    squares = normal + n_groups * (columns * (columns + 1) // 2)
    seen = squares + p
    return Place(end, step, rows, G, residual, gradient, normal, squares, seen, seen + 1)


@njit(**INLINE)
def block_rows(p):
    """Time steps of a block of values that all outputs share."""
    return max(1, BLOCK // p)


@njit(**LEAF)
def begin_sensitivities(W, to, entries, bounds, p):
    """S of the first row, and empty sums."""
    for i in range(to.S, to.G):
        store(W, i, 0.0)
    for i in range(to.gradient, to.end):
        store(W, i, 0.0)
    for r in range(bounds[2], bounds[3]):
        store(W, to.S + r * entries.width + entries.table[INTO, r], 1.0)


@njit(**INLINE)
def push_inputs(W, at, to, shape, entries, bounds, t):
    """S <- S + d (B u) / d B."""
    for r in range(bounds[1], bounds[2]):
        u = load(W, at.U + t * shape[1] + entries.table[SOURCE, r])
        add(W, to.S + r * entries.width + entries.table[INTO, r], u)


@njit(**INLINE)
def push_transition(W, at, to, shape, entries, bounds):
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
        count = min(size, n - first)
        times_vector(W, d, count, count, at.x + first, S)


@njit(**INLINE)
def propagate(W, at, to, shape, entries):
    """S <- A S."""
    n, width = shape[0], entries.width
    if not is_modal(shape):
        for r in range(0, entries.n_dynamic, 2):
            S, count = to.S + r * n, min(2, entries.n_dynamic - r)
            times_vectors(W, at.A, n, n, S, count, at.work)
            for i in range(count * n):
                store(W, S + i, load(W, at.work + i))
        return
    for r in range(entries.n_dynamic):
        S, first = to.S + r * width, entries.table[LOW, r]
        times_blocks(W, at.A + 2 * first, entries.table[HIGH, r] - first, S, S)


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
def _differentiate(W, at, to, shape, entries, o, t, G):
    """Jacobian row at G: root of the weight times d yhat / d each entry, of output o in row t."""
    m, p, width, spans = shape[1], shape[2], entries.width, entries.spans
    root, table = load(W, at.root + t * p + o), entries.table
    C = at.psi + spans[3, o]
    for r in range(entries.n_dynamic):
        S, c = to.S + r * width, C + table[LOW, r]
        if width == 2 and table[HIGH, r] - table[LOW, r] == 2:
            store(W, G + r, root * (load(W, c) * load(W, S) + load(W, c + 1) * load(W, S + 1)))
            continue
        acc = fill(0.0)
        for i in range(table[HIGH, r] - table[LOW, r]):
            acc = acc + load(W, c + i) * load(W, S + i)
        store(W, G + r, root * acc)
    for r in range(entries.n_dynamic, entries.columns):
        store(W, G + r, 0.0)
    for r in range(spans[0, o], spans[0, o + 1]):
        x = load(W, at.x + table[NATURAL, r] - spans[3, o])
        add(W, G + table[COLUMN, r], root * x)
    for r in range(spans[1, o], spans[1, o + 1]):
        u = load(W, at.U + t * m + table[NATURAL, r] - spans[4, o])
        add(W, G + table[COLUMN, r], root * u)
    for r in range(spans[2, o], spans[2, o + 1]):
        add(W, G + table[COLUMN, r], root)


@njit(**LEAF)
def sensitivity_rows(W, at, to, shape, gain, entries, bounds, first, last):
    """Rows first .. last - 1: residuals and Jacobian of values that any lane has.

    Returns the number of values of the last group: of all, where outputs share the columns.
    """
    p, count = shape[2], entries.count
    for g in range(entries.n_groups):
        count[g] = 0
    for t in range(first, last):
        drive(W, at, shape, t, at.s, at.x)
        if is_time_to_forget(t):
            forget(W, to.S, to.G)
        push_inputs(W, at, to, shape, entries, bounds, t)
        start = count[0]
        for o in range(p):
            residual = weighted_residual(W, at, shape, gain, o, t)
            root = load(W, at.root + t * p + o)
            if any_positive(root):
                group = min(o, entries.n_groups - 1)
                h = group * to.rows + count[group]
                store(W, to.residual + h, residual)
                add(W, to.squares + o, residual * residual)
                add(W, to.seen, root * load(W, at.inverse + t * p + o))
                _differentiate(W, at, to, shape, entries, o, t, to.G + h * entries.columns)
                count[group] += 1
        if gain:
            _feed_back(W, at, to, shape, entries, bounds, t, start)
        correct(W, at, shape, gain, at.x)
        propagate(W, at, to, shape, entries)
        push_transition(W, at, to, shape, entries, bounds)
        advance(W, at, shape, at.x, at.s)
    return count[entries.n_groups - 1]


@njit(**LEAF)
def _gauss_newton_some(W, at, to, shape, gain, entries, bounds, longest):
    """Sums over all rows of what `Place` says; those of the n_dynamic in group 0."""
    columns = entries.columns
    pairs = columns * (columns + 1) // 2
    begin(W, at, shape)
    begin_sensitivities(W, to, entries, bounds, shape[2])
    for t in range(0, longest, to.step):
        last = min(t + to.step, longest)
        sensitivity_rows(W, at, to, shape, gain, entries, bounds, t, last)
        for g in range(entries.n_groups):
            G, residual = to.G + g * to.rows * columns, to.residual + g * to.rows
            count, gradient = entries.count[g], to.gradient + g * columns
            normal = to.normal + g * pairs
            add_products(W, G, residual, columns, count, gradient, normal)
    shared = entries.n_dynamic
    for g in range(1, entries.n_groups):
        for r in range(shared):
            add(W, to.gradient + r, load(W, to.gradient + g * columns + r))
        for r in range(shared * (shared + 1) // 2):
            add(W, to.normal + r, load(W, to.normal + g * pairs + r))


@njit(**LEAF)
def hand_out(W, at, to, entries, bounds, weight, precision, e, sse, gradient, normal):
    """Results of the lanes from their sums."""
    store(W, at.work, exp(-2.0 * load(W, at.level)))
    columns, n_lanes = entries.columns, min(LANES, sse.shape[0] - e)
    for h in range(n_lanes):
        W[LANES * at.work + h] *= weight[e + h]
        for o in range(sse.shape[1]):
            sse[e + h, o] = W[LANES * (to.squares + o) + h] / precision[o]
    scale, k = load(W, at.work), 0
    for r in range(entries.n_active):
        group, column = entries.table[GROUP, r], entries.table[COLUMN, r]
        value = to.gradient + group * columns + column
        if column >= 0:
            store(W, value, scale * load(W, value))
        for h in range(n_lanes):
            rolled()
            gradient[e + h, r] = W[LANES * value + h] if column >= 0 else 0.0
        value = to.normal + group * (columns * (columns + 1) // 2) + column * (column + 1) // 2
        for _ in range(column + 1):
            store(W, value, scale * load(W, value))
            for h in range(n_lanes):
                rolled()
                normal[e + h, k] = W[LANES * value + h]
            value, k = value + 1, k + 1
    for r in range(bounds[7], bounds[8]):
        for h in range(n_lanes):
            seen, weighted = weight[e + h] * W[LANES * to.seen + h], 0.0
            for o in range(sse.shape[1]):
                weighted += W[LANES * (to.squares + o) + h]
            gradient[e + h, r] = W[LANES * at.work + h] * weighted - seen
            normal[e + h, k] = 2.0 * seen


@njit(**JIT)
def gauss_newton_theta(
    psi: Numbers2,
    first_row: Counts1,
    n_rows: Counts1,
    weight: Numbers1,
    data: Data,
    shape: Shape,
    gain: Flag,
    active: Counts1,
    bounds: Bounds,
    precision: Numbers1,
    sse: Numbers2,
    gradient: Numbers2,
    normal: Numbers2,
):
    """Squared residuals, gradient and Gauss-Newton matrix in the active entries, each evaluation.

    With R^-1 = diag(precision) / s^2 (s the sequence's noise level), G the Jacobian of yhat and r
    the residuals: sse (E, p) <- their sums of weighted squares, gradient (E, n_active)
    <- weight G' R^-1 r = weight d log p(y | psi) / d psi, normal (E, n_normal)
    <- weight G' R^-1 G, for weight (E,) >= 0: of its lower triangle, row by row, the entries that
    can differ from zero. The noise entry gets its exact gradient and its Fisher information, 2 per
    observed value.
    """
    entries = describe(active, bounds, shape, gain)
    at = layout(shape, longest_of(n_rows), True)
    to = place(at.end, entries, shape[2])
    W = room(to.end)
    for e in range(0, psi.shape[0], LANES):
        longest = load_evaluations(W, at, shape, psi, first_row, n_rows, e, data, precision)
        _gauss_newton_some(W, at, to, shape, gain, entries, bounds, longest)
        hand_out(W, at, to, entries, bounds, weight, precision, e, sse, gradient, normal)
