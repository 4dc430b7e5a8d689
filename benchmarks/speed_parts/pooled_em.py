"""One linear Gaussian system for all sequences, by the EM of dynamax."""

import jax
import jax.numpy as jnp
import numpy as np
from dynamax.linear_gaussian_ssm import LinearGaussianSSM
from scipy.linalg import block_diag


def rotation(angle: float) -> np.ndarray:
    """By an angle, in a plane."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s], [-s, c]])


class _Model(LinearGaussianSSM):
    """The M-step of dynamax 1.0.3 makes a negative initial covariance of several sequences."""

    def m_step(self, params, props, batch_stats, m_step_state):
        params, state = super().m_step(params, props, batch_stats, m_step_state)
        total, squares, n = (jnp.sum(part, axis=0) for part in batch_stats[0])
        mean = total / n
        cov = squares / n - jnp.outer(mean, mean) + 1e-6 * jnp.eye(len(mean))
        return params._replace(initial=params.initial._replace(mean=mean, cov=cov)), state


class PooledSystem:
    """Learns from outputs (n_sequences, n_rows), one output, no inputs."""

    def __init__(self, n_states: int, n_iterations: int = 30, seed: int = 0) -> None:
        self.model = _Model(n_states, 1)
        self.angles = np.linspace(0.1, 0.8, n_states // 2)
        self.n_iterations, self.seed = n_iterations, seed

    def fit(self, y: np.ndarray) -> "PooledSystem":
        turns = [0.95 * rotation(angle) for angle in self.angles]
        start, properties = self.model.initialize(
            jax.random.key(self.seed), dynamics_weights=jnp.asarray(block_diag(*turns))
        )
        self.parameters, _ = self.model.fit_em(
            start, properties, jnp.asarray(y[..., None]), num_iters=self.n_iterations, verbose=False
        )
        return self

    def log_marginal(self, y: np.ndarray) -> np.ndarray:
        """Nats of each sequence (n,)."""
        one = jax.jit(lambda rows: self.model.marginal_log_prob(self.parameters, rows))
        return np.array([one(jnp.asarray(rows[:, None])) for rows in y])

    def forecast(self, y: np.ndarray, context: int) -> tuple:
        """Mean and standard deviation (n, n_rows - context) of what follows the first rows."""
        p = self.parameters
        F, Q = np.asarray(p.dynamics.weights), np.asarray(p.dynamics.cov)
        H, R = np.asarray(p.emissions.weights)[0], np.asarray(p.emissions.cov)[0, 0]
        f0, h0 = np.asarray(p.dynamics.bias), np.asarray(p.emissions.bias)[0]
        one = jax.jit(lambda rows: self.model.filter(self.parameters, rows))
        means, stds = np.empty((2, len(y), y.shape[1] - context))
        for i, rows in enumerate(y):
            seen = one(jnp.asarray(rows[:context, None]))
            m, P = np.asarray(seen.filtered_means[-1]), np.asarray(seen.filtered_covariances[-1])
            for t in range(y.shape[1] - context):
                m, P = F @ m + f0, F @ P @ F.T + Q
                means[i, t], stds[i, t] = H @ m + h0, np.sqrt(H @ P @ H + R)
        return means, stds
