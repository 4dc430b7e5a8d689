"""Particles that are run through the rows of their sequences, compiled by numba.

Particles of one sequence stand side by side in the last axis, and eight of them are worked on
together, one in each lane; W, `at`, rows in lanes, the order of a natural parameter vector psi,
`shape`, `data` and `gain` are those of `_recursion`. In place of the chart coordinates of A these
kernels read its entries, `transition`: of each 2x2 block the diagonal, the upper and the lower one,
then the pole of an odd last state; or, if `block` is not 2, all of A row by row.
"""

import numpy as np
from numba import njit

from mtds_sklearn.kernels._forward import innovate
from mtds_sklearn.kernels._kinds import (
    Counts1,
    FixedCounts1,
    FixedFlags2,
    FixedNumbers2,
    Flag,
    Numbers3,
    Shape,
    several,
)
from mtds_sklearn.kernels._lanes import INLINE, JIT, LANES, LEAF, load, load_at, store, store_at
from mtds_sklearn.kernels._recursion import (
    advance,
    correct,
    drive,
    layout,
    load_rows,
    longest_of,
    room,
)
from mtds_sklearn.kernels._transitions import is_modal


@njit(**INLINE)
def load_side_by_side(W, to, source, place, first, last):
    """W[to ..] <- eight columns of the rows first .. last - 1 of a table, or the last ones again.

    source holds tables, flat; place = (n_rows, n_columns, e, h): columns from h on of table e.
    """
    n_rows, n_columns, e, h = place
    start = (e * n_rows + first) * n_columns + h
    if h + LANES <= n_columns:
        for i in range(last - first):
            store(W, to + i, load_at(source, start + i * n_columns))
        return
    for i in range(last - first):
        for lane in range(LANES):
            W[LANES * (to + i) + lane] = source[
                start + i * n_columns + min(lane, n_columns - 1 - h)
            ]


@njit(**INLINE)
def hand_out(W, place, out, n_columns, row, h):
    """Columns h .. h + 7 of a row of `out` (flat) <- lanes of W[place], as many as there are."""
    first = row * n_columns + h
    if h + LANES <= n_columns:
        store_at(out, first, load(W, place))
        return
    for lane in range(n_columns - h):
        out[first + lane] = W[LANES * place + lane]


@njit(**LEAF)
def _load_transition(W, at, shape, transition, place):
    """A <- its entries."""
    n = shape[0]
    if not is_modal(shape):
        load_side_by_side(W, at.A, transition, place, 0, place[0])
        return
    load_side_by_side(W, at.work, transition, place, 0, place[0])
    for i in range(0, n - 1, 2):
        entry = at.work + 3 * (i // 2)
        for place in range(3):
            store(W, at.A + 2 * i + place, load(W, entry + place))
        store(W, at.A + 2 * i + 3, load(W, entry))
    if n % 2 == 1:
        store(W, at.A + 2 * (n - 1), load(W, at.work + 3 * (n // 2)))


@njit(**LEAF)
def _load_parameters(W, at, gain, psi, place):
    """What a recursion needs of the natural vectors beside A and the state."""
    load_side_by_side(W, at.B, psi, place, at.B, at.x0)
    if gain:
        load_side_by_side(W, at.K, psi, place, at.K, at.C)
    load_side_by_side(W, at.C, psi, place, at.C, at.level)


@njit(**JIT)
def simulate(
    transition: Numbers3,
    psi: Numbers3,
    state: Numbers3,
    rows: several(FixedCounts1, Counts1, Counts1, Counts1),
    data: several(FixedNumbers2, FixedNumbers2, FixedFlags2),
    shape: Shape,
    gain: Flag,
    out: Numbers3,
):
    """out[row, o, s] <- predicted output o of particle s, one sequence after the other.

    rows = (first_row, n_rows, n_skipped, start), one entry per sequence each: rows first_row to
    first_row + n_rows - 1 are run through, the first n_skipped are not written, and the next goes
    to out[start]. state (n_sequences, n, n_particles) is handed to the first row, and becomes what
    is handed to the row after the last. transition is (n_sequences, n_entries, n_particles), psi
    (n_sequences, n_natural, n_particles).
    """
    first_row, n_rows, n_skipped, start = rows
    n, p = shape[0], shape[2]
    ones = np.ones(p)
    at = layout(shape, longest_of(n_rows), False)
    W = room(at.end)
    n_columns = psi.shape[2]
    states, outputs = state.reshape(state.size), out.reshape(out.size)
    parameters, entries = psi.reshape(psi.size), transition.reshape(transition.size)
    for e in range(psi.shape[0]):
        load_rows(W, at, data, first_row[e], n_rows[e], ones, 0, LANES)
        for h in range(0, n_columns, LANES):
            _load_parameters(W, at, gain, parameters, (psi.shape[1], n_columns, e, h))
            _load_transition(W, at, shape, entries, (transition.shape[1], n_columns, e, h))
            load_side_by_side(W, at.s, states, (n, n_columns, e, h), 0, n)
            for t in range(n_rows[e]):
                drive(W, at, shape, t, at.s, at.x)
                if gain:
                    innovate(W, at, shape, t)
                if t >= n_skipped[e]:
                    to = (start[e] + t - n_skipped[e]) * p
                    for o in range(p):
                        hand_out(W, at.yhat + o, outputs, n_columns, to + o, h)
                correct(W, at, shape, gain, at.x)
                advance(W, at, shape, at.x, at.s)
            for i in range(n):
                hand_out(W, at.s + i, states, n_columns, e * n + i, h)
