"""Gauss-Newton matrices where outputs are many and observed together, compiled by numba.

Without a gain what an output moves with is linear in numbers that no output has for its own: with
S_r the sensitivity of the state in entry r,

    d yhat_o / d psi_r = C_o S_r,    d yhat_o / d C_o = x,    d yhat_o / d D_o = u,

and 1 for the offset. So with v = (S, x, u, 1, residuals of all outputs) and weights w_t that all
outputs of a row have, sums of products of the Jacobian's columns follow from M = sum_t w_t v v'. Of
eight outputs and six states M has 780 entries, the Jacobians of the outputs 1848.

Everything else is as in `_sensitivities`; charts are modal.
"""

from typing import NamedTuple

from numba import njit

from mtds_sklearn.kernels._entries import COLUMN, HIGH, LOW, SOURCE, describe
from mtds_sklearn.kernels._kinds import Bounds, Counts1, Data, Numbers1, Numbers2, Shape
from mtds_sklearn.kernels._lanes import (
    INLINE,
    JIT,
    LANES,
    LEAF,
    add,
    any_positive,
    fill,
    load,
    store,
)
from mtds_sklearn.kernels._products import add_products
from mtds_sklearn.kernels._recursion import (
    advance,
    begin,
    drive,
    forget,
    is_time_to_forget,
    layout,
    load_evaluations,
    longest_of,
    room,
)
from mtds_sklearn.kernels._sensitivities import (
    begin_sensitivities,
    hand_out,
    place,
    propagate,
    push_inputs,
    push_transition,
)


class Together(NamedTuple):
    """Where in W sums of all outputs begin, after what `_sensitivities.Place` has.

    Attributes
    ----------
    columns : int
        Length of v, rounded up to a multiple of 3.
    V, none : int
        v of a block of rows by the roots of their weights; zeros, one for each row.
    pulls, products : int
        Nothing, and M (lower triangle row by row).
    end : int
    """

    columns: int
    V: int
    none: int
    pulls: int
    products: int
    end: int


@njit(**LEAF)
def _together(end, entries, shape, n_rows):
    """Places from `end` on, for blocks of `n_rows` rows."""
    columns = entries.n_dynamic * entries.width + shape[0] + shape[1] + 1 + shape[2]
    columns = 3 * ((columns + 2) // 3)
    none = end + n_rows * columns
    pulls = none + n_rows
    products = pulls + columns
    return Together(columns, end, none, pulls, products, products + columns * (columns + 1) // 2)


@njit(**INLINE)
def _keep_row(W, at, to, by, shape, entries, t):
    """v of row t, of the rows that any lane observes."""
    n, m, p = shape[0], shape[1], shape[2]
    root = load(W, at.root + t * p)
    if not any_positive(root):
        return
    v, size = by.V + entries.count[0] * by.columns, entries.n_dynamic * entries.width
    for i in range(size):
        store(W, v + i, root * load(W, to.S + i))
    v += size
    for i in range(n):
        store(W, v + i, root * load(W, at.x + i))
    v += n
    for j in range(m):
        store(W, v + j, root * load(W, at.U + t * m + j))
    store(W, v + m, root)
    for o in range(p):
        error = load(W, at.Y + t * p + o) - load(W, at.yhat + o)
        store(W, v + m + 1 + o, root * error)
    add(W, to.seen, float(p) * root * load(W, at.inverse + t * p))
    entries.count[0] += 1


@njit(**LEAF)
def _seen_by(W, entries, row, c, r):
    """sum_i C_oi M[.., S_ri] in a row of M, C_o at c: what output o sees of entry r."""
    low, acc = entries.table[LOW, r], fill(0.0)
    for i in range(entries.table[HIGH, r] - low):
        acc = acc + load(W, c + low + i) * load(W, row + r * entries.width + i)
    return acc


@njit(**LEAF)
def _share_state(W, at, M, shape, entries, precision, normal):
    """The matrix of the entries that move the state, of all outputs together."""
    n, width, table = shape[0], entries.width, entries.table
    for i in range(n):
        for j in range(n):
            acc = fill(0.0)
            for o in range(shape[2]):
                c = at.C + o * n
                scale = precision[o] / precision[0]
                acc = acc + scale * load(W, c + i) * load(W, c + j)
            store(W, at.work + i * n + j, acc)
    for r in range(entries.n_dynamic):
        for q in range(r + 1):
            acc = fill(0.0)
            for i in range(table[HIGH, r] - table[LOW, r]):
                for j in range(table[HIGH, q] - table[LOW, q]):
                    seen = load(W, at.work + (table[LOW, r] + i) * n + table[LOW, q] + j)
                    one, other = r * width + i, q * width + j
                    if other > one:  # of an entry with itself
                        one, other = other, one
                    acc = acc + seen * load(W, M + one * (one + 1) // 2 + other)
            store(W, normal + r * (r + 1) // 2 + q, acc)


@njit(**LEAF)
def _share_own(W, at, by, shape, entries, scale, o, gradient, normal):
    """What the entries of C, D and offset of output o have with all entries and the residuals."""
    table, spans, size = entries.table, entries.spans, entries.n_dynamic * entries.width
    residual = size + shape[0] + shape[1] + 1 + o
    residuals = by.products + residual * (residual + 1) // 2
    for h in range(3):
        for r in range(spans[h, o], spans[h, o + 1]):
            column, source = table[COLUMN, r], size + table[SOURCE, r]
            store(W, gradient + column, scale * load(W, residuals + source))
            row, to = by.products + source * (source + 1) // 2, normal + column * (column + 1) // 2
            for q in range(entries.n_dynamic):
                seen = _seen_by(W, entries, row, at.C + o * shape[0], q)
                store(W, to + q, scale * seen)
            for g in range(h + 1):
                for q in range(spans[g, o], min(spans[g, o + 1], r + 1)):
                    product = load(W, row + size + table[SOURCE, q])
                    store(W, to + table[COLUMN, q], scale * product)


@njit(**LEAF)
def _share_out(W, at, to, by, shape, entries, precision):
    """Sums of Jacobian columns, as `_sensitivities.Place` has them, from those of all outputs."""
    n, m, p = shape[0], shape[1], shape[2]
    columns, size = entries.columns, entries.n_dynamic * entries.width
    _share_state(W, at, by.products, shape, entries, precision, to.normal)
    for o in range(p):
        residual, scale = size + n + m + 1 + o, precision[o] / precision[0]
        row = by.products + residual * (residual + 1) // 2
        store(W, to.squares + o, scale * load(W, row + residual))
        for r in range(entries.n_dynamic):
            add(W, to.gradient + r, scale * _seen_by(W, entries, row, at.C + o * n, r))
        gradient = to.gradient + o * columns
        normal = to.normal + o * (columns * (columns + 1) // 2)
        _share_own(W, at, by, shape, entries, scale, o, gradient, normal)


@njit(**LEAF)
def _sums(W, at, to, by, shape, entries, bounds, longest):
    """M over all rows."""
    begin(W, at, shape)
    begin_sensitivities(W, to, entries, bounds, shape[2])
    for i in range(by.pulls, by.end):
        store(W, i, 0.0)
    for t in range(longest):
        drive(W, at, shape, t, at.s, at.x)
        if is_time_to_forget(t):
            forget(W, to.S, to.G)
        push_inputs(W, at, to, shape, entries, bounds, t)
        _keep_row(W, at, to, by, shape, entries, t)
        if entries.count[0] == to.step or t == longest - 1:
            count = entries.count[0]
            add_products(W, by.V, by.none, by.columns, count, by.pulls, by.products)
            entries.count[0] = 0
        propagate(W, at, to, shape, entries)
        push_transition(W, at, to, shape, entries, bounds)
        advance(W, at, shape, at.x, at.s)


@njit(**JIT)
def gauss_newton_together(
    psi: Numbers2,
    first_row: Counts1,
    n_rows: Counts1,
    weight: Numbers1,
    data: Data,
    shape: Shape,
    active: Counts1,
    bounds: Bounds,
    precision: Numbers1,
    sse: Numbers2,
    gradient: Numbers2,
    normal: Numbers2,
):
    """As `_sensitivities.gauss_newton_theta` without a gain.

    The values of a row of `data` must all have the same weight.
    """
    entries = describe(active, bounds, shape, False)
    at = layout(shape, longest_of(n_rows), True)
    to = place(at.end, entries, shape[2])
    by = _together(to.end, entries, shape, to.step)
    W = room(by.end)
    for e in range(0, psi.shape[0], LANES):
        longest = load_evaluations(W, at, shape, psi, first_row, n_rows, e, data, precision)
        _sums(W, at, to, by, shape, entries, bounds, longest)
        _share_out(W, at, to, by, shape, entries, precision)
        hand_out(W, at, to, entries, bounds, weight, precision, e, sse, gradient, normal)
