"""Levenberg-Marquardt on the latents of sequences, compiled by numba.

Evaluations, natural parameter vectors, `shape`, `data` and lanes are those of `_recursion`, active
entries and their sums those of `_sensitivities`. Every lane climbs from a start of its own;
when it has arrived, the next start takes its place, so that lanes are idle at the end only.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from mtds_sklearn.kernels._entries import NATURAL, describe
from mtds_sklearn.kernels._lanes import (
    INLINE,
    JIT,
    LANES,
    LEAF,
    any_positive,
    choose,
    exp,
    fill,
    load,
    square_root,
    store,
)
from mtds_sklearn.kernels._products import add_products
from mtds_sklearn.kernels._recursion import (
    begin,
    clear_rows,
    layout,
    load_rows,
    room,
)
from mtds_sklearn.kernels._sensitivities import (
    begin_sensitivities,
    block_rows,
    place,
    sensitivity_rows,
)

FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 0.01, 1e-9, 1e8


class Climb(NamedTuple):
    """Where in W the climb's numbers begin; matrices are lower triangles row by row.

    Attributes
    ----------
    columns : int
        Latent dimension, rounded up to a multiple of 3.
    J : int
        Jacobian of a block of values in z, `columns` for each.
    z, gradient, hessian, value : int
        Where each lane stands, and the objective and its derivatives there.
    trial, g, H, new : int
        The same at the point that is tried.
    factor, damping : int
        Cholesky factor of the damped matrix, and the damping.
    end : int
    """

    columns: int
    J: int
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
def _climb_places(end, k, p):
    """Places from `end` on."""
    columns = 3 * ((k + 2) // 3)
    pairs = columns * (columns + 1) // 2
    z = end + p * block_rows(p) * columns
    gradient = z + columns
    hessian = gradient + columns
    value = hessian + pairs
    trial = value + 1
    g = trial + columns
    H = g + columns
    new = H + pairs
    factor = new + 1
    damping = factor + pairs
    return Climb(
        columns, end, z, gradient, hessian, value, trial, g, H, new, factor, damping, damping + 1
    )


@njit(**INLINE)
def _pair(i, j):
    """Place of entry (i, j), j <= i, in a lower triangle."""
    return i * (i + 1) // 2 + j


@njit(**LEAF)
def _natural_parameters(W, at, to, bias, loadings):
    """psi <- bias + loadings z, at the points that are tried."""
    for i in range(bias.shape[0]):
        acc = fill(bias[i])
        for a in range(loadings.shape[1]):
            if loadings[i, a] != 0.0:
                acc = acc + loadings[i, a] * load(W, to.trial + a)
        store(W, at.psi + i, acc)


@njit(**LEAF)
def _latent_jacobian(W, of, to, entries, loadings, count):
    """J <- G loadings."""
    for h in range(count):
        G, J = of.G + h * entries.columns, to.J + h * to.columns
        for a in range(to.columns):
            store(W, J + a, 0.0)
        for a in range(0, loadings.shape[1] - 1, 2):
            first, second = fill(0.0), fill(0.0)
            for r in range(entries.n_active):
                g = load(W, G + r)
                first = first + loadings[entries.table[NATURAL, r], a] * g
                second = second + loadings[entries.table[NATURAL, r], a + 1] * g
            store(W, J + a, first)
            store(W, J + a + 1, second)
        if loadings.shape[1] % 2 == 1:
            a = loadings.shape[1] - 1
            acc = fill(0.0)
            for r in range(entries.n_active):
                acc = acc + loadings[entries.table[NATURAL, r], a] * load(W, G + r)
            store(W, J + a, acc)


@njit(**LEAF)
def _evaluate(W, at, of, to, shape, gain, entries, bounds, bias, loadings, longest):
    """Objective, gradient and Gauss-Newton matrix at the points that are tried.

    new <- log p(y | z) - |z|^2 / 2 up to constants, g <- its gradient, H <- I + J' R^-1 J.
    """
    k, p = loadings.shape[1], shape[2]
    _natural_parameters(W, at, to, bias, loadings)
    begin(W, at, shape)
    begin_sensitivities(W, of, entries, bounds, p)
    for i in range(to.g, to.new):
        store(W, i, 0.0)
    step = block_rows(p)
    for t in range(0, longest, step):
        count = sensitivity_rows(W, at, of, shape, gain, entries, bounds, t, min(t + step, longest))
        _latent_jacobian(W, of, to, entries, loadings, count)
        add_products(W, to.J, of.residual, to.columns, count, to.g, to.H)
    log_level = load(W, at.level)
    scale, seen = exp(-2.0 * log_level), load(W, of.seen)
    weighted = fill(0.0)
    for o in range(p):
        weighted = weighted + scale * load(W, of.squares + o)
    objective = -0.5 * weighted - seen * log_level
    last = bias.shape[0] - 1
    for a in range(k):
        z = load(W, to.trial + a)
        objective = objective - 0.5 * z * z
        slope = loadings[last, a] * (weighted - seen)
        store(W, to.g + a, scale * load(W, to.g + a) + slope - z)
        for b in range(a + 1):
            noise = (2.0 * loadings[last, a] * loadings[last, b]) * seen
            store(W, to.H + _pair(a, b), scale * load(W, to.H + _pair(a, b)) + noise)
        store(W, to.H + _pair(a, a), load(W, to.H + _pair(a, a)) + 1.0)
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
    """Put starts in idle lanes.

    rows = (first_row, n_rows, data); lanes = (of, steps, queue): the evaluation of each lane (-1:
    none), its steps so far, the next start.
    """
    first_row, n_rows, data = rows
    of, steps, queue = lanes
    for h in range(LANES):
        if of[h] >= 0 or queue[0] >= z.shape[0]:
            continue
        e = queue[0]
        queue[0] += 1
        of[h], steps[h] = e, 0
        for a in range(z.shape[1]):
            W[LANES * (to.trial + a) + h] = z[e, a]
        W[LANES * to.damping + h] = FIRST_DAMPING
        load_rows(W, at, data, first_row[e], n_rows[e], precision, h, h + 1)
        clear_rows(W, at, shape, n_rows[e], longest, h, h + 1)


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
def _climb_all(
    W, at, of, to, shape, gain, entries, bounds, bias, loadings, rows, precision, lanes, longest,
    max_steps, tol, z, objective, hessian,
):  # fmt: skip
    """Work until the queue is empty and every lane is idle."""
    _fill_lanes(W, at, to, shape, rows, z, precision, lanes, longest)
    while lanes[0].max() >= 0:
        here = 0
        for h in range(LANES):
            if lanes[0][h] >= 0:
                here = max(here, rows[1][lanes[0][h]])
        _evaluate(W, at, of, to, shape, gain, entries, bounds, bias, loadings, here)
        _judge(W, to, lanes, max_steps, tol, at.work)
        accepted = load(W, at.work)
        if any_positive(accepted):
            _accept(W, to, accepted)
        _collect(W, to, lanes, z, objective, hessian)
        _step(W, to, z.shape[1])
        _fill_lanes(W, at, to, shape, rows, z, precision, lanes, longest)


@njit(**JIT)
def maximize_latent(
    z, bias, loadings, first_row, n_rows, data, shape, gain, active, bounds, precision,
    max_steps, tol, objective, hessian,
):  # fmt: skip
    """Levenberg-Marquardt on log p(y | z) + log p(z), each evaluation from its own start z[e].

    psi = loadings z + bias. z (E, k) <- the modes found, objective (E,) <- log posterior up to
    constants, hessian (E, k, k) <- the Gauss-Newton matrix I + J' R^-1 J there. Damping times the
    diagonal: 0.01, x 0.2 after a success, x 6 after a failure; stops when a success gains less
    than tol.
    """
    longest = n_rows.max() if n_rows.shape[0] > 0 else 0
    entries = describe(active, bounds, shape, gain, True)
    at = layout(shape, longest, True)
    of = place(at.end, entries, shape[2])
    to = _climb_places(of.end, z.shape[1], shape[2])
    W = room(to.end)
    lanes = (np.full(LANES, -1), np.zeros(LANES, np.int64), np.zeros(1, np.int64))
    rows = (first_row, n_rows, data)
    _climb_all(
        W, at, of, to, shape, gain, entries, bounds, bias, loadings, rows, precision, lanes,
        longest, max_steps, tol, z, objective, hessian,
    )  # fmt: skip
