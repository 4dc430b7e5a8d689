"""The posterior p(z | y) of new sequences by adaptive mixture importance sampling.

First proposal: Student t components at the modes that Levenberg-Marquardt finds from the best of a
shared quasi-random prior sample, plus the prior. Each round draws quasi-random points from the
proposal and weights the points of *all* rounds by the deterministic mixture of all proposals
(Cornuet et al. 2012):

    w(z) = p(y | z) p(z) / mean_r q_r(z).

Sequences whose effective sample size is still too small get a proposal refitted to their weighted
points by EM (Cappe et al. 2008); where the points are too few the weights are tempered for the
refit. The evidence is the mean of the weights.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtri
from scipy.stats.qmc import Sobol

from mtds_sklearn._sequences import PackedSequences, select_sequences
from mtds_sklearn.inference._mixture import (
    Mixture,
    draw,
    log_density,
    refit,
    select_mixture,
    systematic,
)
from mtds_sklearn.inference._modes import posterior_modes
from mtds_sklearn.model._latent_prior import log_prior_density
from mtds_sklearn.model._likelihood import evaluations, log_likelihood
from mtds_sklearn.model._task_map import Family, latent_prior, natural_parameters

N_POINTS, N_DRAWS = 2048, 2048
N_COMPONENTS = 6
MAX_ROUNDS = 8
TARGET_SHARE = 0.5
PRIOR_WEIGHT = 0.05
# Points of all sequences together that are handled at a time.
CHUNK_POINTS = 200_000


class Draws(NamedTuple):
    """All the random numbers of inference, drawn once.

    Attributes
    ----------
    points : ndarray of shape (n_points, k)
        Quasi-random draws of the prior, where the search for modes starts.
    uniform : ndarray of shape (n_draws, k + 2)
        Quasi-random numbers of one round.
    shifts : ndarray of shape (n_rounds, k + 2)
        Each round shifts the numbers by its own (Cranley & Patterson 1976).
    """

    points: np.ndarray
    uniform: np.ndarray
    shifts: np.ndarray


def make_draws(latent_dim: int, seed: int) -> Draws:
    """Scrambled Sobol numbers that depend on the seed alone."""
    rng = np.random.RandomState(seed)
    seeds = rng.randint(2**31 - 1, size=2)
    points = Sobol(latent_dim, rng=np.random.default_rng(seeds[0])).random(N_POINTS)
    uniform = Sobol(latent_dim + 2, rng=np.random.default_rng(seeds[1])).random(N_DRAWS)
    shifts = rng.uniform(size=(MAX_ROUNDS, latent_dim + 2))
    return Draws(ndtri(np.clip(points, 1e-9, 1.0 - 1e-9)), uniform, shifts)


class Posterior(NamedTuple):
    """Weighted points of p(z | y) of N sequences.

    Attributes
    ----------
    z : ndarray of shape (n_sequences, n_draws, k)
    log_weights : ndarray of shape (n_sequences, n_draws)
        Normalised.
    log_evidence : ndarray of shape (n_sequences,)
        log p(y), in nats.
    ess : ndarray of shape (n_sequences,)
        Effective sample size of all rounds together.
    mean : ndarray of shape (n_sequences, k)
    cov : ndarray of shape (n_sequences, k, k)
    mixture : Mixture
        The last proposal.
    """

    z: np.ndarray
    log_weights: np.ndarray
    log_evidence: np.ndarray
    ess: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    mixture: Mixture


def infer(
    sequences: PackedSequences, family: Family, draws: Draws, starts: np.ndarray | None = None
) -> Posterior:
    """Posterior of every sequence given its observed values.

    Parameters
    ----------
    starts : ndarray of shape (n_sequences, n_starts, k), optional
        Where the climb to the modes starts; by default the best of `draws.points`.
    """
    n = len(sequences.labels)
    size = max(1, CHUNK_POINTS // len(draws.uniform))
    parts = []
    for first in range(0, n, size):
        index = np.arange(first, min(first + size, n))
        part = sequences if n <= size else select_sequences(sequences, index)
        parts.append(_infer(part, family, draws, None if starts is None else starts[index]))
    if len(parts) == 1:
        return parts[0]
    mixture = _join([part.mixture for part in parts], np.concatenate)
    joined = (np.concatenate(a) for a in zip(*(p[:-1] for p in parts), strict=True))
    return Posterior(*joined, mixture)


def _join(mixtures: list, how) -> Mixture:
    return Mixture(*(how(arrays) for arrays in zip(*mixtures, strict=True)))


def _infer(sequences, family, draws, starts) -> Posterior:
    n, (n_draws, width) = len(sequences.labels), draws.uniform.shape
    counts = evaluations(sequences).n_observed.sum(axis=1)
    prior = latent_prior(family)
    proposal = _first_proposal(sequences, family, draws, starts, counts)
    z = np.zeros((n, 0, width - 2))
    log_joint = np.zeros((n, 0))
    results = [None] * n
    active, history = np.arange(n), [proposal]
    for round_ in range(MAX_ROUNDS):
        uniform = np.clip((draws.uniform + draws.shifts[round_]) % 1.0, 1e-9, 1.0 - 1e-9)
        new = draw(history[-1], prior, uniform)
        value = log_target(new, select_sequences(sequences, active), family)
        z, log_joint = np.concatenate([z, new], axis=1), np.concatenate([log_joint, value], axis=1)
        log_weights = log_joint - _history_log_density(history, prior, z)
        ess = effective_sample_size(log_weights)
        done = (ess >= TARGET_SHARE * n_draws) | (round_ == MAX_ROUNDS - 1)
        for i in np.flatnonzero(done):
            results[active[i]] = (z[i], log_weights[i], ess[i], select_mixture(history[-1], i))
        if done.all():
            break
        go = ~done
        active, z, log_joint = active[go], z[go], log_joint[go]
        history = [select_mixture(q, go) for q in history]
        weights = tempered(log_weights[go], 0.1 * TARGET_SHARE * n_draws)
        history.append(refit(z, weights, N_COMPONENTS, PRIOR_WEIGHT))
    return _summary(results, n_draws)


def _history_log_density(history, prior, z) -> np.ndarray:
    return logsumexp([log_density(q, prior, z) for q in history], axis=0) - np.log(len(history))


def log_target(z: np.ndarray, sequences: PackedSequences, family: Family) -> np.ndarray:
    """log p(y_i | z) + log p(z) at each sequence's own points (n_sequences, n_points, k)."""
    n, n_points, k = z.shape
    psi = natural_parameters(family, z.reshape(n * n_points, k))
    run = evaluations(sequences, repeats=n_points)
    values = log_likelihood(psi, run, family.chart, family.noise_std)
    return values.reshape(n, n_points) + log_prior_density(latent_prior(family), z)


def effective_sample_size(log_weights: np.ndarray) -> np.ndarray:
    """(sum w)^2 / sum w^2 over the last axis."""
    return np.exp(2.0 * logsumexp(log_weights, axis=-1) - logsumexp(2.0 * log_weights, axis=-1))


def tempered(log_weights: np.ndarray, least: float) -> np.ndarray:
    """Normalised w^beta with the largest beta <= 1 whose effective sample size reaches `least`."""
    low, high = np.zeros(len(log_weights)), np.ones(len(log_weights))
    enough = effective_sample_size(log_weights) >= least
    for _ in range(20):
        middle = 0.5 * (low + high)
        good = effective_sample_size(middle[:, None] * log_weights) >= least
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    powered = np.where(enough, 1.0, low)[:, None] * log_weights
    return np.exp(powered - logsumexp(powered, axis=1, keepdims=True))


def _first_proposal(sequences, family, draws, starts, counts) -> Mixture:
    """Components at the modes, by their Laplace evidence; much prior where little is observed."""
    k = draws.points.shape[1]
    modes, log_joint, factors = posterior_modes(sequences, family, draws.points, starts)
    log_mass = log_joint + np.sum(np.log(np.einsum("njaa->nja", factors)), axis=-1)
    shares = np.exp(log_mass - logsumexp(log_mass, axis=1, keepdims=True))
    # Every mode keeps a share: Laplace masses of curved posteriors can be far off.
    shares = 0.7 * shares + 0.3 / shares.shape[1]
    prior = np.maximum(PRIOR_WEIGHT, 0.5 * np.exp(-counts / (2.0 * k)))[:, None]
    return Mixture(np.concatenate([prior, (1.0 - prior) * shares], axis=1), modes, factors)


def _summary(results, n_draws) -> Posterior:
    """Moments over all points of a sequence; points of several rounds are resampled to n_draws."""
    k = results[0][0].shape[1]
    n = len(results)
    z, log_weights = np.empty((n, n_draws, k)), np.empty((n, n_draws))
    log_evidence, ess = np.empty(n), np.empty(n)
    mean, cov = np.empty((n, k)), np.empty((n, k, k))
    for i, (points, log_w, effective, _) in enumerate(results):
        total = logsumexp(log_w)
        weights = np.exp(log_w - total)
        log_evidence[i], ess[i] = total - np.log(len(log_w)), effective
        mean[i] = weights @ points
        centred = points - mean[i]
        cov[i] = (weights[:, None] * centred).T @ centred
        if len(points) > n_draws:
            points = points[systematic(weights[None], n_draws)[0]]
            log_w, total = np.full(n_draws, -np.log(n_draws)), 0.0
        z[i], log_weights[i] = points, log_w - total
    return Posterior(
        z, log_weights, log_evidence, ess, mean, cov, _join([r[3] for r in results], np.stack)
    )
