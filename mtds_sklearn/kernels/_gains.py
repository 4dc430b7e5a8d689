"""How uncertain the state becomes where outputs are missing, compiled by numba.

Where every output is observed the state after a row is known, given the parameters: the recursion
feeds the innovations back. An innovation that is not seen leaves the state uncertain,

    P_{t+1} = F P_t F' + L_missing R L_missing',   F = A - L_observed C_observed,   P_1 = 0,

since x_{t+1} - xhat_{t+1} = A (x_t - xhat_t) + L e_t - L_observed (C (x_t - xhat_t) + e_t), with
L = A K what an innovation does to the state of the next row. An
output then has the variance C P C' besides its noise. Kept apart from the other kernel files, with
which it shares no function.
"""

import numpy as np
from numba import njit

from mtds_sklearn.kernels._kinds import (
    Counts1,
    FixedCounts1,
    FixedFlags2,
    Numbers1,
    Numbers2,
    Numbers3,
    Numbers4,
    several,
)

JIT = {"cache": True, "nogil": True, "fastmath": {"contract", "reassoc"}}
# Helpers are called by kernels alone. Slices and fills of arrays are written out as loops: numba
# takes seconds to compile what stands for them.
LEAF = {key: value for key, value in JIT.items() if key != "cache"} | {
    "_nrt": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


@njit(**LEAF)
def _clear(M, n):
    for i in range(n):
        for j in range(n):
            M[i, j] = 0.0


@njit(**LEAF)
def _all_observed(observed, row):
    for o in range(observed.shape[1]):
        if not observed[row, o]:
            return False
    return True


@njit(**LEAF)
def _turn(F, P, n, work):
    """P <- F P F', skipping what is zero in F."""
    _clear(work, n)
    for i in range(n):
        for j in range(n):
            f = F[i, j]
            if f != 0.0:
                for h in range(n):
                    work[i, h] += f * P[j, h]
    _clear(P, n)
    for i in range(n):
        for j in range(n):
            f = F[i, j]
            if f != 0.0:
                for h in range(n):
                    P[h, i] += f * work[h, j]


@njit(**JIT)
def accumulated_variances(
    systems: several(Numbers3, Numbers3, Numbers3, Numbers3),
    noise: Numbers2,
    share: Numbers1,
    rows: several(Counts1, Counts1, FixedFlags2),
    out: Numbers2,
):
    """Add to out[row, o] the share of G P G' of output o, from each evaluation.

    With systems = (A, L, C, G) and rows = (first_row, n_rows, observed), evaluation e pairs the
    system A[e] (n, n), L[e] (n, p), C[e] (p, n), noise[e] (p,) variances, with the rows
    first_row[e] to first_row[e] + n_rows[e] - 1 of observed (.., p); out (.., p). G[e] (p, n) says
    whose variance is wanted: C itself for the outputs of the row.
    """
    A, L, C, G = systems
    first_row, n_rows, observed = rows
    n, p = A.shape[1], C.shape[1]
    P, F, work = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    for e in range(A.shape[0]):
        _clear(P, n)
        certain = True
        for row in range(first_row[e], first_row[e] + n_rows[e]):
            if not certain:
                for o in range(p):
                    for i in range(n):
                        if G[e, o, i] != 0.0:
                            for j in range(n):
                                out[row, o] += share[e] * G[e, o, i] * P[i, j] * G[e, o, j]
            elif _all_observed(observed, row):
                continue
            for i in range(n):
                for j in range(n):
                    F[i, j] = A[e, i, j]
            for o in range(p):
                if observed[row, o]:
                    for i in range(n):
                        for j in range(n):
                            F[i, j] -= L[e, i, o] * C[e, o, j]
            _turn(F, P, n, work)
            for o in range(p):
                if not observed[row, o]:
                    certain = False
                    for i in range(n):
                        for j in range(n):
                            P[i, j] += noise[e, o] * L[e, i, o] * L[e, j, o]


@njit(**JIT)
def drive_states(
    systems: several(Numbers4, Numbers4, Numbers4),
    rows: several(FixedCounts1, Counts1, FixedFlags2),
    noise: Numbers3,
):
    """noise[row, o, s] <- it plus C d, for the states d that unseen innovations drive.

    d_{t+1} = F d_t + L_missing noise_t with the F above and d = 0 at the first row. System (e, s)
    belongs to sequence e and path s: A (n_sequences, n_paths, n, n), L and C likewise; noise
    (n_rows, p, n_paths) is drawn for all rows, and that of observed rows goes nowhere. Arguments as
    above.
    """
    A, L, C = systems
    first_row, n_rows, observed = rows
    n, p = A.shape[2], C.shape[2]
    d, new = np.zeros(n), np.zeros(n)
    for e in range(A.shape[0]):
        for s in range(A.shape[1]):
            for i in range(n):
                d[i] = 0.0
            for row in range(first_row[e], first_row[e] + n_rows[e]):
                for i in range(n):
                    new[i] = 0.0
                    for j in range(n):
                        new[i] += A[e, s, i, j] * d[j]
                for o in range(p):
                    seen = 0.0
                    for j in range(n):
                        seen += C[e, s, o, j] * d[j]
                    for i in range(n):
                        push = -seen if observed[row, o] else noise[row, o, s]
                        new[i] += L[e, s, i, o] * push
                    noise[row, o, s] += seen
                for i in range(n):
                    d[i] = new[i]
