"""Loops over packed rows, compiled by numba: simulate, sensitivities, Gauss-Newton quantities.

Everything here works on plain arrays; masks instead of NaN; nothing is drawn at random. One
evaluation `e` pairs one sequence (packed rows `first_row[e]` to `first_row[e] + n_rows[e] - 1`)
with one natural parameter vector (`psi[e]`), so particles, cubature points and starting points are
all the same kind of work. The recursion is

    s_1 = x0
    x_t = s_t + B u_t
    yhat_t = C x_t + D u_t + offset
    e_t = y_t - yhat_t                      (0 where y_t is not observed)
    s_{t+1} = A x_t + K e_t

A natural parameter vector psi holds, in this order, the entries of

    A (chart coordinates) | B (n, m) | x0 (n) | K (n, p) | C (p, n) | D (p, m) | offset (p)
    | log noise level (1)

for n states, m inputs, p outputs; `shape = (n, m, p, block)` with block 2 for the modal chart (A is
block diagonal) and n for the Cayley chart (A is full). Only the entries listed in `active` are
differentiated; `bounds` (9 integers) says where each of the eight kinds starts in `active`.

For E evaluations the shapes are psi (E, n_natural), first_row and n_rows (E,) int64, active
(n_active,) int64, precision (p,); data = (inputs, outputs, weights) are all packed rows, (.., m),
(.., p) and (.., p). A weight multiplies the precision of one value's noise, and is 0 where the
value is not observed. A kernel writes only to the arguments that its docstring marks with <-.

All functions live in this file because numba's cache does not notice a change in another file.
"""

import math

import numpy as np
from numba import njit

# Contraction and reordering of sums are allowed; NaN and signed zeros are left alone.
JIT = {"cache": True, "nogil": True, "fastmath": {"contract", "reassoc"}}
# Helpers that allocate nothing do without reference counting: the atomic counter of every array
# argument would cost more than the arithmetic of one row.
LEAF = JIT | {"forceinline": True, "_nrt": False}
# Rounds the square root at a double pole, so that a block is smooth in its coordinates there.
POLE_SMOOTHING = 1e-3


@njit(**LEAF)
def _modal_transition(chart, n, A, dA, tangents):
    """Fill the block-diagonal A and, if `tangents`, dA[r] = dA / d chart[r].

    q = tanh a, p = tanh(c)(1 + q) are the coefficients of z^2 - p z + q (partial-autocorrelation
    chart of the stability triangle; Barndorff-Nielsen & Schou 1973). The block is the companion
    matrix in the basis of its cosine and sine amplitudes: [[p/2, s], [-d/s, p/2]], d = q - p^2/4,
    s ~ sqrt|d|.
    """
    for i in range(0, n - 1, 2):
        q = math.tanh(chart[i])
        t = math.tanh(chart[i + 1])
        half = 0.5 * t * (1.0 + q)
        d = q - half * half
        s = math.sqrt(math.sqrt(d * d + POLE_SMOOTHING * POLE_SMOOTHING))
        A[i, i] = half
        A[i, i + 1] = s
        A[i + 1, i] = -d / s
        A[i + 1, i + 1] = half
        if not tangents:
            continue
        for r in range(2):
            dq = (1.0 - q * q) if r == 0 else 0.0
            dhalf = 0.5 * t * dq if r == 0 else 0.5 * (1.0 - t * t) * (1.0 + q)
            dd = dq - 2.0 * half * dhalf
            ds = 0.5 * d * dd / (s * s * s)
            dA[i + r, i, i] = dhalf
            dA[i + r, i, i + 1] = ds
            dA[i + r, i + 1, i] = (d * ds / s - dd) / s
            dA[i + r, i + 1, i + 1] = dhalf
    if n % 2 == 1:
        A[n - 1, n - 1] = math.tanh(chart[n - 1])
        if tangents:
            dA[n - 1, n - 1, n - 1] = 1.0 - A[n - 1, n - 1] ** 2


@njit(**LEAF)
def _inverse_in_place(M, n):
    """Gauss-Jordan without pivoting: safe for I + S, whose symmetric part is the identity."""
    for q in range(n):
        pivot = 1.0 / M[q, q]
        M[q, q] = 1.0
        for j in range(n):
            M[q, j] *= pivot
        for i in range(n):
            if i != q:
                f = M[i, q]
                M[i, q] = 0.0
                for j in range(n):
                    M[i, j] -= f * M[q, j]


@njit(**LEAF)
def _cayley_transition(chart, n, A, dA, work, tangents):
    """Fill A = diag(tanh a) Q, Q = (I - S)(I + S)^-1 = 2 (I + S)^-1 - I, and its tangents.

    chart = (a (n), strictly lower entries of S row by row). With M = (I + S)^-1, dQ = -2 M dS M.
    """
    M = work
    r = n
    for i in range(n):
        M[i, i] = 1.0
        for j in range(i):
            M[i, j] = chart[r]
            M[j, i] = -chart[r]
            r += 1
    _inverse_in_place(M, n)
    for i in range(n):
        scale = math.tanh(chart[i])
        for j in range(n):
            q = 2.0 * M[i, j] - (1.0 if i == j else 0.0)
            A[i, j] = scale * q
            if tangents:
                dA[i, i, j] = (1.0 - scale * scale) * q
    if not tangents:
        return
    r = n
    for i in range(n):
        for j in range(i):
            for h in range(n):
                scale = -2.0 * math.tanh(chart[h])
                for g in range(n):
                    dA[r, h, g] = scale * (M[h, i] * M[j, g] - M[h, j] * M[i, g])
            r += 1


@njit(**LEAF)
def _transition(psi, e, shape, A, dA, work, tangents):
    """Fill A of psi[e] in the chart of `shape`, and its tangents."""
    n, block = shape[0], shape[3]
    if block == 2 or n == 1:
        _modal_transition(psi[e], n, A, dA, tangents)
    else:
        _cayley_transition(psi[e], n, A, dA, work, tangents)


@njit(**LEAF)
def n_transition(shape):
    """Number of chart coordinates of A."""
    n, block = shape[0], shape[3]
    return n if (block == 2 or n == 1) else n + n * (n - 1) // 2


@njit(**LEAF)
def _starts(shape):
    """Where B, x0, K, C, D and offset start in a natural parameter vector."""
    n, m, p = shape[0], shape[1], shape[2]
    B = n_transition(shape)
    x0 = B + n * m
    K = x0 + n
    C = K + n * p
    D = C + p * n
    return B, x0, K, C, D, D + p * m


@njit(**LEAF)
def _advance(psi, e, at, A, gain, shape, x, error, s, h):
    """s[h] <- A x + K e, using the block structure of A."""
    n, p, block = shape[0], shape[2], shape[3]
    if block == 2:
        for i in range(0, n - 1, 2):
            s[h, i] = A[i, i] * x[i] + A[i, i + 1] * x[i + 1]
            s[h, i + 1] = A[i + 1, i] * x[i] + A[i + 1, i + 1] * x[i + 1]
        if n % 2 == 1:
            s[h, n - 1] = A[n - 1, n - 1] * x[n - 1]
    else:
        for i in range(n):
            acc = 0.0
            for j in range(n):
                acc += A[i, j] * x[j]
            s[h, i] = acc
    if gain:
        for i in range(n):
            for o in range(p):
                s[h, i] += psi[e, at[2] + i * p + o] * error[o]


@njit(**LEAF)
def _predict_row(psi, e, at, shape, inputs, row, s, h, x, yhat, g):
    """x <- s[h] + B u and yhat[g] <- C x + D u + offset."""
    n, m, p = shape[0], shape[1], shape[2]
    for i in range(n):
        acc = s[h, i]
        for j in range(m):
            acc += psi[e, at[0] + i * m + j] * inputs[row, j]
        x[i] = acc
    for o in range(p):
        acc = psi[e, at[5] + o]
        for i in range(n):
            acc += psi[e, at[3] + o * n + i] * x[i]
        for j in range(m):
            acc += psi[e, at[4] + o * m + j] * inputs[row, j]
        yhat[g, o] = acc


@njit(**JIT)
def simulate(psi, first_row, n_rows, start, stride, data, shape, gain, out, end_state):
    """Predicted outputs of every evaluation, and the state handed to the row after the last.

    out[start[e] + t * stride] <- yhat of row t (p,), for start (at least E,) int64;
    end_state (E, n) <- s after the last row.
    """
    inputs, outputs, weights = data
    n, p = shape[0], shape[2]
    at = _starts(shape)
    A, dA, work = np.zeros((n, n)), np.zeros((0, n, n)), np.empty((n, n))
    x, error = np.zeros(n), np.zeros(p)
    for e in range(psi.shape[0]):
        _transition(psi, e, shape, A, dA, work, False)
        for i in range(n):
            end_state[e, i] = psi[e, at[1] + i]
        for t in range(n_rows[e]):
            row, g = first_row[e] + t, start[e] + t * stride
            _predict_row(psi, e, at, shape, inputs, row, end_state, e, x, out, g)
            if gain:
                for o in range(p):
                    error[o] = outputs[row, o] - out[g, o] if weights[row, o] > 0.0 else 0.0
            _advance(psi, e, at, A, gain, shape, x, error, end_state, e)


@njit(**JIT)
def advance_states(psi, states, row, data, shape, gain, out):
    """One packed row for many particles: out (E, p) <- yhat, states (E, n) <- s of the next row."""
    inputs, outputs, weights = data
    n, p = shape[0], shape[2]
    at = _starts(shape)
    A, dA, work = np.zeros((n, n)), np.zeros((0, n, n)), np.empty((n, n))
    x, error = np.zeros(n), np.zeros(p)
    for e in range(psi.shape[0]):
        _transition(psi, e, shape, A, dA, work, False)
        _predict_row(psi, e, at, shape, inputs, row, states, e, x, out, e)
        if gain:
            for o in range(p):
                error[o] = outputs[row, o] - out[e, o] if weights[row, o] > 0.0 else 0.0
        _advance(psi, e, at, A, gain, shape, x, error, states, e)


@njit(**JIT)
def squared_residuals(psi, first_row, n_rows, data, shape, gain, out):
    """out (E, p) <- sums over the rows of weight (y - yhat)^2."""
    inputs, outputs, weights = data
    n, p = shape[0], shape[2]
    at = _starts(shape)
    A, dA, work = np.zeros((n, n)), np.zeros((0, n, n)), np.empty((n, n))
    s, yhat, x, error = np.zeros((1, n)), np.zeros((1, p)), np.zeros(n), np.zeros(p)
    for e in range(psi.shape[0]):
        _transition(psi, e, shape, A, dA, work, False)
        for i in range(n):
            s[0, i] = psi[e, at[1] + i]
        for o in range(p):
            out[e, o] = 0.0
        for row in range(first_row[e], first_row[e] + n_rows[e]):
            _predict_row(psi, e, at, shape, inputs, row, s, 0, x, yhat, 0)
            for o in range(p):
                error[o] = outputs[row, o] - yhat[0, o] if weights[row, o] > 0.0 else 0.0
                out[e, o] += weights[row, o] * error[o] * error[o]
            _advance(psi, e, at, A, gain, shape, x, error, s, 0)


@njit(**LEAF)
def _drive(S, dA, bounds, active, kind, shape, low, high, x, inputs, row, error):
    """Add to the state sensitivities what the parameters themselves push in at one row.

    kind 0: dA x of the transition coordinates, after the row; 1: dB u, before it; 3: dK e, after.
    """
    m, p = shape[1], shape[2]
    base = n_transition(shape) + (0 if kind == 1 else shape[0] * m + shape[0])
    for r in range(bounds[kind], bounds[kind + 1]):
        if kind == 0:
            a = active[r]
            for i in range(low[r], high[r]):
                acc = 0.0
                for j in range(low[r], high[r]):
                    acc += dA[a, i, j] * x[j]
                S[r, i - low[r]] += acc
        elif kind == 1:
            S[r, (active[r] - base) // m - low[r]] += inputs[row, (active[r] - base) % m]
        else:
            S[r, (active[r] - base) // p] += error[(active[r] - base) % p]


@njit(**LEAF)
def _propagate(S, A, n_dynamic, low, high, block, row):
    """S[r] <- A S[r] on the states that entry r can move."""
    for r in range(n_dynamic):
        first, width = low[r], high[r] - low[r]
        if width == 2 and block == 2:
            a, b = S[r, 0], S[r, 1]
            S[r, 0] = A[first, first] * a + A[first, first + 1] * b
            S[r, 1] = A[first + 1, first] * a + A[first + 1, first + 1] * b
            continue
        for i in range(width):
            acc = 0.0
            for j in range(width):
                acc += A[first + i, first + j] * S[r, j]
            row[0, i] = acc
        for i in range(width):
            S[r, i] = row[0, i]


@njit(**LEAF)
def _output_row(psi, e, o, S, n_dynamic, x, inputs, row, spans, active, low, high, G, h):
    """G[h, r] <- d yhat[o] / d active entry r at one row; spans are those of `_emission_spans`."""
    for r in range(n_dynamic, active.shape[0]):
        G[h, r] = 0.0
    for r in range(n_dynamic):
        C = spans[3, o] + low[r]
        if high[r] - low[r] == 2:
            G[h, r] = psi[e, C] * S[r, 0] + psi[e, C + 1] * S[r, 1]
            continue
        acc = 0.0
        for i in range(high[r] - low[r]):
            acc += psi[e, C + i] * S[r, i]
        G[h, r] = acc
    for r in range(spans[0, o], spans[0, o + 1]):
        G[h, r] += x[active[r] - spans[3, o]]
    for r in range(spans[1, o], spans[1, o + 1]):
        G[h, r] += inputs[row, active[r] - spans[4, o]]
    for r in range(spans[2, o], spans[2, o + 1]):
        G[h, r] += 1.0


@njit(**LEAF)
def _supports(active, bounds, shape, gain, low, high):
    """States low[r] .. high[r] - 1 that active entry r can move; how many entries move any."""
    n, m, block = shape[0], shape[1], shape[3]
    na = n_transition(shape)
    for r in range(bounds[7]):
        low[r], high[r] = 0, n
        if gain or r >= bounds[3]:
            continue
        if r < bounds[1]:
            state = active[r] if block == 2 else 0
        elif r < bounds[2]:
            state = (active[r] - na) // m
        else:
            state = active[r] - na - n * m
        low[r] = (state // block) * block
        high[r] = min(low[r] + block, n)
    return bounds[7] if gain else bounds[3]


@njit(**LEAF)
def _emission_spans(active, bounds, shape, spans):
    """Rows 0 to 2: where the entries of C, D, offset of each output start; 3, 4: C and D in psi."""
    n, m, p = shape[0], shape[1], shape[2]
    base = n_transition(shape) + n * m + n + n * p
    for h in range(3):
        width = n if h == 0 else (m if h == 1 else 1)
        r = bounds[4 + h]
        for o in range(p + 1):
            while r < bounds[5 + h] and active[r] < base + o * width:
                r += 1
            spans[h, o] = r
            if h < 2:
                spans[3 + h, o] = base + o * width
        base += p * width


@njit(**LEAF)
def _weigh(weights, row, start, stop, r_out, o_out, G):
    """Multiply the values start .. stop - 1, all of one row, by the roots of their weights."""
    for h in range(start, stop):
        if weights[row, o_out[h]] != 1.0:
            root = math.sqrt(weights[row, o_out[h]])
            r_out[h] *= root
            for r in range(G.shape[1]):
                G[h, r] *= root


@njit(**LEAF)
def _sensitivities(psi, e, first, n_rows, data, shape, gain, active, bounds, work, r_out, o_out, G):
    """Residuals and Jacobian rows of one evaluation, observed values only; returns their number.

    r_out[h] is the residual y - yhat of the h-th observed value, o_out[h] its output, and
    G[h, r] = d yhat / d active entry r, both multiplied by the root of the value's weight. S[r]
    carries the forward sensitivity dx_t / d psi_r, on the states that the entry can move.
    """
    inputs, outputs, weights = data
    A, dA, scratch, S, s, x, yhat, error, low, high, spans = work
    n, p = shape[0], shape[2]
    at = _starts(shape)
    _transition(psi, e, shape, A, dA, scratch, True)
    n_dynamic = _supports(active, bounds, shape, gain, low, high)
    _emission_spans(active, bounds, shape, spans)
    S[:] = 0.0
    for i in range(n):
        s[0, i] = psi[e, at[1] + i]
    for r in range(bounds[2], bounds[3]):
        S[r, active[r] - at[1] - low[r]] = 1.0
    count = 0
    for row in range(first, first + n_rows):
        _predict_row(psi, e, at, shape, inputs, row, s, 0, x, yhat, 0)
        _drive(S, dA, bounds, active, 1, shape, low, high, x, inputs, row, error)
        row_start = count
        for o in range(p):
            error[o] = 0.0
            if weights[row, o] > 0.0:
                error[o] = outputs[row, o] - yhat[0, o]
                r_out[count] = error[o]
                o_out[count] = o
                _output_row(
                    psi, e, o, S, n_dynamic, x, inputs, row, spans, active, low, high, G, count
                )
                count += 1
        _propagate(S, A, n_dynamic, low, high, shape[3], yhat)
        _drive(S, dA, bounds, active, 0, shape, low, high, x, inputs, row, error)
        if gain:
            _drive(S, dA, bounds, active, 3, shape, low, high, x, inputs, row, error)
            for h in range(row_start, count):
                for r in range(n_dynamic):
                    for i in range(n):
                        S[r, i] -= psi[e, at[2] + i * p + o_out[h]] * G[h, r]
        _weigh(weights, row, row_start, count, r_out, o_out, G)
        _advance(psi, e, at, A, gain, shape, x, error, s, 0)
    return count


@njit(**JIT)
def _workspace(n_active, n_rows, shape):
    """Buffers of `_sensitivities`, and its three results for the largest of n_rows (E,)."""
    n, p = shape[0], shape[2]
    na = n_transition(shape)
    work = (
        np.zeros((n, n)), np.zeros((na, n, n)), np.zeros((n, n)), np.zeros((n_active, n)),
        np.zeros((1, n)), np.zeros(n), np.zeros((1, max(n, p))), np.zeros(p),
        np.zeros(n_active, np.int64), np.zeros(n_active, np.int64), np.zeros((5, p + 1), np.int64),
    )  # fmt: skip
    size = p * (n_rows.max() if n_rows.shape[0] > 0 else 0)
    return work, np.zeros(size), np.zeros(size, np.int64), np.zeros((size, n_active))


@njit(**JIT)
def gauss_newton_theta(
    psi, first_row, n_rows, weight, data, shape, gain, active, bounds, precision,
    sse, gradient, normal,
):  # fmt: skip
    """Squared residuals, gradient and Gauss-Newton matrix in the active entries, each evaluation.

    With R^-1 = diag(precision) / s^2 (s the sequence's noise level), G the Jacobian of yhat and r
    the residuals: sse (E, p) <- their sums of weighted squares, gradient (E, n_active)
    <- weight G' R^-1 r = weight d log p(y | psi) / d psi, normal (E, n_active, n_active)
    <- weight G' R^-1 G (both triangles), for weight (E,) >= 0. The noise entry gets its exact
    gradient and its Fisher information, 2 per observed value.
    """
    n_active = active.shape[0]
    work, r_out, o_out, G = _workspace(n_active, n_rows, shape)
    scaled = np.zeros_like(G)
    for e in range(psi.shape[0]):
        count = _sensitivities(
            psi, e, first_row[e], n_rows[e], data, shape, gain, active, bounds, work,
            r_out, o_out, G,
        )  # fmt: skip
        level = math.exp(-psi[e, psi.shape[1] - 1])
        sse[e] = 0.0
        gradient[e] = 0.0
        weighted = 0.0
        for h in range(count):
            root = math.sqrt(precision[o_out[h]] * weight[e]) * level
            sse[e, o_out[h]] += r_out[h] * r_out[h]
            weighted += precision[o_out[h]] * (level * r_out[h]) ** 2
            for r in range(n_active):
                scaled[h, r] = root * G[h, r]
                gradient[e, r] += root * r_out[h] * scaled[h, r]
        if n_active > 0:
            rows = scaled[:count]
            np.dot(rows.T, rows, normal[e])
        for r in range(bounds[7], bounds[8]):
            gradient[e, r] += weight[e] * (weighted - count)
            normal[e, r, r] += weight[e] * 2.0 * count


@njit(**LEAF)
def _cholesky_solve(H, damping, g, L, out):
    """out <- (H + damping diag H)^-1 g by Cholesky; False when that is not positive definite."""
    k = g.shape[0]
    for i in range(k):
        for j in range(i + 1):
            acc = H[i, j] * (1.0 + damping) if i == j else H[i, j]
            for h in range(j):
                acc -= L[i, h] * L[j, h]
            if i == j:
                if not acc > 0.0:
                    return False
                L[i, i] = math.sqrt(acc)
            else:
                L[i, j] = acc / L[j, j]
    for i in range(k):
        acc = g[i]
        for h in range(i):
            acc -= L[i, h] * out[h]
        out[i] = acc / L[i, i]
    for i in range(k - 1, -1, -1):
        acc = out[i]
        for h in range(i + 1, k):
            acc -= L[h, i] * out[h]
        out[i] = acc / L[i, i]
    return True


@njit(**JIT)
def _latent_quantities(
    z, bias, loadings, psi, first, n_rows, data, shape, gain, active, bounds, precision, buffers,
    g, H,
):  # fmt: skip
    """log p(y | z) - |z|^2 / 2 up to constants; its gradient (g <-), Gauss-Newton matrix (H <-)."""
    work, r_out, o_out, G, active_loadings, J = buffers
    k = z.shape[0]
    last = bias.shape[0] - 1
    for i in range(last + 1):
        psi[0, i] = bias[i]
        for a in range(k):
            psi[0, i] += loadings[i, a] * z[a]
    count = _sensitivities(
        psi, 0, first, n_rows, data, shape, gain, active, bounds, work, r_out, o_out, G
    )
    log_level = psi[0, last]
    level = math.exp(-log_level)
    rows = J[:count]
    np.dot(G[:count], active_loadings, rows)
    for a in range(k):
        g[a] = -z[a]
    weighted = 0.0
    for h in range(count):
        root = math.sqrt(precision[o_out[h]]) * level
        residual = root * r_out[h]
        weighted += residual * residual
        for a in range(k):
            rows[h, a] *= root
            g[a] += rows[h, a] * residual
    np.dot(rows.T, rows, H)
    objective = -0.5 * weighted - count * log_level
    for a in range(k):
        objective -= 0.5 * z[a] * z[a]
        g[a] += loadings[last, a] * (weighted - count)
        for b in range(k):
            H[a, b] += 2.0 * count * loadings[last, a] * loadings[last, b]
        H[a, a] += 1.0
    return objective


@njit(**JIT)
def maximize_latent(
    z, bias, loadings, first_row, n_rows, data, shape, gain, active, bounds, precision,
    max_steps, tol, objective, hessian,
):  # fmt: skip
    """Levenberg-Marquardt on log p(y | z) + log p(z), each evaluation from its own start z[e].

    psi = loadings z + bias. z (E, k) <- the modes found, objective (E,) <- log posterior up to
    constants, hessian (E, k, k) <- the Gauss-Newton matrix I + J' R^-1 J there. Damping times the
    diagonal: 0.01, x 0.2 after a success, x 6 after a failure; stops when a success gains less
    than tol.
    """
    k = z.shape[1]
    work, r_out, o_out, G = _workspace(active.shape[0], n_rows, shape)
    active_loadings = np.empty((active.shape[0], k))
    for r in range(active.shape[0]):
        active_loadings[r] = loadings[active[r]]
    buffers = (work, r_out, o_out, G, active_loadings, np.zeros((G.shape[0], k)))
    psi, g, step, trial = np.zeros((1, len(bias))), np.zeros(k), np.zeros(k), np.zeros(k)
    g_trial, H_trial, L = np.zeros(k), np.zeros((k, k)), np.zeros((k, k))
    for e in range(z.shape[0]):
        H = hessian[e]
        first, rows = first_row[e], n_rows[e]
        value = _latent_quantities(
            z[e], bias, loadings, psi, first, rows, data, shape, gain, active, bounds, precision,
            buffers, g, H,
        )  # fmt: skip
        damping = 0.01
        for _ in range(max_steps):
            if not _cholesky_solve(H, damping, g, L, step):
                damping *= 6.0
                continue
            for a in range(k):
                trial[a] = z[e, a] + step[a]
            new = _latent_quantities(
                trial, bias, loadings, psi, first, rows, data, shape, gain, active, bounds,
                precision, buffers, g_trial, H_trial,
            )  # fmt: skip
            if new > value:
                gain_made = new - value
                value = new
                z[e] = trial
                g[:] = g_trial
                H[:] = H_trial
                damping = max(0.2 * damping, 1e-9)
                if gain_made < tol:
                    break
            else:
                damping *= 6.0
                if damping > 1e8:
                    break
        objective[e] = value
