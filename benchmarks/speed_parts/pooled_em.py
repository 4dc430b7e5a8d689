"""One linear Gaussian system for all sequences, by the EM of dynamax."""

import jax
import jax.numpy as jnp
import numpy as np
from dynamax.linear_gaussian_ssm import LinearGaussianSSM


class PooledSystem:
    """Learns from outputs (n_sequences, n_rows), one output, no inputs."""

    def __init__(self, n_states: int, n_iterations: int = 50, seed: int = 0) -> None:
        self.model = LinearGaussianSSM(n_states, 1)
        self.n_iterations, self.seed = n_iterations, seed

    def fit(self, y: np.ndarray) -> "PooledSystem":
        start, properties = self.model.initialize(jax.random.key(self.seed))
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
