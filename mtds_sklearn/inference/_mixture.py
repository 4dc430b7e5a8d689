"""Mixtures of Student t and Gaussian components, one mixture per sequence, all sequences at once.

A proposal has J adapted Student t components, whose tails are heavier than any Gaussian's, and one
more: the prior p(z) itself, which keeps the importance weights bounded.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, logsumexp, ndtri
from scipy.stats import chi2

from mtds_sklearn.model._latent_prior import LatentPrior, latents_from_normal, log_prior_density

DEGREES_OF_FREEDOM = 8.0
# Pseudo-observations by which a component's old mean and covariance count in a refit.
MEAN_STRENGTH, COV_STRENGTH = 1.0, 4.0
EM_STEPS = 3


class Mixture(NamedTuple):
    """Proposal mixtures of N sequences.

    Attributes
    ----------
    weights : ndarray of shape (n_sequences, 1 + n_components)
        The first is the prior's.
    means : ndarray of shape (n_sequences, n_components, k)
    factors : ndarray of shape (n_sequences, n_components, k, k)
        Lower Cholesky factors of the scale matrices.
    """

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray


def select_mixture(mixture: Mixture, index) -> Mixture:
    """Mixtures of some of the sequences."""
    return Mixture(*(part[index] for part in mixture))


def draw(mixture: Mixture, prior: LatentPrior, uniform: np.ndarray) -> np.ndarray:
    """Points (n_sequences, n_draws, k) from uniform numbers (n_draws, k + 2) in (0, 1).

    The first number chooses the component, the second the scale of its tail, the others its
    direction, so that quasi-random numbers give quasi-random points.
    """
    edges = np.cumsum(mixture.weights, axis=1)
    which = np.sum(uniform[None, :, 0, None] * edges[:, None, -1:] > edges[:, None, :-1], axis=2)
    normal = ndtri(uniform[:, 2:])
    tail = np.sqrt(chi2.ppf(uniform[:, 1], DEGREES_OF_FREEDOM) / DEGREES_OF_FREEDOM)
    component = np.maximum(which - 1, 0)
    rows = np.arange(len(which))[:, None]
    factor = mixture.factors[rows, component]
    step = np.einsum("nsij,sj->nsi", factor, normal / tail[:, None])
    from_prior = latents_from_normal(prior, normal)
    return np.where(which[..., None] == 0, from_prior, mixture.means[rows, component] + step)


def log_density(mixture: Mixture, prior: LatentPrior, z: np.ndarray) -> np.ndarray:
    """Log density (n_sequences, n_points) of each sequence's mixture at its own points."""
    parts = component_log_densities(mixture, z)
    from_prior = log_prior_density(prior, z)[:, None]
    with np.errstate(divide="ignore"):
        log_weights = np.log(mixture.weights)[..., None]
    return logsumexp(np.concatenate([from_prior, parts], axis=1) + log_weights, axis=1)


def component_log_densities(mixture: Mixture, z: np.ndarray) -> np.ndarray:
    """Student t log densities (n_sequences, n_components, n_points)."""
    k, nu = z.shape[-1], DEGREES_OF_FREEDOM
    inverse = np.linalg.inv(mixture.factors)
    centre = np.einsum("njab,njb->nja", inverse, mixture.means)
    standard = z[:, None] @ np.swapaxes(inverse, -1, -2) - centre[:, :, None]
    log_det = np.sum(np.log(np.einsum("njaa->nja", mixture.factors)), axis=-1)
    constant = gammaln(0.5 * (nu + k)) - gammaln(0.5 * nu) - 0.5 * k * np.log(nu * np.pi)
    tail = np.log1p(np.einsum("njsa,njsa->njs", standard, standard) / nu)
    return constant - log_det[..., None] - 0.5 * (nu + k) * tail


def refit(z: np.ndarray, weights: np.ndarray, n_components: int, prior_weight: float) -> Mixture:
    """Mixtures fitted to weighted points (n_sequences, n_points, k) by EM with a conjugate prior.

    Components start at points resampled by weight, as wide as the whole cloud shrunk by
    n_components^(-1/k); old means and covariances count like a few observations, so that a
    component held by few points keeps a proper covariance (Cappe et al. 2008, with a
    normal-inverse-Wishart prior).
    """
    n, _, k = z.shape
    effective = 1.0 / np.sum(weights**2, axis=1)
    mean = np.einsum("ns,nsk->nk", weights, z)
    centred = z - mean[:, None]
    spread = np.einsum("ns,nsi,nsj->nij", weights, centred, centred)
    spread = spread + 1e-9 * np.eye(k) * (1.0 + np.trace(spread, axis1=1, axis2=2))[:, None, None]
    picks = systematic(weights, n_components)
    means = z[np.arange(n)[:, None], picks]
    covs = np.repeat(spread[:, None] * n_components ** (-1.0 / k), n_components, axis=1)
    shares = np.full((n, n_components), 1.0 / n_components)
    for _ in range(EM_STEPS):
        mixture = _assemble(shares, means, covs, 0.0)
        joint = component_log_densities(mixture, z) + np.log(shares)[..., None]
        belongs = np.exp(joint - logsumexp(joint, axis=1, keepdims=True)) * weights[:, None]
        count = effective[:, None] * belongs.sum(axis=2)
        centre = belongs @ z / np.maximum(belongs.sum(axis=2), 1e-300)[..., None]
        pull = MEAN_STRENGTH / (count + MEAN_STRENGTH)
        gap = centre - means
        second = np.einsum("njs,nsa,nsb->njab", belongs, z, z, optimize=True)
        second = effective[:, None, None, None] * second - count[..., None, None] * _outer(centre)
        covs = (second + COV_STRENGTH * covs + (count * pull)[..., None, None] * _outer(gap)) / (
            count + COV_STRENGTH
        )[..., None, None]
        covs = covs + 1e-9 * spread[:, None]
        means = centre - pull[..., None] * gap
        shares = (count + 1.0 / n_components) / np.sum(
            count + 1.0 / n_components, axis=1, keepdims=True
        )
    return _assemble(shares, means, covs, prior_weight)


def _outer(x: np.ndarray) -> np.ndarray:
    return x[..., :, None] * x[..., None, :]


def _assemble(shares, means, covs, prior_weight) -> Mixture:
    weights = np.concatenate(
        [np.full((len(shares), 1), prior_weight), (1.0 - prior_weight) * shares], axis=1
    )
    return Mixture(weights, means, np.linalg.cholesky(covs))


def systematic(weights: np.ndarray, n: int) -> np.ndarray:
    """Indices (n_sequences, n) of systematic resampling, offset 1/2; rows of weights sum to 1."""
    edges = np.cumsum(weights, axis=1)
    levels = (np.arange(n) + 0.5) / n
    picks = np.stack([np.searchsorted(row, levels * row[-1]) for row in edges])
    return np.minimum(picks, weights.shape[1] - 1)
