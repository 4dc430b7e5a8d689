"""Sums of products of the columns of a Jacobian, eight Jacobians side by side.

Most of the arithmetic of learning happens here: G' G of a block of values takes half a
multiplication for each value and pair of columns. Sums are kept in registers, three columns by
three at a time, so that six numbers are read for nine multiplications.
"""

from numba import njit

from mtds_sklearn.kernels._lanes import LEAF, load, rolled, store


@njit(**LEAF)
def _add_square_tile(W, a, b, columns, count, rows):
    """Products of three columns from a on with three others from b on; rows: where they go."""
    r0, r1, r2 = rows
    n00, n01, n02 = load(W, r0), load(W, r0 + 1), load(W, r0 + 2)
    n10, n11, n12 = load(W, r1), load(W, r1 + 1), load(W, r1 + 2)
    n20, n21, n22 = load(W, r2), load(W, r2 + 1), load(W, r2 + 2)
    for _ in range(count):
        rolled()
        b0, b1, b2 = load(W, b), load(W, b + 1), load(W, b + 2)
        a0 = load(W, a)
        n00, n01, n02 = n00 + a0 * b0, n01 + a0 * b1, n02 + a0 * b2
        a1 = load(W, a + 1)
        n10, n11, n12 = n10 + a1 * b0, n11 + a1 * b1, n12 + a1 * b2
        a2 = load(W, a + 2)
        n20, n21, n22 = n20 + a2 * b0, n21 + a2 * b1, n22 + a2 * b2
        a, b = a + columns, b + columns
    store(W, r0, n00)
    store(W, r0 + 1, n01)
    store(W, r0 + 2, n02)
    store(W, r1, n10)
    store(W, r1 + 1, n11)
    store(W, r1 + 2, n12)
    store(W, r2, n20)
    store(W, r2 + 1, n21)
    store(W, r2 + 2, n22)


@njit(**LEAF)
def _add_corner_tile(W, a, residual, columns, count, rows, gradient):
    """Products of three columns with themselves and with the residuals."""
    r0, r1, r2 = rows
    n00, n10, n11 = load(W, r0), load(W, r1), load(W, r1 + 1)
    n20, n21, n22 = load(W, r2), load(W, r2 + 1), load(W, r2 + 2)
    g0, g1, g2 = load(W, gradient), load(W, gradient + 1), load(W, gradient + 2)
    for h in range(count):
        rolled()
        a0, a1, a2 = load(W, a), load(W, a + 1), load(W, a + 2)
        e = load(W, residual + h)
        n00, n10, n11 = n00 + a0 * a0, n10 + a1 * a0, n11 + a1 * a1
        n20, n21, n22 = n20 + a2 * a0, n21 + a2 * a1, n22 + a2 * a2
        g0, g1, g2 = g0 + a0 * e, g1 + a1 * e, g2 + a2 * e
        a += columns
    store(W, r0, n00)
    store(W, r1, n10)
    store(W, r1 + 1, n11)
    store(W, r2, n20)
    store(W, r2 + 1, n21)
    store(W, r2 + 2, n22)
    store(W, gradient, g0)
    store(W, gradient + 1, g1)
    store(W, gradient + 2, g2)


@njit(**LEAF)
def add_products(W, G, residual, columns, count, gradient, normal):
    """gradient <- gradient + G' residual, normal <- normal + G' G, lower triangle row by row.

    Three columns by three at a time: nine sums in registers for six numbers read.
    """
    for r in range(0, columns, 3):
        row = normal + r * (r + 1) // 2
        rows = (row, row + r + 1, row + 2 * r + 3)
        for s in range(0, r, 3):
            rolled()
            tile = (rows[0] + s, rows[1] + s, rows[2] + s)
            _add_square_tile(W, G + r, G + s, columns, count, tile)
        tile = (rows[0] + r, rows[1] + r, rows[2] + r)
        _add_corner_tile(W, G + r, residual, columns, count, tile, gradient + r)
