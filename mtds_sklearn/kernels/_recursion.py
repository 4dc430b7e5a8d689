"""The recursion over packed rows, compiled by numba, eight evaluations side by side.

Everything here works on plain arrays; masks instead of NaN; nothing is drawn at random. One
evaluation `e` pairs one sequence (packed rows `first_row[e]` to `first_row[e] + n_rows[e] - 1`)
with one natural parameter vector (`psi[e]`), so particles, cubature points and starting points are
all the same kind of work. The recursion is

    s_1 = x0
    x_t = s_t + B u_t
    yhat_t = C x_t + D u_t + offset
    e_t = y_t - yhat_t                      (0 where y_t is not observed)
    s_{t+1} = A (x_t + K e_t)

A natural parameter vector psi holds, in this order, the entries of

    A (chart coordinates) | B (n, m) | x0 (n) | K (n, p) | C (p, n) | D (p, m) | offset (p)
    | log noise level (1)

for n states, m inputs, p outputs; `shape = (n, m, p, block)` with block 2 for the modal chart (A is
block diagonal) and n for the Cayley chart (A is full).

For E evaluations the shapes are psi (E, n_natural), first_row and n_rows (E,) int64; data =
(inputs, outputs, weights) are all packed rows, (.., m), (.., p) and (.., p). A weight multiplies
the precision of one value's noise, and is 0 where the value is not observed. A kernel writes only
to the arguments that its docstring marks with <-.

Eight evaluations are worked on side by side, one in each lane (`_lanes`). All that belongs to them
stands in one array W: natural vectors, rows of the sequences, states. `at` (`Layout`) says where;
W[at.x + i] in the comments means the eight numbers of that place. Lanes of shorter sequences run on
with weight 0.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from mtds_sklearn.kernels._lanes import (
    HELPER,
    INLINE,
    LANES,
    LEAF,
    choose,
    fill,
    load,
    rolled,
    store,
)
from mtds_sklearn.kernels._matrices import times_blocks, times_vector
from mtds_sklearn.kernels._transitions import (
    cayley_transition,
    is_modal,
    modal_transition,
    n_transition,
)

# Every so many rows numbers of such squares are taken for zero.
FORGET_EVERY, FORGOTTEN = 64, 1e-200


class Layout(NamedTuple):
    """Where in W things begin, counted in groups of lanes; all int.

    Attributes
    ----------
    psi, B, x0, K, C, D, offset, level : int
        Natural vector, and its parts after the chart coordinates of A.
    A, tangents, work : int
        Of A row by row the columns of the row's own block; its derivative by each of its chart
        coordinates, likewise; room to compute them.
    with_tangents : bool
        Whether there is room for the tangents, so that they are computed.
    s, x, error, yhat : int
        State handed to a row, state of the row (the same place as s, where no input moves it),
        innovations, predicted outputs.
    U, Y, root, inverse : int
        Rows of the sequences: inputs, outputs, roots of the weights and their inverses (0 if 0).
    end : int
        Where the next thing can begin.
    """

    psi: int
    B: int
    x0: int
    K: int
    C: int
    D: int
    offset: int
    level: int
    A: int
    tangents: int
    with_tangents: bool
    work: int
    s: int
    x: int
    error: int
    yhat: int
    U: int
    Y: int
    root: int
    inverse: int
    end: int


@njit(**LEAF)
def layout(shape, longest, with_tangents):
    """Layout for sequences of at most `longest` rows."""
    n, m, p, block = shape
    n_chart = n_transition(shape)
    B = n_chart
    x0 = B + n * m
    K = x0 + n
    C = K + n * p
    D = C + p * n
    offset = D + p * m
    level = offset + p
    A = level + 1
    tangents = A + n * block
    work = tangents + (n_chart * block * block if with_tangents else 0)
    s = work + n * n + n + 1
    x = s if m == 0 and block == 2 else s + n
    error = x + n
    yhat = error + p
    U = yhat + p
    Y = U + longest * m
    root = Y + longest * p
    inverse = root + longest * p
    return Layout(
        0, B, x0, K, C, D, offset, level, A, tangents, with_tangents, work, s, x, error, yhat, U,
        Y, root, inverse, inverse + longest * p,
    )  # fmt: skip


@njit(**LEAF)
def longest_of(n_rows):
    """Largest of some numbers of rows, 0 of none."""
    longest = 0
    for n in n_rows:
        longest = max(longest, n)
    return longest


@njit(**HELPER)
def room(size):
    """Zeros for so many groups of lanes, each in one cache line."""
    buffer = np.zeros(LANES * size + LANES)
    skip = -(buffer.ctypes.data // 8) % LANES
    return buffer[skip : skip + LANES * size]


@njit(**LEAF)
def begin(W, at, shape):
    """Fill A and its tangents, and s <- x0."""
    n = shape[0]
    if is_modal(shape):
        modal_transition(W, at, n)
    else:
        cayley_transition(W, at, n)
    for i in range(n):
        store(W, at.s + i, load(W, at.x0 + i))


@njit(**INLINE)
def _spread(W, to, low, high, here, value):
    """W[to] <- value in the lanes low .. high - 1, where `here` is positive."""
    if high - low == LANES:
        store(W, to, value)
    elif high - low == 1:
        W[LANES * to + low] = value
    else:
        store(W, to, choose(here, fill(value), load(W, to)))


@njit(**INLINE)
def lanes_between(W, work, low, high):
    """1 in the lanes low .. high - 1, else 0; `work` is room for them."""
    for h in range(LANES):
        W[LANES * work + h] = 1.0 if low <= h < high else 0.0
    return load(W, work)


@njit(**LEAF)
def load_rows(W, at, data, first, n_rows, precision, low, high):
    """Rows first .. first + n_rows - 1 to the lanes low .. high - 1."""
    inputs, outputs, weights = data
    m, p = inputs.shape[1], outputs.shape[1]
    here = lanes_between(W, at.work, low, high)
    for t in range(n_rows):
        for j in range(m):
            _spread(W, at.U + t * m + j, low, high, here, inputs[first + t, j])
    for o in range(p):
        whole = math.sqrt(precision[o])  # root of the weight of most values
        its_inverse = 1.0 / whole
        for t in range(n_rows):
            weight, place = weights[first + t, o], t * p + o
            r, inverse = whole, its_inverse
            if weight != 1.0:
                r = math.sqrt(1.0 * weight) * whole
                inverse = 1.0 / r if r > 0.0 else 0.0
            _spread(W, at.Y + place, low, high, here, outputs[first + t, o])
            _spread(W, at.root + place, low, high, here, r)
            _spread(W, at.inverse + place, low, high, here, inverse)


@njit(**LEAF)
def clear_rows(W, at, shape, first, last, low, high):
    """Nothing in rows first .. last - 1 of the lanes low .. high - 1."""
    m, p = shape[1], shape[2]
    here = lanes_between(W, at.work, low, high)
    for t in range(first * m, last * m):
        _spread(W, at.U + t, low, high, here, 0.0)
    for t in range(first * p, last * p):
        _spread(W, at.Y + t, low, high, here, 0.0)
        _spread(W, at.root + t, low, high, here, 0.0)
        _spread(W, at.inverse + t, low, high, here, 0.0)


@njit(**INLINE)
def same_rows(first_row, n_rows, e, f):
    """Whether two evaluations are of the same rows."""
    return first_row[e] == first_row[f] and n_rows[e] == n_rows[f]


@njit(**LEAF)
def load_natural(W, at, psi, e):
    """Natural vectors of the evaluations e to e + 7, or as many as there are, to the lanes."""
    for h in range(LANES):
        of = min(e + h, psi.shape[0] - 1)
        for i in range(psi.shape[1]):
            rolled()
            W[LANES * (at.psi + i) + h] = psi[of, i]


@njit(**LEAF)
def load_evaluations(W, at, shape, psi, first_row, n_rows, e, data, precision):
    """Evaluations e to e + 7, or as many as there are, to the lanes; returns the longest's rows.

    Lanes without an evaluation of their own get the last one.
    """
    last = psi.shape[0] - 1
    longest = longest_of(n_rows[e : e + LANES])
    for low in range(LANES):
        of = min(e + low, last)
        if low > 0 and same_rows(first_row, n_rows, of, min(e + low - 1, last)):
            continue
        high = low + 1
        while high < LANES and same_rows(first_row, n_rows, of, min(e + high, last)):
            high += 1
        load_rows(W, at, data, first_row[of], n_rows[of], precision, low, high)
        clear_rows(W, at, shape, n_rows[of], longest, low, high)
    load_natural(W, at, psi, e)
    return longest


@njit(**INLINE)
def is_time_to_forget(t):
    """Whether what has died out by row t should be left behind."""
    return t % FORGET_EVERY == FORGET_EVERY - 1


@njit(**LEAF)
def forget(W, first, last):
    """W[first .. last - 1] <- 0 where it is next to nothing.

    States that no input moves fade, to numbers so small that a processor takes a hundred times as
    long for each: kernels would be 3 to 20 times slower on sequences of thousands of rows.
    """
    for i in range(first, last):
        value = load(W, i)
        store(W, i, choose(FORGOTTEN - value * value, fill(0.0), value))


@njit(**INLINE)
def drive(W, at, shape, t, s, x):
    """x <- s + B u, yhat <- C x + D u + offset; s and x may be the same place."""
    n, m, p = shape[0], shape[1], shape[2]
    if is_time_to_forget(t):
        forget(W, s, s + n)
    u = at.U + t * m
    if x != s:
        for i in range(n):
            store(W, x + i, load(W, s + i))
    if m > 0:
        times_vector(W, at.B, n, m, u, x)
    for o in range(p):
        store(W, at.yhat + o, load(W, at.offset + o))
    if m > 0:
        times_vector(W, at.D, p, m, u, at.yhat)
    times_vector(W, at.C, p, n, x, at.yhat)


@njit(**INLINE)
def correct(W, at, shape, gain, x):
    """x <- x + K e."""
    if gain:
        times_vector(W, at.K, shape[0], shape[2], at.error, x)


@njit(**INLINE)
def advance(W, at, shape, x, s):
    """s <- A x; in the modal chart s and x may be the same place."""
    n = shape[0]
    if is_modal(shape):
        times_blocks(W, at.A, n, x, s)
    else:
        for i in range(n):
            store(W, s + i, 0.0)
        times_vector(W, at.A, n, n, x, s)


@njit(**INLINE)
def weighted_residual(W, at, shape, gain, o, t):
    """Root of the weight times (y - yhat) of output o; with `gain`, error <- y - yhat."""
    place = t * shape[2] + o
    residual = load(W, at.root + place) * (load(W, at.Y + place) - load(W, at.yhat + o))
    if gain:
        store(W, at.error + o, load(W, at.inverse + place) * residual)
    return residual
