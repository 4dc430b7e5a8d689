"""Matrices of lanes times vectors of lanes.

A number that is read serves several products, which are summed in registers: rows are taken four at
a time, or by two with two vectors.
"""

from numba import njit

from mtds_sklearn.kernels._lanes import INLINE, LEAF, fill, load, load_number, rolled, store


@njit(**LEAF)
def times_vector(W, M, rows, columns, v, to):
    """to <- to + M v."""
    whole = rows - rows % 4
    for i in range(0, whole, 4):
        s0, s1 = load(W, to + i), load(W, to + i + 1)
        s2, s3 = load(W, to + i + 2), load(W, to + i + 3)
        m = M + i * columns
        for j in range(columns):
            rolled()
            x = load(W, v + j)
            s0 = s0 + load(W, m + j) * x
            s1 = s1 + load(W, m + columns + j) * x
            s2 = s2 + load(W, m + 2 * columns + j) * x
            s3 = s3 + load(W, m + 3 * columns + j) * x
        store(W, to + i, s0)
        store(W, to + i + 1, s1)
        store(W, to + i + 2, s2)
        store(W, to + i + 3, s3)
    for i in range(whole, rows):  # two sums, so that one need not wait for the other
        s0, s1, m = load(W, to + i), fill(0.0), M + i * columns
        for j in range(0, columns - 1, 2):
            rolled()
            s0 = s0 + load(W, m + j) * load(W, v + j)
            s1 = s1 + load(W, m + j + 1) * load(W, v + j + 1)
        if columns % 2 == 1:
            s1 = s1 + load(W, m + columns - 1) * load(W, v + columns - 1)
        store(W, to + i, s0 + s1)


@njit(**LEAF)
def times_numbers(W, numbers, first, step, rows, columns, v, to):
    """to <- to + M v, M the same numbers in all lanes, its rows `step` from each other."""
    whole = rows - rows % 4
    for i in range(0, whole, 4):
        s0, s1 = load(W, to + i), load(W, to + i + 1)
        s2, s3 = load(W, to + i + 2), load(W, to + i + 3)
        m = first + i * step
        for j in range(columns):
            rolled()
            x = load(W, v + j)
            s0 = s0 + load_number(numbers, m + j) * x
            s1 = s1 + load_number(numbers, m + step + j) * x
            s2 = s2 + load_number(numbers, m + 2 * step + j) * x
            s3 = s3 + load_number(numbers, m + 3 * step + j) * x
        store(W, to + i, s0)
        store(W, to + i + 1, s1)
        store(W, to + i + 2, s2)
        store(W, to + i + 3, s3)
    for i in range(whole, rows):
        s0, m = load(W, to + i), first + i * step
        for j in range(columns):
            rolled()
            s0 = s0 + load_number(numbers, m + j) * load(W, v + j)
        store(W, to + i, s0)


@njit(**INLINE)
def times_blocks(W, A, n, v, to):
    """to <- A v of blocks of two states (the last may be one); to and v may be one place."""
    for i in range(0, n - 1, 2):
        M = A + 2 * i
        a, b = load(W, v + i), load(W, v + i + 1)
        store(W, to + i, load(W, M) * a + load(W, M + 1) * b)
        store(W, to + i + 1, load(W, M + 2) * a + load(W, M + 3) * b)
    if n % 2 == 1:
        store(W, to + n - 1, load(W, A + 2 * (n - 1)) * load(W, v + n - 1))


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
                rolled()
                x, y = load(W, v + j), load(W, w + j)
                p, q = load(W, m + j), load(W, n + j)
                s00, s01 = s00 + p * x, s01 + q * x
                s10, s11 = s10 + p * y, s11 + q * y
            store(W, to + a * rows + i, s00)
            store(W, to + a * rows + h, s01)
            store(W, to + b * rows + i, s10)
            store(W, to + b * rows + h, s11)


@njit(**LEAF)
def times_two_four_rows(W, places, n, vectors, to):
    """Four rows of M f + F y and of M g + G y, to to[0] and to[1].

    places = (M, F, G) of the first row, n entries in each; vectors = (f, g, y).
    """
    M, F, G = places
    s0, s1, s2, s3 = fill(0.0), fill(0.0), fill(0.0), fill(0.0)
    r0, r1, r2, r3 = fill(0.0), fill(0.0), fill(0.0), fill(0.0)
    for j in range(n):
        rolled()
        f, g, y = load(W, vectors[0] + j), load(W, vectors[1] + j), load(W, vectors[2] + j)
        m = load(W, M + j)
        s0, r0 = s0 + m * f + load(W, F + j) * y, r0 + m * g + load(W, G + j) * y
        h = n + j
        m = load(W, M + h)
        s1, r1 = s1 + m * f + load(W, F + h) * y, r1 + m * g + load(W, G + h) * y
        h = 2 * n + j
        m = load(W, M + h)
        s2, r2 = s2 + m * f + load(W, F + h) * y, r2 + m * g + load(W, G + h) * y
        h = 3 * n + j
        m = load(W, M + h)
        s3, r3 = s3 + m * f + load(W, F + h) * y, r3 + m * g + load(W, G + h) * y
    store(W, to[0], s0)
    store(W, to[0] + 1, s1)
    store(W, to[0] + 2, s2)
    store(W, to[0] + 3, s3)
    store(W, to[1], r0)
    store(W, to[1] + 1, r1)
    store(W, to[1] + 2, r2)
    store(W, to[1] + 3, r3)


@njit(**LEAF)
def times_two(W, places, n, vectors, to):
    """One row of the same."""
    M, F, G = places
    s, r = fill(0.0), fill(0.0)
    for j in range(n):
        rolled()
        m, y = load(W, M + j), load(W, vectors[2] + j)
        s = s + m * load(W, vectors[0] + j) + load(W, F + j) * y
        r = r + m * load(W, vectors[1] + j) + load(W, G + j) * y
    store(W, to[0], s)
    store(W, to[1], r)
