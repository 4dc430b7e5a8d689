"""What natural entries move, as kernels of sensitivities want to know it.

Only the entries listed in `active` (n_active,) int64 are differentiated; `bounds` (9 integers)
says where each of the eight kinds starts in `active`. Natural vectors and `shape` are those of
`_recursion`.

Without a gain an output moves with the entries that move the state, which come first, and with its
own of C, D and offset, and with no others. So each output has Jacobian rows and sums of its own,
with a column for each of these entries: of eight outputs and six states 20 columns instead of 68,
and a tenth of the products. With a gain all entries move the state, and outputs share all columns.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from mtds_sklearn.kernels._lanes import HELPER, LEAF
from mtds_sklearn.kernels._transitions import n_transition

LOW, HIGH, NATURAL, INTO, SOURCE, GROUP, COLUMN = range(7)


class Entries(NamedTuple):
    """What the active entries are; their numbers count within `active`.

    Attributes
    ----------
    n_active, n_dynamic : int
        How many there are, and how many of them, the first, can move the state.
    n_groups : int
        1 where all outputs share the columns of the Jacobian, else the number of outputs.
    columns : int
        Columns of the Jacobian, rounded up to a multiple of 3.
    width : int
        Most states that one entry can move.
    table : ndarray of int64, shape (7, n_active)
        Entry r can move the states table[LOW, r] .. table[HIGH, r] - 1; it is the natural entry
        table[NATURAL, r]; an entry of B or K drives the state table[INTO, r], counted from LOW, by
        the input or output table[SOURCE, r]; one of C, D or offset is what an output adds of the
        number table[SOURCE, r] of (x, u, 1), without a gain. Its column is table[COLUMN, r], -1 if
        no output moves with it, in the rows of group table[GROUP, r]; those of the n_dynamic are in
        all groups.
    spans : ndarray of int64, shape (6, n_outputs + 1)
        Rows 0 to 2: where the entries of C, D and offset of each output start; 3 to 5: where
        those stand in psi.
    count : ndarray of int64, shape (n_groups,)
        Rows that the Jacobian of each group has for now.
    """

    n_active: int
    n_dynamic: int
    n_groups: int
    columns: int
    width: int
    table: np.ndarray
    spans: np.ndarray
    count: np.ndarray


@njit(**LEAF)
def _find_supports(active, bounds, shape, gain, table):
    n, m, p, block = shape
    B = n_transition(shape)
    x0 = B + n * m
    for r in range(active.shape[0]):
        table[LOW, r], table[HIGH, r], table[NATURAL, r] = 0, n, active[r]
    for r in range(bounds[4]):
        state = 0
        if r < bounds[1]:
            state = active[r] if block == 2 else 0
        elif r < bounds[2]:
            state, table[SOURCE, r] = divmod(active[r] - B, m)
        elif r < bounds[3]:
            state = active[r] - x0
        else:
            state, table[SOURCE, r] = divmod(active[r] - x0 - n, p)
        if not gain:
            table[LOW, r] = (state // block) * block
            table[HIGH, r] = min(table[LOW, r] + block, n)
        table[INTO, r] = state - table[LOW, r]


@njit(**LEAF)
def _find_spans(active, bounds, shape, spans):
    n, m, p = shape[0], shape[1], shape[2]
    base = n_transition(shape) + n * m + n + n * p
    for h in range(3):
        width = n if h == 0 else (m if h == 1 else 1)
        r = bounds[4 + h]
        for o in range(p + 1):
            while r < bounds[5 + h] and active[r] < base + o * width:
                r += 1
            spans[h, o] = r
            spans[3 + h, o] = base + o * width
        base += p * width


@njit(**LEAF)
def _find_columns(shape, n_dynamic, table, spans):
    """Columns of the entries in the groups of their outputs; the most that a group has."""
    most, sources = n_dynamic, (0, shape[0], shape[0] + shape[1])
    for r in range(table.shape[1]):
        table[COLUMN, r] = r if r < n_dynamic else -1
    for o in range(spans.shape[1] - 1):
        column = n_dynamic
        for h in range(3):
            for r in range(max(spans[h, o], n_dynamic), spans[h, o + 1]):
                table[GROUP, r], table[COLUMN, r] = o, column
                table[SOURCE, r] = sources[h] + table[NATURAL, r] - spans[3 + h, o]
                column += 1
        most = max(most, column)
    return most


@njit(**HELPER)
def describe(active, bounds, shape, gain):
    """Entries of `active`. With a gain every entry but the noise's moves every state."""
    n, p = shape[0], shape[2]
    n_active = active.shape[0]
    n_dynamic = bounds[7] if gain else bounds[3]
    table, spans = np.zeros((7, n_active), np.int64), np.zeros((6, p + 1), np.int64)
    _find_supports(active, bounds, shape, gain, table)
    _find_spans(active, bounds, shape, spans)
    columns = _find_columns(shape, n_dynamic, table, spans)
    n_groups = 1 if gain else p
    width = n if gain else min(shape[3], n)
    columns = 3 * ((columns + 2) // 3)
    count = np.zeros(n_groups, np.int64)
    return Entries(n_active, n_dynamic, n_groups, columns, width, table, spans, count)
