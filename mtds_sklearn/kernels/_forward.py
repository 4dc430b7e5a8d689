"""Forward kernels: predicted outputs of systems, and their squared residuals.

Evaluations, natural parameter vectors, `shape`, `data`, W and `at` are those of `_recursion`. A
kernel writes only to the arguments that its docstring marks with <-.
"""

import numpy as np
from numba import njit

from mtds_sklearn.kernels._kinds import Counts1, Data, Flag, Numbers2, Shape
from mtds_sklearn.kernels._lanes import INLINE, JIT, LANES, LEAF, add, load, store
from mtds_sklearn.kernels._recursion import (
    advance,
    begin,
    correct,
    drive,
    layout,
    load_evaluations,
    longest_of,
    room,
    weighted_residual,
)


@njit(**INLINE)
def innovate(W, at, shape, t):
    """error <- y - yhat, where y is observed."""
    for o in range(shape[2]):
        place = t * shape[2] + o
        seen = load(W, at.root + place) * load(W, at.inverse + place)
        store(W, at.error + o, seen * (load(W, at.Y + place) - load(W, at.yhat + o)))


@njit(**LEAF)
def _hand_on(W, at, h, states):
    """states <- s of lane h."""
    for i in range(states.shape[0]):
        states[i] = W[LANES * (at.s + i) + h]


@njit(**LEAF)
def _simulate_some(W, at, shape, gain, e, longest, n_rows, start, out, end_state):
    width = min(LANES, n_rows.shape[0] - e)
    for h in range(width):
        _hand_on(W, at, h, end_state[e + h])
    for t in range(longest):
        drive(W, at, shape, t, at.s, at.x)
        innovate(W, at, shape, t)
        correct(W, at, shape, gain, at.x)
        advance(W, at, shape, at.x, at.s)
        for h in range(width):
            if t < n_rows[e + h]:
                for o in range(shape[2]):
                    out[start[e + h] + t, o] = W[LANES * (at.yhat + o) + h]
            if t == n_rows[e + h] - 1:
                _hand_on(W, at, h, end_state[e + h])


@njit(**JIT)
def simulate(
    psi: Numbers2,
    first_row: Counts1,
    n_rows: Counts1,
    start: Counts1,
    data: Data,
    shape: Shape,
    gain: Flag,
    out: Numbers2,
    end_state: Numbers2,
):
    """Predicted outputs of every evaluation, and the state handed to the row after the last.

    out[start[e] + t] <- yhat of row t (p,), for start (at least E,) int64;
    end_state (E, n) <- s after the last row.
    """
    ones = np.ones(shape[2])
    at = layout(shape, longest_of(n_rows), False)
    W = room(at.end)
    for e in range(0, psi.shape[0], LANES):
        longest = load_evaluations(W, at, shape, psi, first_row, n_rows, e, data, ones)
        begin(W, at, shape)
        _simulate_some(W, at, shape, gain, e, longest, n_rows, start, out, end_state)


@njit(**LEAF)
def sum_squares(W, at, shape, gain, longest, sums):
    """sums <- sums over the rows of weight (y - yhat)^2."""
    p = shape[2]
    for o in range(p):
        store(W, sums + o, 0.0)
    for t in range(longest):
        drive(W, at, shape, t, at.s, at.x)
        for o in range(p):
            residual = weighted_residual(W, at, shape, gain, o, t)
            add(W, sums + o, residual * residual)
        correct(W, at, shape, gain, at.x)
        advance(W, at, shape, at.x, at.s)


@njit(**JIT)
def squared_residuals(
    psi: Numbers2,
    first_row: Counts1,
    n_rows: Counts1,
    data: Data,
    shape: Shape,
    gain: Flag,
    out: Numbers2,
):
    """out (E, p) <- sums over the rows of weight (y - yhat)^2."""
    p = shape[2]
    ones = np.ones(p)
    at = layout(shape, longest_of(n_rows), False)
    W = room(at.end + p)
    for e in range(0, psi.shape[0], LANES):
        longest = load_evaluations(W, at, shape, psi, first_row, n_rows, e, data, ones)
        begin(W, at, shape)
        sum_squares(W, at, shape, gain, longest, at.end)
        for h in range(min(LANES, psi.shape[0] - e)):
            for o in range(p):
                out[e + h, o] = W[LANES * (at.end + o) + h]
