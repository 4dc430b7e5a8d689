"""Adaptive importance sampling from mixtures, for many posteriors at once.

Population Monte Carlo (Cappe, Douc, Guillin, Marin & Robert 2008): draw from a mixture of Student t
components and the prior, weight by a power of the likelihood, refit the mixture by weighted EM,
raise the power. The prior is the standard logistic distribution in each of d coordinates, so that
the coordinates are logits of something uniform; n posteriors run side by side.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, logsumexp

N_ROUND = 2048  # draws of a round of adaptation
N_REFINEMENTS = 3  # rounds at temperature one
MAX_ROUNDS = 30
N_COMPONENTS = 5
N_EM_STEPS = 4
DEGREES_OF_FREEDOM = 6
PRIOR_SHARE = 0.1  # of the draws; bounds the weights where the components miss something


class Mixture(NamedTuple):
    """Shares, centres and shapes of the k Student t components of n proposals."""

    log_share: np.ndarray  # (n, k)
    mean: np.ndarray  # (n, k, d)
    cholesky: np.ndarray  # (n, k, d, d), of the scale matrices


def first_mixture(starts: np.ndarray) -> Mixture:
    """Components of equal shape at the first of equally weighted starts (n, n_starts, d)."""
    n, n_starts, d = starts.shape
    deviation = starts - starts.mean(axis=1, keepdims=True)
    cov = np.einsum("nsd,nse->nde", deviation, deviation) / n_starts + 1e-6 * np.eye(d)
    cholesky = np.repeat(np.linalg.cholesky(cov)[:, None], N_COMPONENTS, axis=1)
    log_share = np.full((n, N_COMPONENTS), -np.log(N_COMPONENTS))
    mixture = Mixture(log_share, starts[:, :N_COMPONENTS], cholesky)
    return _refit(mixture, starts, np.full((n, n_starts), 1 / n_starts))


def adapt(mixture: Mixture, log_likelihood_of: Callable, rng: np.random.Generator) -> Mixture:
    """Raise the temperature to one as fast as the effective sample size allows, then refine."""
    refinements, temperature = 0, np.full(len(mixture.mean), 1e-5)
    for _ in range(MAX_ROUNDS):
        draws, log_ratio = draw(mixture, N_ROUND, rng)
        log_likelihood = log_likelihood_of(draws)
        temperature = _raised(temperature, log_ratio, log_likelihood)
        weights = normalised(log_ratio + temperature[:, None] * log_likelihood)
        mixture = _refit(mixture, draws, weights)
        refinements += temperature.min() == 1
        if refinements == N_REFINEMENTS:
            break
    return mixture


def draw(mixture: Mixture, n_draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws (n, n_draws, d) and the log of prior over proposal (n, n_draws)."""
    n, k, d = mixture.mean.shape
    share = np.cumsum(np.exp(mixture.log_share), axis=1) / np.exp(mixture.log_share).sum(1)[:, None]
    stratified = (np.arange(n_draws) + rng.random((n, n_draws))) / n_draws
    component = np.minimum((stratified[:, :, None] > share[:, None]).sum(axis=2), k - 1)
    sequence = np.arange(n)[:, None]
    scale = np.sqrt(DEGREES_OF_FREEDOM / rng.chisquare(DEGREES_OF_FREEDOM, (n, n_draws, 1)))
    normal = scale * rng.standard_normal((n, n_draws, d))
    draws = np.einsum("nsde,nse->nsd", mixture.cholesky[sequence, component], normal)
    draws += mixture.mean[sequence, component]
    from_prior = rng.random((n, n_draws)) < PRIOR_SHARE
    draws[from_prior] = rng.logistic(size=(from_prior.sum(), d))

    log_prior = -(np.abs(draws) + 2 * np.log1p(np.exp(-np.abs(draws)))).sum(axis=2)
    log_mixture = logsumexp(mixture.log_share[:, None] + _log_components(mixture, draws), axis=2)
    log_proposal = np.logaddexp(
        np.log(PRIOR_SHARE) + log_prior, np.log1p(-PRIOR_SHARE) + log_mixture
    )
    return draws, log_prior - log_proposal


def _raised(
    temperature: np.ndarray, log_ratio: np.ndarray, log_likelihood: np.ndarray
) -> np.ndarray:
    """Raise powers (n,) of the likelihood, up to one, while N_ROUND / 8 draws stay alive."""

    def alive(log_power):
        powered = np.exp(log_power)[:, None] * log_likelihood
        return ess(normalised(log_ratio + powered)) >= N_ROUND / 8

    # The search starts from the last power: towards zero, too, draws shaped by it would die.
    low, high = np.log(temperature), np.zeros(len(temperature))
    done = alive(high)
    for _ in range(15):
        middle = (low + high) / 2
        up = alive(middle)
        low, high = np.where(up, middle, low), np.where(up, high, middle)
    return np.where(done, 1.0, np.exp(low))


def _refit(mixture: Mixture, draws: np.ndarray, weights: np.ndarray) -> Mixture:
    """Weighted EM; components that lose their draws fall back on the others' mean covariance."""
    for _ in range(N_EM_STEPS):
        log_density = mixture.log_share[:, None] + _log_components(mixture, draws)
        share = weights[:, :, None] * normalised(log_density, axis=2)  # (n, n_draws, k)
        mass = share.sum(axis=1)
        overall = np.einsum("ns,nsd->nd", weights, draws)
        total = share.transpose(0, 2, 1) @ draws + 1e-6 * overall[:, None]
        mean = total / (mass[:, :, None] + 1e-6)
        deviation = draws[:, None] - mean[:, :, None]  # (n, k, n_draws, d)
        weighted = share.transpose(0, 2, 1)[..., None] * deviation
        scatter = weighted.transpose(0, 1, 3, 2) @ deviation
        pooled = scatter.sum(axis=1, keepdims=True) + 1e-9 * np.eye(draws.shape[2])
        cov = (scatter + 0.02 * pooled) / (mass[:, :, None, None] + 0.02)
        log_share = np.log((mass + 0.01) / (mass + 0.01).sum(axis=1, keepdims=True))
        mixture = Mixture(log_share, mean, np.linalg.cholesky(cov))
    return mixture


def _log_components(mixture: Mixture, draws: np.ndarray) -> np.ndarray:
    """Log Student t density of every component, (n, n_draws, k)."""
    d, nu = draws.shape[2], DEGREES_OF_FREEDOM
    inverse = np.linalg.inv(mixture.cholesky)  # (n, k, d, d)
    deviation = draws[:, None] - mixture.mean[:, :, None]
    scaled = deviation @ inverse.transpose(0, 1, 3, 2)
    distance = np.einsum("nksd,nksd->nks", scaled, scaled)
    log_det = np.log(np.diagonal(mixture.cholesky, axis1=2, axis2=3)).sum(axis=2)
    constant = gammaln((nu + d) / 2) - gammaln(nu / 2) - d / 2 * np.log(nu * np.pi)
    log_density = constant - log_det[:, :, None] - (nu + d) / 2 * np.log1p(distance / nu)
    return log_density.transpose(0, 2, 1)


def normalised(log_weight: np.ndarray, axis: int = 1) -> np.ndarray:
    """Weights that sum to one along the axis."""
    weights = np.exp(log_weight - log_weight.max(axis=axis, keepdims=True))
    return weights / weights.sum(axis=axis, keepdims=True)


def ess(weights: np.ndarray) -> np.ndarray:
    """Effective sample sizes (n,) of normalised weights (n, n_draws)."""
    return 1 / (weights**2).sum(axis=1)
