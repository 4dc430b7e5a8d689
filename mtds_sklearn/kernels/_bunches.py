"""One row of the recursion for a bunch of particles, compiled by numba.

All particles of a sequence stand side by side in the last axis, and inner loops run over `LANES` of
them, which the compiler turns into vector instructions. The recursion and the order of a natural
parameter vector psi are those of `_recursion`, and so are `shape`, `data` and `gain`; `transition`
is that of `_particles`.
"""

import numpy as np
from numba import njit

JIT = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc"}}
# Helpers are called by kernels alone; most allocate nothing. Slices and fills of arrays are written
# out as loops: numba takes seconds to compile what stands for them.
HELPER = {key: value for key, value in JIT.items() if key != "cache"} | {
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
LEAF = HELPER | {"_nrt": False}
# Particles that are worked on together: a multiple of what any processor's vectors hold, few enough
# that their states stay in the fastest cache.
LANES = 64


@njit(**LEAF)
def load(source, e, first, count, h, width, out):
    """out[i] <- particles h .. h + width - 1 of entry first + i of sequence e."""
    for i in range(count):
        for r in range(width):
            out[i, r] = source[e, first + i, h + r]


@njit(**LEAF)
def starts(n_natural, shape):
    """Where B, x0, K, C, D and offset start in a natural parameter vector."""
    n, m, p = shape[0], shape[1], shape[2]
    B = n_natural - (n * m + n + 2 * n * p + p * m + p + 1)
    x0 = B + n * m
    K = x0 + n
    C = K + n * p
    D = C + p * n
    return B, x0, K, C, D, D + p * m


@njit(**LEAF)
def drive(P, at, shape, inputs, row, s, x, width):
    """x <- s + B u."""
    n, m = shape[0], shape[1]
    for i in range(n):
        for r in range(width):
            x[i, r] = s[i, r]
    for j in range(m):
        u = inputs[row, j]
        if u != 0.0:
            for i in range(n):
                b = at[0] + i * m + j
                for r in range(width):
                    x[i, r] += P[b, r] * u


@njit(**LEAF)
def emit(P, at, shape, o, inputs, row, x, yhat, width):
    """yhat <- C x + D u + offset of output o."""
    n, m = shape[0], shape[1]
    for r in range(width):
        yhat[o, r] = P[at[5] + o, r]
    for j in range(m):
        u = inputs[row, j]
        if u != 0.0:
            d = at[4] + o * m + j
            for r in range(width):
                yhat[o, r] += P[d, r] * u
    for i in range(n):
        c = at[3] + o * n + i
        for r in range(width):
            yhat[o, r] += P[c, r] * x[i, r]


@njit(**LEAF)
def advance(A, P, at, shape, gain, x, error, s, width):
    """x <- x + K e, s <- A x."""
    n, p, block = shape[0], shape[2], shape[3]
    if gain:
        for i in range(n):
            for o in range(p):
                k = at[2] + i * p + o
                for r in range(width):
                    x[i, r] += P[k, r] * error[o, r]
    if block == 2:
        for i in range(0, n - 1, 2):
            a = 3 * (i // 2)
            for r in range(width):
                s[i, r] = A[a, r] * x[i, r] + A[a + 1, r] * x[i + 1, r]
                s[i + 1, r] = A[a + 2, r] * x[i, r] + A[a, r] * x[i + 1, r]
        if n % 2 == 1:
            for r in range(width):
                s[n - 1, r] = A[3 * (n // 2), r] * x[n - 1, r]
    else:
        for i in range(n):
            for r in range(width):
                s[i, r] = A[i * n, r] * x[0, r]
            for j in range(1, n):
                for r in range(width):
                    s[i, r] += A[i * n + j, r] * x[j, r]


@njit(**HELPER)
def workspace(n_transition, n_natural, shape):
    n, p = shape[0], shape[2]
    return (
        np.empty((n_transition, LANES)), np.empty((n_natural, LANES)), np.empty((n, LANES)),
        np.empty((n, LANES)), np.empty((p, LANES)), np.zeros((p, LANES)),
    )  # fmt: skip


@njit(**LEAF)
def innovate(outputs, weights, row, o, yhat, error, width):
    """error <- y - yhat of output o, 0 where it is not observed."""
    if weights[row, o] > 0.0:
        y = outputs[row, o]
        for r in range(width):
            error[o, r] = y - yhat[o, r]
    else:
        for r in range(width):
            error[o, r] = 0.0
