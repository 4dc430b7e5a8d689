"""Least squares of residuals on the responses of fixed blocks, compiled by numba.

Candidate blocks are scored by how much of the residuals they explain
(`learning/_initialization.py`). Eight sequences are worked on side by side; W, `at` and rows in
lanes are those of `_recursion`.
"""

import numpy as np
from numba import njit

from mtds_sklearn.kernels._kinds import Counts1, Data, Numbers2, Numbers4, Numbers5
from mtds_sklearn.kernels._lanes import JIT, LANES, LEAF, add, choose, fill, load, store
from mtds_sklearn.kernels._recursion import (
    forget,
    is_time_to_forget,
    layout,
    load_evaluations,
    longest_of,
    room,
)


@njit(**LEAF)
def _push_inputs(W, at, S, m, t):
    """Responses of row t to its own inputs: of both states, and what needs no state."""
    n_responses = 2 + 2 * m
    for j in range(m):
        u = load(W, at.U + t * m + j)
        add(W, S + 2 * (2 + 2 * j), u)
        add(W, S + 2 * (3 + 2 * j) + 1, u)
        store(W, S + 2 * (n_responses + 1 + j), u)


@njit(**LEAF)
def _accumulate(W, at, shape, block, longest, S, sums):
    """Normal equations of one block: for each output w X X' (lower triangle), then w X residual."""
    m, p = shape[1], shape[2]
    n_responses, width = 2 + 2 * m, 3 + 3 * m
    size = width * (width + 1) // 2 + width
    for i in range(S, S + 2 * width):
        store(W, i, 0.0)
    for i in range(sums, sums + p * size):
        store(W, i, 0.0)
    store(W, S, 1.0)
    store(W, S + 3, 1.0)
    store(W, S + 2 * n_responses, 1.0)
    for t in range(longest):
        if is_time_to_forget(t):
            forget(W, S, S + 2 * n_responses)
        _push_inputs(W, at, S, m, t)
        to = sums
        for o in range(p):
            root = load(W, at.root + t * p + o)
            residual = choose(root, load(W, at.Y + t * p + o), fill(0.0))
            for r in range(width):
                weighted = root * root * load(W, S + 2 * r)
                for q in range(r + 1):
                    add(W, to + q, weighted * load(W, S + 2 * q))
                add(W, to + r + 1, weighted * residual)
                to += r + 2
        for r in range(n_responses):
            a, b = load(W, S + 2 * r), load(W, S + 2 * r + 1)
            store(W, S + 2 * r, block[0] * a + block[1] * b)
            store(W, S + 2 * r + 1, block[2] * a + block[3] * b)


@njit(**LEAF)
def _hand_out(W, sums, e, width, normal, right):
    """Results of one block from the lanes."""
    for h in range(min(LANES, right.shape[0] - e)):
        to = sums
        for o in range(right.shape[1]):
            for r in range(width):
                for q in range(r + 1):
                    value = W[LANES * (to + q) + h]
                    normal[e + h, o, r, q] = value
                    normal[e + h, o, q, r] = value
                right[e + h, o, r] = W[LANES * (to + r + 1) + h]
                to += r + 2


@njit(**JIT)
def block_normal_equations(
    entries: Numbers2,
    first_row: Counts1,
    n_rows: Counts1,
    data: Data,
    normal: Numbers5,
    right: Numbers4,
):
    """Normal equations of every (block, sequence, output), on responses to unit states and inputs.

    The regressors X of a sequence are the first state's response to the two unit initial states
    and, for each input, to the two unit input columns; then what needs no state, a constant and the
    inputs themselves. width = 3 + 3 n_inputs.

    Parameters
    ----------
    entries : ndarray of shape (n_blocks, 4)
        a11, a12, a21, a22 of each block.
    first_row, n_rows : ndarray of int64, shape (n_sequences,)
    data : tuple of inputs (.., n_inputs), residuals (.., n_outputs) and weights (.., n_outputs)
        What to explain is the residuals, by the weight w of each value (0: not observed).
    normal : ndarray of shape (n_blocks, n_sequences, n_outputs, width, width)
        normal[c, i, o] <- sum_t w X X'.
    right : ndarray of shape (n_blocks, n_sequences, n_outputs, width)
        right[c, i, o] <- sum_t w X residual.
    """
    m, p = data[0].shape[1], data[1].shape[1]
    width = 3 + 3 * m
    # Sequences alone: no parameters come with them.
    nothing, ones = np.empty((n_rows.shape[0], 0)), np.ones(p)
    # No constants: numba would compile what reads them anew.
    shape = (nothing.shape[1], m, p, entries.shape[1] // 2)
    at = layout(shape, longest_of(n_rows), False)
    S = at.end
    sums = S + 2 * width
    W = room(sums + p * (width * (width + 1) // 2 + width))
    for e in range(0, n_rows.shape[0], LANES):
        longest = load_evaluations(W, at, shape, nothing, first_row, n_rows, e, data, ones)
        for c in range(entries.shape[0]):
            _accumulate(W, at, shape, entries[c], longest, S, sums)
            _hand_out(W, sums, e, width, normal[c], right[c])
