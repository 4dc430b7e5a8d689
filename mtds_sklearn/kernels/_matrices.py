"""Matrices of lanes times vectors of lanes.

A number that is read serves several products, which are summed in registers: rows are taken four at
a time, or by two with two vectors.
"""

from numba import njit

from mtds_sklearn.kernels._lanes import LEAF, fill, load, store


@njit(**LEAF)
def times_vector(W, M, strides, size, v, to):
    """to <- to + M v.

    strides = (down, right): how far apart the entries of M are in a column and in a row;
    size = (rows, columns).
    """
    down, right = strides
    rows, columns = size
    whole = rows - rows % 4
    for i in range(0, whole, 4):
        s0, s1 = load(W, to + i), load(W, to + i + 1)
        s2, s3 = load(W, to + i + 2), load(W, to + i + 3)
        m = M + i * down
        for j in range(columns):
            x = load(W, v + j)
            s0 = s0 + load(W, m) * x
            s1 = s1 + load(W, m + down) * x
            s2 = s2 + load(W, m + 2 * down) * x
            s3 = s3 + load(W, m + 3 * down) * x
            m += right
        store(W, to + i, s0)
        store(W, to + i + 1, s1)
        store(W, to + i + 2, s2)
        store(W, to + i + 3, s3)
    for i in range(whole, rows):
        s0 = load(W, to + i)
        m = M + i * down
        for j in range(columns):
            s0 = s0 + load(W, m) * load(W, v + j)
            m += right
        store(W, to + i, s0)


@njit(**LEAF)
def times_vectors(W, M, rows, columns, V, count, to):
    """to <- M v of `count` vectors, which stand one after the other, as do their products."""
    for a in range(0, count, 2):
        b = min(a + 1, count - 1)  # the last of an odd number is worked out twice
        for i in range(0, rows, 2):
            h = min(i + 1, rows - 1)
            s00, s01, s10, s11 = fill(0.0), fill(0.0), fill(0.0), fill(0.0)
            m, n, v, w = M + i * columns, M + h * columns, V + a * columns, V + b * columns
            for j in range(columns):
                x, y = load(W, v + j), load(W, w + j)
                p, q = load(W, m + j), load(W, n + j)
                s00, s01 = s00 + p * x, s01 + q * x
                s10, s11 = s10 + p * y, s11 + q * y
            store(W, to + a * rows + i, s00)
            store(W, to + a * rows + h, s01)
            store(W, to + b * rows + i, s10)
            store(W, to + b * rows + h, s11)
