"""The same likelihood in JAX, in two forms; derivatives are JAX's own.

"scan": one evaluation is a `lax.scan` over rows, and `vmap` makes many. "arrays": the scan goes
over rows of all evaluations at once, which stand side by side in the last axis.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from speed_parts.problem import Problem

jax.config.update("jax_enable_x64", True)
SMOOTHING = 1e-3  # at double poles, as in the modal chart


def transition(chart, n, modal):
    """A as blocks (4, n / 2, ...) in the modal chart, else (n, n, ...)."""
    if modal:
        q = jnp.tanh(chart[0::2])
        half = 0.5 * jnp.tanh(chart[1::2]) * (1.0 + q)
        d = q - half**2
        s = (d**2 + SMOOTHING**2) ** 0.25
        return jnp.stack([half, s, -d / s, half])
    rows, columns = np.tril_indices(n, -1)
    S = jnp.zeros((n, n, *chart.shape[1:])).at[rows, columns].set(chart[n:])
    S = S - jnp.swapaxes(S, 0, 1)
    if chart.ndim == 1:
        Q = 2.0 * jnp.linalg.inv(jnp.eye(n) + S) - jnp.eye(n)
    else:
        inverse = jnp.linalg.inv(jnp.eye(n) + jnp.moveaxis(S, 2, 0))
        Q = jnp.moveaxis(2.0 * inverse - jnp.eye(n), 0, 2)
    return jnp.tanh(chart[:n])[:, None] * Q


def split(psi, problem: Problem):
    """A's coordinates, B, x0, C, D, offset and log level of psi (n_natural, ...)."""
    n, m, p = problem.size[3:]
    shapes = ((problem.n_transition,), (n, m), (n,), (n, p), (p, n), (p, m), (p,), ())
    parts, start = [], 0
    for shape in shapes:
        stop = start + int(np.prod(shape))
        parts.append(psi[start:stop].reshape(*shape, *psi.shape[1:]))
        start = stop
    chart, B, x0, _, C, D, offset, level = parts
    return chart, B, x0, C, D, offset, level


def turn(A, x, modal):
    """A x; in the modal chart entries of a pair of states stand next to each other."""
    if not modal:
        return jnp.sum(A * x[None], axis=1) if x.ndim > 1 else A @ x
    pairs = x.reshape(-1, 2, *x.shape[1:])
    a, b = pairs[:, 0], pairs[:, 1]
    return jnp.stack([A[0] * a + A[1] * b, A[2] * a + A[3] * b], axis=1).reshape(x.shape)


def times(M, u):
    """M u, entries side by side or not; no columns: zero."""
    if M.shape[1] == 0:
        return 0.0
    return jnp.sum(M * u[None], axis=1) if M.ndim > 2 else M @ u


def outputs_of(psi, inputs, problem: Problem, modal):
    """Predicted outputs (n_rows, p, ...) of psi (n_natural, ...), inputs (n_rows, m, ...)."""
    chart, B, x0, C, D, offset, _ = split(psi, problem)
    A = transition(chart, problem.size.n_states, modal)

    def row(state, u):
        x = state + times(B, u)
        return turn(A, x, modal), times(C, x) + times(D, u) + offset

    return lax.scan(row, x0, inputs, length=problem.size.n_rows)[1]


def density(yhat, y, seen, psi, noise):
    """log p(y | psi) (...) from outputs (n_rows, p, ...)."""
    log_std = jnp.log(noise).reshape(-1, *(1,) * (yhat.ndim - 2)) + psi[-1]
    r = jnp.where(seen, y - yhat, 0.0)
    count = seen.sum(axis=0)
    parts = (r**2).sum(axis=0) * jnp.exp(-2.0 * log_std)
    return -0.5 * jnp.sum(parts + count * (jnp.log(2.0 * jnp.pi) + 2.0 * log_std), axis=0)


def kernels(problem: Problem, form: str) -> dict:
    """As `own_kernels`; `form` is "scan" or "arrays"."""
    modal = problem.family.chart.shape.block == 2
    active, noise = problem.family.chart.active, jnp.asarray(problem.family.noise_std)
    repeats = problem.size.n_samples
    side_by_side = form == "arrays"

    def many(array):
        whole = np.repeat(array, repeats, axis=0)
        return jnp.asarray(np.moveaxis(whole, 0, 2) if side_by_side else whole)

    u, y, seen = (many(a) for a in (problem.inputs, problem.outputs, problem.observed))
    psi = jnp.asarray(problem.psi.T if side_by_side else problem.psi)
    z = jnp.asarray(problem.z.T if side_by_side else problem.z)
    W, b = jnp.asarray(problem.loadings), jnp.asarray(problem.bias)

    def value(psi, u, y, seen):
        return density(outputs_of(psi, u, problem, modal), y, seen, psi, noise)

    def of_active(free, psi, u, y, seen):
        return value(psi.at[active].set(free), u, y, seen)

    def curvature(outputs, at, seen):
        """J' R^-1 J of outputs(at), by forward derivatives along each entry."""
        _, forward = jax.linearize(outputs, at)
        units = jnp.eye(len(at))
        if at.ndim > 1:
            units = units[:, :, None] * jnp.ones_like(at)
        std = noise if at.ndim == 1 else noise[:, None]
        J = jnp.where(seen, jax.vmap(forward)(units) / std, 0.0)
        return jnp.einsum("atp,btp->ab" if at.ndim == 1 else "atpe,btpe->eab", J, J)

    def in_z(z, u, seen):
        def outputs(z):
            full = W @ z + (b if z.ndim == 1 else b[:, None])
            return outputs_of(full, u, problem, modal)

        return curvature(outputs, z, seen) + jnp.eye(len(z))

    def in_theta(free, psi, u, seen):
        def outputs(free):
            return outputs_of(psi.at[active].set(free), u, problem, modal)

        return curvature(outputs, free, seen)

    if side_by_side:
        every = (value, jax.grad(lambda *args: of_active(*args).sum()), in_z, in_theta)
    else:
        every = map(jax.vmap, (value, jax.grad(of_active), in_z, in_theta))
    values, gradients, every_z, every_theta = map(jax.jit, every)
    free = psi[active] if side_by_side else psi[:, active]

    def ready(function, *arguments):
        return lambda: jax.block_until_ready(function(*arguments))

    return {
        "value": ready(values, psi, u, y, seen),
        "gradient": ready(gradients, free, psi, u, y, seen),
        "Gauss-Newton, z": ready(every_z, z, u, seen),
        "Gauss-Newton, theta": ready(every_theta, free, psi, u, seen),
    }
