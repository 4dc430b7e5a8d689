"""The whole posterior of a small family by NUTS in NumPyro: W, b, noise and every z together."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, init_to_value

from mtds_sklearn.model._task_map import Family
from speed_parts.monte_carlo import family_of, layout, simulate


def sample(y: np.ndarray, n_states: int, latent_dim: int, n_draws: int, seed: int = 0) -> list:
    """Families drawn from the posterior given standardised outputs (n_sequences, n_rows).

    As many draws again are left out before them.
    """
    where, outputs = layout(n_states, seed), jnp.asarray(y.T)
    n_theta = len(where.bias)

    def model():
        W = numpyro.sample("W", dist.Normal(0, 0.5).expand([n_theta, latent_dim]).to_event(2))
        b = numpyro.sample("b", dist.Normal(0, 3).expand([n_theta]).to_event(1))
        noise = numpyro.sample("noise", dist.LogNormal(-2.0, 1.0))
        z = numpyro.sample("z", dist.Normal(0, 1).expand([latent_dim, y.shape[0]]).to_event(2))
        yhat = simulate(W @ z + b[:, None], where, y.shape[1])
        numpyro.sample("y", dist.Normal(yhat, noise).to_event(2), obs=outputs)

    values = {"W": 0.1 * jnp.eye(n_theta, latent_dim), "b": jnp.asarray(where.bias)}
    values |= {"noise": jnp.asarray(0.5), "z": jnp.zeros((latent_dim, y.shape[0]))}
    kernel = NUTS(model, init_strategy=init_to_value(values=values), max_tree_depth=8)
    chain = MCMC(kernel, num_warmup=n_draws, num_samples=n_draws, progress_bar=False)
    chain.run(jax.random.key(seed))
    found = chain.get_samples()
    parts = zip(found["W"], found["b"], found["noise"], strict=True)
    families: list[Family] = [family_of(where, *part) for part in parts]
    return families
