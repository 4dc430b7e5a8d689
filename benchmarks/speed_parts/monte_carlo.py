"""The objective of the article on multi-task dynamical systems, climbed by Adam in JAX.

    sum_i log 1/S sum_s p(y_i | W z_s + b),   z_s ~ N(0, I) drawn anew at each step,

for sequences without inputs, in the modal chart of the package, so that its inference judges what
comes out.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtds_sklearn.model._chart import Chart, make_chart
from mtds_sklearn.model._lds import Shape
from mtds_sklearn.model._task_map import Family
from speed_parts.jax_kernels import turn

SMOOTHING = 1e-3
N_DRAWS = 512


class Layout(NamedTuple):
    """A chart, where its parameters start, and its map from theta to psi."""

    chart: Chart
    bias: np.ndarray
    const: np.ndarray
    basis: np.ndarray


def layout(n_states: int, seed: int) -> Layout:
    """Poles of modulus 0.95, spread over the slower half of the frequencies; the rest small."""
    chart = make_chart(
        Shape(n_states, 0, 1, 2), np.ones((n_states // 2, 1)), ("A", "x0", "offset"), False
    )
    bias = 0.1 * np.random.default_rng(seed).standard_normal(len(chart.entries))
    frequencies = np.pi * (np.arange(n_states // 2) + 0.5) / n_states
    poles = [i for i, entry in enumerate(chart.entries) if entry[0] == "A"]
    bias[poles[0::2]] = np.arctanh(0.9)
    bias[poles[1::2]] = np.arctanh(2.0 * np.sqrt(0.9) * np.cos(frequencies) / 1.9)
    return Layout(chart, bias, chart.const, chart.basis)


def simulate(theta, where: Layout, n_rows: int):
    """Outputs (n_rows, n_draws) of theta (n_theta, n_draws)."""
    n = where.chart.shape.n_states
    psi = where.const[:, None] + where.basis @ theta
    q = jnp.tanh(psi[0:n:2])
    half = 0.5 * jnp.tanh(psi[1:n:2]) * (1.0 + q)
    d = q - half**2
    s = (d**2 + SMOOTHING**2) ** 0.25
    A, offset, C = jnp.stack([half, s, -d / s, half]), psi[-2], psi[3 * n : 4 * n]

    def row(state, _):
        return turn(A, state, True), jnp.sum(C * state, axis=0) + offset

    return jax.lax.scan(row, psi[n : 2 * n], None, length=n_rows)[1]


def learn(y: np.ndarray, n_states: int, latent_dim: int, n_steps: int, seed: int = 0) -> Family:
    """Learn from standardised outputs (n_sequences, n_rows); 512 draws a step.

    Steps of 0.02 shrink to a tenth.
    """
    where, outputs = layout(n_states, seed), jnp.asarray(y)
    loadings = 0.1 * np.random.default_rng(seed + 1).standard_normal((len(where.bias), latent_dim))
    start = {"W": loadings, "b": where.bias, "log_noise": np.log(0.5)}
    start = {name: jnp.asarray(value) for name, value in start.items()}

    def loss(parameters, key):
        z = jax.random.normal(key, (latent_dim, N_DRAWS))
        yhat = simulate(parameters["W"] @ z + parameters["b"][:, None], where, y.shape[1])
        variance = jnp.exp(2.0 * parameters["log_noise"])
        squares = (outputs**2).sum(1)[:, None] - 2.0 * outputs @ yhat + (yhat**2).sum(0)
        values = -0.5 * (squares / variance + y.shape[1] * jnp.log(2.0 * jnp.pi * variance))
        return -jnp.sum(jax.nn.logsumexp(values, axis=1) - np.log(N_DRAWS)) / y.size

    rule = optax.adam(optax.cosine_decay_schedule(0.02, n_steps, alpha=0.1))

    @jax.jit
    def step(parameters, state, key):
        change, state = rule.update(jax.grad(loss)(parameters, key), state)
        return optax.apply_updates(parameters, change), state

    parameters, state = start, rule.init(start)
    for key in jax.random.split(jax.random.key(seed), n_steps):
        parameters, state = step(parameters, state, key)
    return family_of(where, parameters["W"], parameters["b"], jnp.exp(parameters["log_noise"]))


def family_of(where: Layout, loadings, bias, noise) -> Family:
    """As the package's inference wants it."""
    loadings, bias, noise = (np.array(part, dtype=float) for part in (loadings, bias, noise))
    return Family(where.chart, loadings, bias, np.atleast_1d(noise), np.ones(len(bias)))
