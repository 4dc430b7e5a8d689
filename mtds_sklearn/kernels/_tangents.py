"""Derivatives of predicted outputs along a few directions of the natural vector.

Evaluations, natural parameter vectors, `shape`, `data` and lanes are those of `_recursion`. With
psi = loadings z + bias, a latent z_a moves every entry of psi by a known number, loadings[:, a],
the same in all lanes. Written d_a for the derivative by z_a, the recursion becomes

    d_a s_1     = d_a x0
    d_a x_t     = d_a s_t + (d_a B) u_t
    d_a yhat_t  = C (d_a x_t) + (d_a C) x_t + (d_a D) u_t + d_a offset
    d_a r_t     = d_a x_t + (d_a K) e_t - K (d_a yhat_t, where y_t is observed),  r_t = x_t + K e_t
    d_a s_{t+1} = A (d_a r_t) + (d_a A) r_t

with d_a B, .., d_a offset read off the loadings, and d_a A worked out from them once for each
evaluation (`_transitions`). So k tangents of the state are carried from row to row, whatever the
number of entries that the latents move; kinds of entries that none of them moves are left out.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from mtds_sklearn.kernels._lanes import (
    HELPER,
    INLINE,
    LEAF,
    add,
    any_positive,
    load,
    load_number,
    store,
)
from mtds_sklearn.kernels._matrices import (
    times_numbers,
    times_two,
    times_two_four_rows,
    times_vector,
)
from mtds_sklearn.kernels._recursion import (
    advance,
    correct,
    drive,
    forget,
    is_time_to_forget,
    weighted_residual,
)
from mtds_sklearn.kernels._sensitivities import block_rows
from mtds_sklearn.kernels._transitions import (
    cayley_direction,
    is_modal,
    modal_direction,
    row_width,
)


class Directions(NamedTuple):
    """How psi moves with each latent.

    Attributes
    ----------
    slopes : ndarray of shape (k * n_natural,)
        Columns of the loadings, one after the other.
    k, n_natural : int
    A, B, K, C, D, offset : bool
        Whether any latent moves an entry of the kind.
    """

    slopes: np.ndarray
    k: int
    n_natural: int
    A: bool
    B: bool
    K: bool
    C: bool
    D: bool
    offset: bool


class Place(NamedTuple):
    """Where in W tangents begin, after what `_recursion.Layout` has.

    Attributes
    ----------
    columns : int
        Latent dimension, rounded up to a multiple of 3.
    transition : int
        d_a A of each latent, stored as A is.
    work : int
        Room to compute them.
    X : int
        d_a x of each latent, twice: of even and of odd rows.
    change : int
        d_a yhat of observed outputs: k for each.
    J, residual : int
        Jacobian of a block of values, `columns` for each, and their residuals, by the roots of
        their weights.
    squares, seen : int
        Sum of squared residuals, and number of values.
    end : int
    """

    columns: int
    transition: int
    work: int
    X: int
    change: int
    J: int
    residual: int
    squares: int
    seen: int
    end: int


@njit(**LEAF)
def place(end, k, shape):
    """Places from `end` on."""
    n, p = shape[0], shape[2]
    columns = 3 * ((k + 2) // 3)
    rows = p * block_rows(p)
    work = end + k * n * row_width(shape)
    X = work + (0 if is_modal(shape) else 3 * n * n)
    change = X + 2 * k * n
    J = change + k * p
    residual = J + rows * columns
    squares = residual + rows
    return Place(columns, end, work, X, change, J, residual, squares, squares + 1, squares + 2)


@njit(**LEAF)
def _any_moves(loadings, first, last):
    for i in range(first, last):
        for a in range(loadings.shape[1]):
            if loadings[i, a] != 0.0:
                return True
    return False


@njit(**HELPER)
def directions(loadings, at):
    """Directions of loadings (n_natural, k)."""
    n_natural, k = loadings.shape
    slopes = np.empty(k * n_natural)
    for i in range(n_natural):
        for a in range(k):
            slopes[a * n_natural + i] = loadings[i, a]
    return Directions(
        slopes, k, n_natural,
        _any_moves(loadings, at.psi, at.B), _any_moves(loadings, at.B, at.x0),
        _any_moves(loadings, at.K, at.C), _any_moves(loadings, at.C, at.D),
        _any_moves(loadings, at.D, at.offset), _any_moves(loadings, at.offset, at.level),
    )  # fmt: skip


@njit(**LEAF)
def begin_tangents(W, at, to, shape, along):
    """d A, just after `_recursion.begin`; d s of the first row, and empty sums."""
    n, width = shape[0], row_width(shape)
    for a in range(along.k):
        first = a * along.n_natural
        dA = to.transition + a * n * width
        if along.A and is_modal(shape):
            modal_direction(W, at, n, along.slopes, first, dA)
        elif along.A:
            cayley_direction(W, at, n, along.slopes, first, dA, to.work)
        for i in range(n):
            store(W, to.X + a * n + i, load_number(along.slopes, first + at.x0 + i))
    store(W, to.squares, 0.0)
    store(W, to.seen, 0.0)


@njit(**INLINE)
def _push_inputs(W, at, shape, along, X, t):
    """d x <- d s + (d B) u."""
    n, m = shape[0], shape[1]
    for a in range(along.k):
        B = a * along.n_natural + at.B
        times_numbers(W, along.slopes, B, m, n, m, at.U + t * m, X + a * n)


@njit(**INLINE)
def _differentiate(W, at, shape, along, X, o, t, J):
    """J <- d yhat by the root of the weight, of output o in row t."""
    n, m = shape[0], shape[1]
    for a in range(along.k):
        if along.offset:
            store(W, J + a, load_number(along.slopes, a * along.n_natural + at.offset + o))
        else:
            store(W, J + a, 0.0)
    if along.C:
        C = at.C + o * n
        times_numbers(W, along.slopes, C, along.n_natural, along.k, n, at.x, J)
    if along.D:
        D, u = at.D + o * m, at.U + t * m
        times_numbers(W, along.slopes, D, along.n_natural, along.k, m, u, J)
    times_vector(W, X, along.k, n, at.C + o * n, J)
    root = load(W, at.root + t * shape[2] + o)
    for a in range(along.k):
        store(W, J + a, root * load(W, J + a))


@njit(**INLINE)
def _turn_blocks(W, at, to, n, k, X, S):
    """d s <- A (d x) + (d A) x in the modal chart."""
    for i in range(0, n - 1, 2):
        A = at.A + 2 * i
        a, b, c, d = load(W, A), load(W, A + 1), load(W, A + 2), load(W, A + 3)
        x, y = load(W, at.x + i), load(W, at.x + i + 1)
        for h in range(k):
            v, w = load(W, X + h * n + i), load(W, X + h * n + i + 1)
            dA = to.transition + 2 * (h * n + i)
            one = a * v + b * w + load(W, dA) * x + load(W, dA + 1) * y
            other = c * v + d * w + load(W, dA + 2) * x + load(W, dA + 3) * y
            store(W, S + h * n + i, one)
            store(W, S + h * n + i + 1, other)
    if n % 2 == 1:
        a, x = load(W, at.A + 2 * (n - 1)), load(W, at.x + n - 1)
        for h in range(k):
            v, dA = load(W, X + h * n + n - 1), load(W, to.transition + 2 * (h * n + n - 1))
            store(W, S + h * n + n - 1, a * v + dA * x)


@njit(**INLINE)
def _turn_full(W, at, to, n, k, X, S):
    """d s <- A (d x) + (d A) x of a full A: four states and two latents at a time."""
    whole = n - n % 4
    for a in range(0, k, 2):
        b = min(a + 1, k - 1)  # the last of an odd number is worked out twice
        F, G = to.transition + a * n * n, to.transition + b * n * n
        vectors, sums = (X + a * n, X + b * n, at.x), (S + a * n, S + b * n)
        for i in range(0, whole, 4):
            places = (at.A + i * n, F + i * n, G + i * n)
            times_two_four_rows(W, places, n, vectors, (sums[0] + i, sums[1] + i))
        for i in range(whole, n):
            places = (at.A + i * n, F + i * n, G + i * n)
            times_two(W, places, n, vectors, (sums[0] + i, sums[1] + i))


@njit(**INLINE)
def _feed_back(W, at, to, shape, along, X):
    """d x <- d x + (d K) e - K (d yhat)."""
    n, p = shape[0], shape[2]
    for a in range(along.k):
        K = a * along.n_natural + at.K
        for i in range(n):
            acc = load(W, X + a * n + i)
            for o in range(p):
                change = load(W, to.change + o * along.k + a)
                acc = acc - load(W, at.K + i * p + o) * change
                if along.K:
                    slope = load_number(along.slopes, K + i * p + o)
                    acc = acc + slope * load(W, at.error + o)
            store(W, X + a * n + i, acc)


@njit(**INLINE)
def _keep_change(W, to, k, J, o, inverse):
    """Derivatives of output o where it is observed, without the root of the weight."""
    for a in range(k):
        store(W, to.change + o * k + a, inverse * load(W, J + a))


@njit(**LEAF)
def tangent_rows(W, at, to, shape, gain, along, first, last):
    """Rows first .. last - 1: residuals and Jacobian of values that any lane has; their number."""
    n, p = shape[0], shape[2]
    size = along.k * n
    h = 0
    for t in range(first, last):
        X, S = to.X + (t % 2) * size, to.X + (1 - t % 2) * size
        drive(W, at, shape, t, at.s, at.x)
        if is_time_to_forget(t):
            forget(W, X, X + size)
        if along.B:
            _push_inputs(W, at, shape, along, X, t)
        for o in range(p):
            residual = weighted_residual(W, at, shape, gain, o, t)
            root, inverse = load(W, at.root + t * p + o), load(W, at.inverse + t * p + o)
            J = to.J + h * to.columns
            if any_positive(root):
                store(W, to.residual + h, residual)
                add(W, to.squares, residual * residual)
                add(W, to.seen, root * inverse)
                _differentiate(W, at, shape, along, X, o, t, J)
                h += 1
            if gain:
                _keep_change(W, to, along.k, J, o, inverse)
        if gain:
            _feed_back(W, at, to, shape, along, X)
        correct(W, at, shape, gain, at.x)
        if is_modal(shape):
            _turn_blocks(W, at, to, n, along.k, X, S)
        else:
            _turn_full(W, at, to, n, along.k, X, S)
        advance(W, at, shape, at.x, at.s)
    return h
