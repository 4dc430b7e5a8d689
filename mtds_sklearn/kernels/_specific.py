"""Departures e of entries in which outputs are linear, integrated out for every particle.

Given z, outputs are yhat + J e with e ~ N(0, I), J the derivatives along `entries`, each times its
`std`: the columns of J follow the recursion of the states with the input of their entry alone and,
where innovations are fed back, minus their own output in the place of the innovation. With weights
and noise in R, residuals r and the noise level s of the particle, the kernel sums

    S = J' R^-1 r / s^2,   G = J' R^-1 J / s^2,

and factorises I + G = L L'. All else (`inference/_specific.py`) is in L and a = L^-1 S. Particles,
entries of psi and transitions are as in `_particles.py`.
"""

import math

import numpy as np
from numba import njit

from mtds_sklearn.kernels._bunches import (
    JIT,
    LANES,
    LEAF,
    advance,
    drive,
    emit,
    innovate,
    load,
    starts,
    workspace,
)
from mtds_sklearn.kernels._kinds import Counts1, Data, Flag, Numbers1, Numbers3, Shape


@njit(**LEAF)
def _place(entry, at, shape, gain, place):
    """place <- (state, input, output, first and last state that moves) of a direction; -1: none."""
    n, m, block = shape[0], shape[1], shape[3]
    for i in range(5):
        place[i] = -1
    if entry < at[1]:
        place[0], place[1] = divmod(entry - at[0], m)
    elif entry < at[2]:
        place[0] = entry - at[1]
    elif entry < at[5]:
        place[2], place[1] = divmod(entry - at[4], m)
    else:
        place[2] = entry - at[5]
    place[3], place[4] = 0, n
    if not gain:
        if place[0] < 0:
            place[4] = 0
        elif block == 2:
            place[3] = place[0] - place[0] % 2
            place[4] = min(place[3] + 2, n)


@njit(**LEAF)
def _input(inputs, row, place):
    """The input of a direction; 0 if it has none."""
    return inputs[row, place[1]] if place[1] >= 0 else 0.0


@njit(**LEAF)
def _push(place, std, u, V, width):
    """The state of a direction <- plus its input u; that of an x0 has none."""
    if place[0] >= 0 and place[1] >= 0 and u != 0.0:
        for r in range(width):
            V[place[0], r] += std * u


@njit(**LEAF)
def _see(P, at, shape, place, o, std, u, V, J, width):
    """J <- what a direction adds to output o."""
    own = 0.0
    if place[2] == o:
        own = std * u if place[1] >= 0 else std
    for r in range(width):
        J[r] = own
    for i in range(place[3], place[4]):
        c = at[3] + o * shape[0] + i
        for r in range(width):
            J[r] += P[c, r] * V[i, r]


@njit(**LEAF)
def _turn(A, first, last, V, width):
    """The two states of a block, or the last one <- a step on."""
    a = 3 * (first // 2)
    if last - first == 2:
        for r in range(width):
            x = V[first, r]
            V[first, r] = A[a, r] * x + A[a + 1, r] * V[first + 1, r]
            V[first + 1, r] = A[a + 2, r] * x + A[a, r] * V[first + 1, r]
    else:
        for r in range(width):
            V[first, r] *= A[a, r]


@njit(**LEAF)
def _go_on(A, P, at, shape, gain, place, weights, row, J, V, back, step, width):
    """The state of a direction <- a step on; what it adds to observed outputs is fed back."""
    if gain or (shape[3] != 2 and place[4] > 0):
        for o in range(J.shape[0]):
            for r in range(width):
                back[o, r] = -J[o, r] if weights[row, o] > 0.0 else 0.0
        advance(A, P, at, shape, gain, V, back, step, width)
        for i in range(V.shape[0]):
            for r in range(width):
                V[i, r] = step[i, r]
    elif place[4] > 0:
        _turn(A, place[3], place[4], V, width)


@njit(**LEAF)
def _add_products(J, error, o, w, S, G, width):
    """S <- plus J' w error, G <- plus J' w J, of output o."""
    g = 0
    for j in range(J.shape[0]):
        for r in range(width):
            S[j, r] += w * J[j, o, r] * error[o, r]
        for h in range(j + 1):
            for r in range(width):
                G[g, r] += w * J[j, o, r] * J[h, o, r]
            g += 1


@njit(**LEAF)
def _begin(places, std, V, S, G, total, width):
    """Sums <- 0, and the states of the directions <- what they are handed at first."""
    for r in range(width):
        for j in range(S.shape[0]):
            S[j, r] = 0.0
            for i in range(V.shape[1]):
                V[j, i, r] = 0.0
            if places[j, 0] >= 0 and places[j, 1] < 0:
                V[j, places[j, 0], r] = std[j]
        for g in range(G.shape[0]):
            G[g, r] = 0.0
        for o in range(total.shape[0]):
            total[o, r] = 0.0


@njit(**LEAF)
def _factorise(G, S, level, width):
    """G <- L, lower triangle by rows, with L L' = I + G / s^2; S <- L^-1 S / s^2; log s given."""
    for j in range(S.shape[0]):
        row = j * (j + 1) // 2
        for r in range(width):
            f = math.exp(-2.0 * level[r])
            S[j, r] *= f
            for h in range(j + 1):
                G[row + h, r] *= f
            G[row + j, r] += 1.0
        for h in range(j + 1):
            other = h * (h + 1) // 2
            for i in range(h):
                for r in range(width):
                    G[row + h, r] -= G[row + i, r] * G[other + i, r]
            if h < j:
                for r in range(width):
                    G[row + h, r] /= G[other + h, r]
        for i in range(j):
            for r in range(width):
                S[j, r] -= G[row + i, r] * S[i, r]
        for r in range(width):
            G[row + j, r] = math.sqrt(G[row + j, r])
            S[j, r] /= G[row + j, r]


@njit(**LEAF)
def _hand_over(source, e, h, width, out):
    """out[e, :, h ..] <- source."""
    for i in range(source.shape[0]):
        for r in range(width):
            out[e, i, h + r] = source[i, r]


@njit(**JIT)
def integrate_out(
    transition: Numbers3,
    psi: Numbers3,
    entries: Counts1,
    std: Numbers1,
    first_row: Counts1,
    n_rows: Counts1,
    data: Data,
    shape: Shape,
    gain: Flag,
    precision: Numbers1,
    squared: Numbers3,
    pulled: Numbers3,
    factor: Numbers3,
):
    """Factors of the posterior of e given each particle, and squared residuals at e = 0.

    entries and std (m,): natural entries, of B, x0, D or offset, and sizes of the directions;
    precision (p,): 1 / noise variance. squared (E, p, n_particles) <- weighted squares at e = 0;
    pulled (E, m, n_particles) <- a; factor (E, m (m + 1) / 2, n_particles) <- L, row by row.
    """
    n, p, m = shape[0], shape[2], len(entries)
    at = starts(psi.shape[1], shape)
    particles = workspace(transition.shape[1], psi.shape[1], shape)
    A, P, s = particles[:3]
    own = (
        np.empty((m, n, LANES)), np.zeros((m, p, LANES)), np.empty((n, LANES)),
        np.empty((p, LANES)), np.empty((m, LANES)), np.empty((factor.shape[1], LANES)),
        np.empty((p, LANES)),
    )  # fmt: skip
    S, G, total = own[4:]
    places = np.empty((m, 5), np.int64)
    for j in range(m):
        _place(entries[j], at, shape, gain, places[j])
    for e in range(psi.shape[0]):
        for h in range(0, psi.shape[2], LANES):
            width = min(LANES, psi.shape[2] - h)
            load(transition, e, 0, transition.shape[1], h, width, A)
            load(psi, e, 0, psi.shape[1], h, width, P)
            load(psi, e, at[1], n, h, width, s)
            _begin(places, std, own[0], S, G, total, width)
            for row in range(first_row[e], first_row[e] + n_rows[e]):
                _run_row(particles, own, places, std, at, shape, gain, data, row, precision, width)
            _factorise(G, S, P[psi.shape[1] - 1], width)
            _hand_over(total, e, h, width, squared)
            _hand_over(S, e, h, width, pulled)
            _hand_over(G, e, h, width, factor)


@njit(**LEAF)
def _run_row(particles, own, places, std, at, shape, gain, data, row, precision, width):
    """One row: the sums it adds, and everything a step on."""
    A, P, s, x, yhat, error = particles
    V, J, step, back, S, G, total = own
    inputs, outputs, weights = data
    m = J.shape[0]
    drive(P, at, shape, inputs, row, s, x, width)
    for j in range(m):
        _push(places[j], std[j], _input(inputs, row, places[j]), V[j], width)
    for o in range(J.shape[1]):
        w = weights[row, o]
        if w > 0.0:
            emit(P, at, shape, o, inputs, row, x, yhat, width)
            for j in range(m):
                u = _input(inputs, row, places[j])
                _see(P, at, shape, places[j], o, std[j], u, V[j], J[j, o], width)
        innovate(outputs, weights, row, o, yhat, error, width)
        if w > 0.0:
            for r in range(width):
                total[o, r] += w * error[o, r] * error[o, r]
            _add_products(J, error, o, w * precision[o], S, G, width)
    advance(A, P, at, shape, gain, x, error, s, width)
    for j in range(m):
        _go_on(A, P, at, shape, gain, places[j], weights, row, J[j], V[j], back, step, width)
