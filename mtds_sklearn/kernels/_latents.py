"""Levenberg-Marquardt on the latents of sequences, compiled by numba.

Evaluations, natural parameter vectors, `shape`, `data` and lanes are those of `_recursion`,
derivatives in z those of `_tangents`. Every lane climbs from a start of its own; when it has
arrived, the next start takes its place, so that lanes are idle at the end only.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from mtds_sklearn.kernels._kinds import (
    Count,
    Counts1,
    Data,
    Flag,
    Number,
    Numbers1,
    Numbers2,
    Numbers3,
    Shape,
)
from mtds_sklearn.kernels._lanes import (
    INLINE,
    JIT,
    LANES,
    LEAF,
    add,
    any_positive,
    choose,
    exp,
    load,
    load_number,
    square_root,
    store,
)
from mtds_sklearn.kernels._products import add_products
from mtds_sklearn.kernels._recursion import (
    begin,
    clear_rows,
    layout,
    load_rows,
    longest_of,
    room,
    same_rows,
)
from mtds_sklearn.kernels._sensitivities import block_rows
from mtds_sklearn.kernels._tangents import (
    begin_tangents,
    directions,
    place,
    tangent_rows,
)
from mtds_sklearn.kernels._transitions import is_modal

FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 0.01, 1e-9, 1e8


class Climb(NamedTuple):
    """Where in W the climb's numbers begin; matrices are lower triangles row by row.

    Attributes
    ----------
    z, gradient, hessian, value : int
        Where each lane stands, and the objective and its derivatives there.
    trial, g, H, new : int
        The same at the point that is tried.
    factor, damping : int
        Cholesky factor of the damped matrix, and the damping.
    end : int
    """

    z: int
    gradient: int
    hessian: int
    value: int
    trial: int
    g: int
    H: int
    new: int
    factor: int
    damping: int
    end: int


@njit(**LEAF)
def _climb_places(z, columns):
    """Places from `z` on; `columns` is that of the Jacobian."""
    pairs = columns * (columns + 1) // 2
    gradient = z + columns
    hessian = gradient + columns
    value = hessian + pairs
    trial = value + 1
    g = trial + columns
    H = g + columns
    new = H + pairs
    factor = new + 1
    damping = factor + pairs
    return Climb(z, gradient, hessian, value, trial, g, H, new, factor, damping, damping + 1)


@njit(**INLINE)
def _pair(i, j):
    """Place of entry (i, j), j <= i, in a lower triangle."""
    return i * (i + 1) // 2 + j


@njit(**LEAF)
def _natural_parameters(W, at, to, bias, along):
    """psi <- bias + loadings z, at the points that are tried."""
    for i in range(along.n_natural):
        acc = load_number(bias, i)
        for a in range(along.k):
            acc = acc + load_number(along.slopes, a * along.n_natural + i) * load(W, to.trial + a)
        store(W, at.psi + i, acc)


@njit(**LEAF)
def _evaluate(W, at, of, to, shape, gain, along, bias, longest):
    """Objective, gradient and Gauss-Newton matrix at the points that are tried.

    new <- log p(y | z) - |z|^2 / 2 up to constants, g <- its gradient, H <- I + J' R^-1 J.
    """
    _natural_parameters(W, at, to, bias, along)
    begin(W, at, shape)
    begin_tangents(W, at, of, shape, along)
    for i in range(to.g, to.new):
        store(W, i, 0.0)
    step = block_rows(shape[2])
    for t in range(0, longest, step):
        count = tangent_rows(W, at, of, shape, gain, along, t, min(t + step, longest))
        add_products(W, of.J, of.residual, of.columns, count, to.g, to.H)
    log_level, seen = load(W, at.level), load(W, of.seen)
    scale = exp(-2.0 * log_level)
    weighted = scale * load(W, of.squares)
    objective = -0.5 * weighted - seen * log_level
    for a in range(along.k):
        z = load(W, to.trial + a)
        objective = objective - 0.5 * z * z
        level = load_number(along.slopes, a * along.n_natural + at.level)
        store(W, to.g + a, scale * load(W, to.g + a) + level * (weighted - seen) - z)
        for b in range(a + 1):
            noise = 2.0 * level * load_number(along.slopes, b * along.n_natural + at.level)
            store(W, to.H + _pair(a, b), scale * load(W, to.H + _pair(a, b)) + noise * seen)
        add(W, to.H + _pair(a, a), 1.0)
    store(W, to.new, objective)


@njit(**LEAF)
def _step(W, to, k):
    """trial <- z + (H + damping diag H)^-1 g by Cholesky; NaN where that is not definite."""
    L = to.factor
    for i in range(k):
        for j in range(i + 1):
            acc = load(W, to.hessian + _pair(i, j))
            if i == j:
                acc = acc + load(W, to.damping) * acc
            for h in range(j):
                acc = acc - load(W, L + _pair(i, h)) * load(W, L + _pair(j, h))
            if i == j:
                store(W, L + _pair(i, i), 1.0 / square_root(acc))
            else:
                store(W, L + _pair(i, j), acc * load(W, L + _pair(j, j)))
    for i in range(k):
        acc = load(W, to.gradient + i)
        for h in range(i):
            acc = acc - load(W, L + _pair(i, h)) * load(W, to.trial + h)
        store(W, to.trial + i, acc * load(W, L + _pair(i, i)))
    for i in range(k - 1, -1, -1):
        acc = load(W, to.trial + i)
        for h in range(i + 1, k):
            acc = acc - load(W, L + _pair(h, i)) * load(W, to.trial + h)
        store(W, to.trial + i, acc * load(W, L + _pair(i, i)))
    for i in range(k):
        store(W, to.trial + i, load(W, to.trial + i) + load(W, to.z + i))


@njit(**LEAF)
def _accept(W, to, accepted):
    """What was tried is where a lane stands, where `accepted` is positive."""
    for i in range(to.value - to.z + 1):
        store(W, to.z + i, choose(accepted, load(W, to.trial + i), load(W, to.z + i)))


@njit(**LEAF)
def _fill_lanes(W, at, to, shape, rows, z, precision, lanes, longest):
    """Put starts in idle lanes, at once where neighbours are to climb for the same sequence.

    rows = (first_row, n_rows, data); lanes = (of, steps, queue): the evaluation of each lane (-1:
    none), its steps so far, the next start.
    """
    first_row, n_rows, data = rows
    of, steps, queue = lanes
    low = 0
    while low < LANES and queue[0] < z.shape[0]:
        first, high = queue[0], low
        while (
            high < LANES
            and of[high] < 0
            and queue[0] < z.shape[0]
            and same_rows(first_row, n_rows, first, queue[0])
        ):
            of[high], steps[high] = queue[0], 0
            for a in range(z.shape[1]):
                W[LANES * (to.trial + a) + high] = z[queue[0], a]
            W[LANES * to.damping + high] = FIRST_DAMPING
            queue[0] += 1
            high += 1
        if high > low:
            load_rows(W, at, data, first_row[first], n_rows[first], precision, low, high)
            clear_rows(W, at, shape, n_rows[first], longest, low, high)
        low = max(high, low + 1)


@njit(**LEAF)
def _judge(W, to, lanes, max_steps, tol, mark):
    """Whether the tried points are accepted (mark <- 1), new dampings, and who has arrived.

    Arrived: -2 - e in place of the evaluation e.
    """
    of, steps = lanes[:2]
    for h in range(LANES):
        W[LANES * mark + h] = 0.0
        if of[h] < 0:
            continue
        new, value = W[LANES * to.new + h], W[LANES * to.value + h]
        damping = W[LANES * to.damping + h]
        done = steps[h] >= max_steps
        if steps[h] == 0 or new > value:
            W[LANES * mark + h] = 1.0
            if steps[h] > 0:
                damping = max(0.2 * damping, LEAST_DAMPING)
                done = done or new - value < tol
        else:
            damping *= 6.0
            done = done or damping > MOST_DAMPING
        W[LANES * to.damping + h] = damping
        steps[h] += 1
        if done:
            of[h] = -2 - of[h]


@njit(**LEAF)
def _collect(W, to, lanes, z, objective, hessian):
    """Results of the lanes that have arrived, which then are idle."""
    of = lanes[0]
    for h in range(LANES):
        if of[h] >= -1:
            continue
        e = -2 - of[h]
        of[h] = -1
        objective[e] = W[LANES * to.value + h]
        for a in range(z.shape[1]):
            z[e, a] = W[LANES * (to.z + a) + h]
            for b in range(a + 1):
                entry = W[LANES * (to.hessian + _pair(a, b)) + h]
                hessian[e, a, b] = entry
                hessian[e, b, a] = entry


@njit(**LEAF)
def _longest(of, n_rows):
    """Rows of the longest sequence that a lane has, 0 where all are idle."""
    most = 0
    for h in range(LANES):
        if of[h] >= 0:
            most = max(most, n_rows[of[h]])
    return most


@njit(**JIT)
def maximize_latent(
    z: Numbers2,
    bias: Numbers1,
    loadings: Numbers2,
    first_row: Counts1,
    n_rows: Counts1,
    data: Data,
    shape: Shape,
    gain: Flag,
    precision: Numbers1,
    max_steps: Count,
    tol: Number,
    objective: Numbers1,
    hessian: Numbers3,
):
    """Levenberg-Marquardt on log p(y | z) + log p(z), each evaluation from its own start z[e].

    psi = loadings z + bias. z (E, k) <- the modes found, objective (E,) <- log posterior up to
    constants, hessian (E, k, k) <- the Gauss-Newton matrix I + J' R^-1 J there. Damping times the
    diagonal: 0.01, x 0.2 after a success, x 6 after a failure; stops when a success gains less
    than tol.
    """
    longest = longest_of(n_rows)
    at = layout(shape, longest, is_modal(shape))
    along = directions(loadings, at)
    of = place(at.end, z.shape[1], shape)
    to = _climb_places(of.end, of.columns)
    W = room(to.end)
    lanes = (np.zeros(LANES, np.int64), np.zeros(LANES, np.int64), np.zeros(1, np.int64))
    for h in range(LANES):
        lanes[0][h] = -1
    rows = (first_row, n_rows, data)
    _fill_lanes(W, at, to, shape, rows, z, precision, lanes, longest)
    here = _longest(lanes[0], n_rows)
    while here > 0:
        _evaluate(W, at, of, to, shape, gain, along, bias, here)
        _judge(W, to, lanes, max_steps, tol, at.work)
        accepted = load(W, at.work)
        if any_positive(accepted):
            _accept(W, to, accepted)
        _collect(W, to, lanes, z, objective, hessian)
        _step(W, to, z.shape[1])
        _fill_lanes(W, at, to, shape, rows, z, precision, lanes, longest)
        here = _longest(lanes[0], n_rows)
