"""Gradients of the log likelihood by one sweep back over the rows.

Evaluations, natural parameter vectors and lanes are those of `_recursion`. Where a gradient alone
is wanted, sensitivities of every entry are too much: the recursion is run forwards once, its states
and residuals are kept, and derivatives are carried from the last row to the first (the adjoint, or
reverse, way; Griewank & Walther, *Evaluating Derivatives*, 2008). Of the system

    yhat_t = C s_t + D u_t + offset,   s_{t+1} = A s_t + B u_t + K e_t,   s_1 = x0

they are, written g(v) for the derivative of the log likelihood by v, times s^2 (s the sequence's
noise level), and w_t for the weights over the noise variances,

    g(yhat_t) = w_t e_t - K' g(s_{t+1}), the latter where y_t is observed
    g(s_t)    = A' g(s_{t+1}) + C' g(yhat_t),   g(s_{T+1}) = 0

    g(A) = sum_t g(s_{t+1}) s_t',   g(B) = sum_t g(s_{t+1}) u_t',   g(K) = sum_t g(s_{t+1}) e_t'
    g(C) = sum_t g(yhat_t) s_t',    g(D) = sum_t g(yhat_t) u_t',    g(offset) = sum_t g(yhat_t)
    g(x0) = g(s_1)

B, D and K are here A B, C B + D and A K of `_recursion`, and have derivatives by these (`_lifted`).
Where there is no gain, the system is that of several rows at once, and a "row" below may stand for
four of the sequence. Derivatives by the chart coordinates of A come last (`_transitions`). The
sweeps are compiled for the sizes at hand (`_written_out`), and go over a block of rows at a time:
what they need of the sequences is put in the lanes block by block, so that it stays in the
first-level cache, and the sums of a block are worked out in registers.
"""

from typing import NamedTuple

from numba import njit

from mtds_sklearn.kernels._lanes import (
    INLINE,
    JIT,
    LANES,
    LEAF,
    choose,
    exp,
    fill,
    load,
    load_number,
    spread,
    store,
)
from mtds_sklearn.kernels._lifted import System, lift, pull_back
from mtds_sklearn.kernels._recursion import (
    begin,
    lanes_between,
    layout,
    load_natural,
    longest_of,
    room,
    same_rows,
)
from mtds_sklearn.kernels._transitions import (
    cayley_pull_back,
    is_modal,
    modal_pull_back,
    row_width,
)
from mtds_sklearn.kernels._written_out import (
    Sizes,
    add_outer,
    has_gain,
    shape_of,
    times,
    together,
    written_out,
)

# Rows whose derivatives are kept until their products are summed: they fit the first-level cache.
BLOCK = 16


class Place(NamedTuple):
    """Where in W things of the sweep stand.

    Attributes
    ----------
    A, B, x0, K, C, D, offset : int
        As in `_recursion.Layout`.
    precision, mark : int
        Of the noise of each output; which lanes a sequence is for.
    squares : int
        Squared residuals of each output.
    A_powers, B_lifted, C_lifted, D_lifted, K_lifted : int
        As in `_lifted.System`.
    A_slope, A_powers_slope, B_lifted_slope, C_lifted_slope, D_lifted_slope, K_lifted_slope : int
        Derivatives by A and by these.
    natural : int
        Derivatives by the natural vector.
    B_slope, x0_slope, K_slope, C_slope, D_slope, offset_slope : int
        Parts of the latter.
    work : int
        Room to pull g(A) back.
    states : int
        g(s) of a block of rows, and one more; on the way forwards the state.
    U, Y, weight : int
        Of a block of rows: inputs, outputs, and the weights of these.
    S, change, errors : int
        States s, g(yhat) and e of all rows.
    end : int
    """

    A: int
    B: int
    x0: int
    K: int
    C: int
    D: int
    offset: int
    precision: int
    mark: int
    squares: int
    A_powers: int
    B_lifted: int
    C_lifted: int
    D_lifted: int
    K_lifted: int
    A_slope: int
    A_powers_slope: int
    B_lifted_slope: int
    C_lifted_slope: int
    D_lifted_slope: int
    K_lifted_slope: int
    natural: int
    B_slope: int
    x0_slope: int
    K_slope: int
    C_slope: int
    D_slope: int
    offset_slope: int
    work: int
    states: int
    U: int
    Y: int
    weight: int
    S: int
    change: int
    errors: int
    end: int


@njit(**INLINE)
def _place(at, shape, gain, L, longest, n_natural):
    """Places of the sweep after those of the recursion; L rows are worked on at once."""
    n, m, p = shape[:3]
    of_A, of_B, of_C, of_D = n * row_width(shape), n * L * m, L * p * n, L * p * L * m
    of_K = n * p if gain else 0
    mark = at.end + p
    squares = mark + 1
    powers = squares + p
    B = powers + 2 * of_A
    C = B + of_B
    D = C + of_C
    K = D + of_D
    A_slope = K + of_K
    powers_slope = A_slope + of_A
    B_slope = powers_slope + 2 * of_A
    C_slope = B_slope + of_B
    D_slope = C_slope + of_C
    K_slope = D_slope + of_D
    natural = K_slope + of_K
    work = natural + n_natural
    states = work + 3 * n * n
    U = states + (BLOCK + 1) * n
    Y = U + BLOCK * L * m
    weight = Y + BLOCK * L * p
    S = weight + BLOCK * L * p
    change = S + longest * n
    errors = change + longest * p
    return Place(
        at.A, at.B, at.x0, at.K, at.C, at.D, at.offset, at.end, mark, squares, powers, B, C, D, K,
        A_slope, powers_slope, B_slope, C_slope, D_slope, K_slope, natural, natural + at.B,
        natural + at.x0, natural + at.K, natural + at.C, natural + at.D, natural + at.offset,
        work, states, U, Y, weight, S, change, errors, errors + longest * p,
    )  # fmt: skip


@written_out
def _run_forwards(at, first, count, sizes: Sizes):
    """States and changes of all rows, and the sums of squares."""
    n, p, L = sizes.n, sizes.p, sizes.together
    of, m = System(at, sizes), L * sizes.m
    state = [at.register(at.states[i]) for i in range(n)]
    squares = [at.register(at.squares[o]) for o in range(p)]
    with at.loop(first, count) as t:
        r = at.minus(t, first)
        u = at.U.row(r, m)
        outputs = times(of.lifted_D, u, [at.offset[o % p] for o in range(L * p)])
        outputs = times(of.lifted_C, state, outputs)
        later = times(of.lifted_A, state, times(of.lifted_B, u, [None] * n))
        errors = []
        for o, yhat in enumerate(outputs):
            error = at.Y.row(r, L * p)[o] - yhat
            weight = at.weight.row(r, L * p)[o] * at.precision[o % p]
            change = weight * error
            squares[o % p].set(squares[o % p] + change * error)
            at.change.row(t, L * p)[o] = change
            errors.append(error.where(weight))
        if sizes.gain:
            later = times(of.lifted_K, errors, later)
            for o in range(p):
                at.errors.row(t, p)[o] = errors[o]
        for i in range(n):
            at.S.row(t, n)[i] = state[i]
            state[i].set(later[i])
    for i in range(n):
        at.states[i] = state[i]
    for o in range(p):
        at.squares[o] = squares[o]


@written_out
def _run_back(at, first, count, sizes: Sizes):
    """g(yhat) and g(s) of a block of rows; g(s) of the row after it is that of the last block."""
    n, p, L = sizes.n, sizes.p, sizes.together
    of = System(at, sizes)
    state = [at.register(at.states[i]) for i in range(n)]
    offset = [at.register(at.offset_slope[o]) for o in range(p)]
    for i in range(n):
        at.states.row(count, n)[i] = state[i]
    with at.loop(first, count, down=True) as t:
        r = at.minus(t, first)
        change = [at.change.row(t, L * p)[o] for o in range(L * p)]
        if sizes.gain:
            fed_back = times(of.lifted_K.T, state, [at.zero] * p)
            for o in range(p):
                change[o] = change[o] - fed_back[o].where(at.weight.row(r, p)[o])
                at.change.row(t, p)[o] = change[o]
        earlier = times(of.lifted_A.T, state, times(of.lifted_C.T, change, [None] * n))
        here = at.states.row(r, n)
        for i in range(n):
            here[i] = earlier[i]
            state[i].set(earlier[i])
        for o in range(L * p):
            offset[o % p].set(offset[o % p] + change[o])
    for o in range(p):
        at.offset_slope[o] = offset[o]


@written_out
def _add_products(at, first, count, sizes: Sizes):
    """Products of a block of rows."""
    n, p, outputs, inputs = sizes.n, sizes.p, sizes.together * sizes.p, sizes.together * sizes.m
    by = System(at, sizes, "_slope")
    later, s, u = (at.states.after(n), n), (at.S.row(first, n), n), (at.U, inputs)
    change = at.change.row(first, outputs), outputs
    products = [
        (by.lifted_A, later, s),
        (by.lifted_C, change, s),
        (by.lifted_B, later, u),
        (by.lifted_D, change, u),
    ]
    if sizes.gain:
        products.append((by.lifted_K, later, (at.errors.row(first, p), p)))
    add_outer(at, count, products)


@njit(**INLINE)
def _spread(W, to, numbers, first, count, between):
    """W[to ..] <- numbers from `first` on; between = (low, high, mark): lanes low .. high - 1."""
    low, high, mark = between
    if high - low == LANES:
        spread(W, to, numbers, first, count)
    elif high - low == 1:
        for i in range(count):
            W[LANES * (to + i) + low] = numbers[first + i]
    else:
        here = lanes_between(W, mark, low, high)
        for i in range(count):
            store(W, to + i, choose(here, load_number(numbers, first + i), load(W, to + i)))


@njit(**LEAF)
def _load_block(W, to, known, e, rows, first, last, again):
    """Rows first .. last - 1 of the evaluations from e on; rows that are not there weigh nothing.

    Lanes without an evaluation of their own get the last one. With `again` only what the way back
    needs.
    """
    m, p = shape_of(known)[1:3]
    first_row, n_rows, data = rows
    final = first_row.shape[0] - 1
    weigh = not again or has_gain(known)
    if weigh:
        for i in range(to.weight, to.weight + (last - first) * p):
            store(W, i, 0.0)
    low = 0
    while low < LANES:
        of, high = min(e + low, final), low + 1
        while high < LANES and same_rows(first_row, n_rows, of, min(e + high, final)):
            high += 1
        row, count = first_row[of] + first, max(min(last, n_rows[of]) - first, 0)
        between = (low, high, to.mark)
        _spread(W, to.U, data[0], row * m, count * m, between)
        if not again:
            _spread(W, to.Y, data[1], row * p, count * p, between)
        if weigh:
            _spread(W, to.weight, data[2], row * p, count * p, between)
        low = high


@njit(**LEAF)
def _sweep_forwards(W, at, to, known, e, rows):
    """States and g(yhat) of all rows of the evaluations from e on; returns the number of rows."""
    shape, L = shape_of(known), together(known)
    count = (longest_of(rows[1][e : e + LANES]) + L - 1) // L
    for i in range(to.squares, to.work):
        store(W, i, 0.0)
    lift(W, to, 0, 0, known)
    for i in range(shape[0]):
        store(W, to.states + i, load(W, at.x0 + i))
    for first in range(0, count, BLOCK):
        last = min(first + BLOCK, count)
        _load_block(W, to, known, e, rows, L * first, L * last, False)
        _run_forwards(W, to, first, last - first, known)
    return count


@njit(**LEAF)
def _sweep_back(W, at, to, known, e, rows, count):
    """g of the natural vector, but for the noise level."""
    shape, L = shape_of(known), together(known)
    n, final = shape[0], count - 1 - (count - 1) % BLOCK
    for i in range(n):
        store(W, to.states + i, 0.0)
    for first in range(final, -1, -BLOCK):
        last = min(first + BLOCK, count)
        if first < final:  # the last block is still there
            _load_block(W, to, known, e, rows, L * first, L * last, True)
        _run_back(W, to, first, last - first, known)
        _add_products(W, to, first, last - first, known)
    pull_back(W, to, 0, 0, known)
    for i in range(n):
        store(W, to.x0_slope + i, load(W, to.states + i))
    if is_modal(shape):
        modal_pull_back(W, at, n, to.A_slope, to.natural)
    else:
        cayley_pull_back(W, at, n, to.A_slope, to.natural, to.work)


@njit(**LEAF)
def _hand_out(W, at, to, active, weight, n_values, precision, e, sse, gradient):
    """Results of the lanes."""
    scale, weighted = exp(-2.0 * load(W, at.level)), fill(0.0)
    for o in range(sse.shape[1]):
        weighted = weighted + load(W, to.squares + o)
    store(W, to.natural + at.level, weighted)
    count = min(LANES, sse.shape[0] - e)
    for h in range(count):
        W[LANES * to.mark + h] = weight[e + h]
    factor = load(W, to.mark)
    for i in range(to.natural, to.natural + at.level + 1):
        store(W, i, factor * scale * load(W, i))
    for h in range(count):
        W[LANES * (to.natural + at.level) + h] -= weight[e + h] * n_values[e + h]
        for o in range(sse.shape[1]):
            sse[e + h, o] = W[LANES * (to.squares + o) + h] / precision[o]
        slopes = gradient[e + h]
        for r in range(active.shape[0]):
            slopes[r] = W[LANES * (to.natural + active[r]) + h]


@njit(**JIT)
def gradient_theta(
    psi, first_row, n_rows, weight, n_values, data, known, active, precision, sse, gradient
):
    """Squared residuals and gradient in the active entries, each evaluation.

    sse (E, p) <- sums of weighted squares, gradient (E, n_active) <- weight d log p(y | psi) /
    d psi in the entries `active` (n_active,) int64, for weight (E,) >= 0 and noise of variance
    s^2 / precision. n_values (E,): observed values. Without a gain its entries have no derivative.
    """
    shape, L = shape_of(known), together(known)
    at = layout(shape, 0, is_modal(shape))
    to = _place(at, shape, has_gain(known), L, longest_of(n_rows) + L - 1, psi.shape[1])
    W, rows = room(to.end), (first_row, n_rows, data)
    for o in range(shape[2]):
        store(W, to.precision + o, precision[o])
    for e in range(0, psi.shape[0], LANES):
        load_natural(W, at, psi, e)
        begin(W, at, shape)
        count = _sweep_forwards(W, at, to, known, e, rows)
        _sweep_back(W, at, to, known, e, rows, count)
        _hand_out(W, at, to, active, weight, n_values, precision, e, sse, gradient)
