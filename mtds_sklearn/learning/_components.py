"""Clusters and dependence in p(z): Gaussians beside N(0, I) among the scores v of sequences.

Coordinates of z that are independent cannot say that a family consists of a few kinds, or that slow
oscillations are the damped ones. So scores may be a mixture of N(0, I) and J Gaussians
(`model._latent_prior`), learned by EM from the posteriors of the training sequences. Near a point
the log likelihood of sequence i is a quadratic (Laplace),

    log p(y_i | v) = level + pull' v - 1/2 v' stiffness v,

and under a component of mean m_j and covariance S_j its posterior and evidence are

    V_ij = (S_j^-1 + stiffness)^-1,    u_ij = V_ij (S_j^-1 m_j + pull),
    log e_ij = level + (log |V_ij| - log |S_j| + u_ij' V_ij^-1 u_ij - m_j' S_j^-1 m_j) / 2.

With responsibilities r_ij ~ w_j e_ij, weights, means and covariances of (u_ij, V_ij) are those of
the next step: a mixture fitted to what is known of points, not to points ("extreme deconvolution";
Bovy, Hogg & Roweis 2011). Covariances that go to zero would do so ever more slowly, so that steps
in their logarithm are lengthened while the evidence rises (Salakhutdinov & Roweis 2003).

How many Gaussians there are, none to begin with, is decided by the evidence of sequences left out.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.special import logsumexp

from mtds_sklearn.model._latent_prior import Components, no_components

NUMBERS = (1, 2, 3, 4, 6, 8, 12, 16)
# A component needs so many sequences; more than so many sequences are not looked at.
SEQUENCES_EACH, MOST_SEQUENCES = 4, 500
N_FOLDS, N_STARTS, START_STEPS, FOLD_STEPS = 5, 3, 30, 15
# Rounds in which quadratics are taken where the components say, and steps of EM in each.
ROUNDS, ROUND_STEPS = 4, 15
# Gain of evidence, in standard errors over sequences, from which more components are used.
LEAST_GAIN = 2.0
# Sequences that the prior is worth: in N(0, I), in every component, and with the covariance that
# components have on average, of which k + 2 are LEAST_STD wide. Means are N(0, I) a priori.
BASE_COUNT, SHARE_COUNT, TIE_COUNT, LEAST_STD = 1.0, 0.5, 2.0, 0.03
# Factors of the length of a step after one that helped, and the longest.
LENGTHEN, LONGEST = 1.5, 30.0


class Quadratics(NamedTuple):
    """Log likelihoods of sequences near the place where each component has them, or near one place.

    Attributes
    ----------
    level : ndarray of shape (n_sequences, 1 + J or 1)
    pull : ndarray of shape (n_sequences, 1 + J or 1, k)
    stiffness : ndarray of shape (n_sequences, 1 + J or 1, k, k)
    weights : ndarray of shape (n_sequences,)
        How often each sequence counts.
    """

    level: np.ndarray
    pull: np.ndarray
    stiffness: np.ndarray
    weights: np.ndarray


class Belongings(NamedTuple):
    """Of every sequence under N(0, I), the first, and every component.

    Attributes
    ----------
    log_evidence : ndarray of shape (n_sequences, 1 + J)
        log w_j e_ij.
    mean : ndarray of shape (n_sequences, 1 + J, k)
    cov : ndarray of shape (n_sequences, 1 + J, k, k)
    """

    log_evidence: np.ndarray
    mean: np.ndarray
    cov: np.ndarray


def belongings(components: Components, quadratics: Quadratics) -> Belongings:
    """Evidence and posterior of every sequence under every component."""
    k = quadratics.pull.shape[-1]
    means = np.concatenate([np.zeros((1, k)), components.means])
    factors = np.concatenate([np.eye(k)[None], components.factors])
    inverse = np.linalg.inv(factors)
    precisions = np.swapaxes(inverse, 1, 2) @ inverse
    pulls = np.einsum("jab,jb->ja", precisions, means)
    precision, pull = precisions + quadratics.stiffness, pulls + quadratics.pull
    cov = np.linalg.inv(precision)
    mean = np.einsum("njab,njb->nja", cov, pull)
    log_det = np.linalg.slogdet(precision)[1] + 2.0 * np.log(np.abs(np.linalg.det(factors)))
    fit = np.sum(mean * pull, axis=2) - np.sum(means * pulls, axis=1) - log_det
    log_evidence = np.log(components.weights) + quadratics.level + 0.5 * fit
    return Belongings(log_evidence, mean, cov)


def em_step(components: Components, found: Belongings, weights: np.ndarray) -> Components:
    """The components that the sequences say, with the prior that the constants above describe."""
    total = logsumexp(found.log_evidence, axis=1, keepdims=True)
    share = np.exp(found.log_evidence - total) * weights[:, None]
    base, share = share[:, 0].sum(), share[:, 1:]
    count, mean, eye = share.sum(axis=0), found.mean[:, 1:], np.eye(components.means.shape[1])
    # A posteriori N(m; 0, I) and the means of `count` sequences of covariance S.
    covs = components.factors @ np.swapaxes(components.factors, 1, 2)
    sums = np.einsum("nj,nja->ja", share, mean)
    centre = np.linalg.solve(count[:, None, None] * eye + covs, sums[..., None])[..., 0]
    gap = mean - centre
    scatter = np.einsum("nj,njab->jab", share, found.cov[:, 1:])
    scatter += np.einsum("nj,nja,njb->jab", share, gap, gap)
    n_least = len(eye) + 2.0
    typical = scatter.sum(axis=0) + n_least * LEAST_STD**2 * eye
    typical /= count.sum() + n_least
    covs = (scatter + TIE_COUNT * typical) / (count + TIE_COUNT)[:, None, None]
    shares = np.append(base + BASE_COUNT, count + SHARE_COUNT)
    return Components(shares / shares.sum(), centre, np.linalg.cholesky(covs))


def run_em(components: Components, quadratics: Quadratics, n_steps: int) -> Components:
    """So many steps, each as long as the evidence rises by it."""
    length, weights = 1.0, quadratics.weights
    here = belongings(components, quadratics)
    for _ in range(n_steps):
        step = em_step(components, here, weights)
        value = _log_evidence(here, weights)
        if len(step.means) == 0:
            return step
        longer = step._replace(factors=_beyond(components.factors, step.factors, length))
        there = belongings(longer, quadratics)
        if length > 1.0 and not _log_evidence(there, weights) > value:
            length, longer, there = 1.0, step, belongings(step, quadratics)
        components, here, length = longer, there, min(LENGTHEN * length, LONGEST)
    return components


def _log_evidence(belongings: Belongings, weights: np.ndarray) -> float:
    return float(logsumexp(belongings.log_evidence, axis=1) @ weights)


def _beyond(old: np.ndarray, new: np.ndarray, length: float) -> np.ndarray:
    """Factors so many times as far from the old covariances as the new ones, in their logarithm.

    With old = F F' and F^-1 new F^-T = U diag(e) U' these are F U diag(e^length) U' F'.
    """
    change = np.linalg.solve(old, new)
    values, axes = np.linalg.eigh(change @ np.swapaxes(change, 1, 2))
    values = np.clip(length * np.log(np.maximum(values, 1e-12)), -6.0, 6.0)
    half = old @ (axes * np.exp(0.5 * values)[:, None])
    covs = half @ np.swapaxes(half, 1, 2)
    size = np.trace(covs, axis1=1, axis2=2)[:, None, None] / covs.shape[1]
    return np.linalg.cholesky(covs + 1e-9 * size * np.eye(covs.shape[1]))


def start_components(quadratics: Quadratics, n: int, seed: int) -> Components | None:
    """Components at clusters of the posterior means under N(0, I) (k-means++)."""
    k = quadratics.pull.shape[-1]
    found = belongings(no_components(k), quadratics)
    v = found.mean[:, 0]
    try:
        _, label = kmeans2(v, n, minit="++", missing="raise", rng=np.random.default_rng(seed))
    except ClusterError:  # a cluster without points
        return None
    share = np.eye(n)[label]
    alike = Belongings(
        np.log(np.maximum(np.column_stack([np.full(len(v), 0.1), share]), 1e-9)),
        np.repeat(found.mean, 1 + n, axis=1),
        np.repeat(found.cov, 1 + n, axis=1),
    )
    wide = Components(np.ones(1 + n), np.zeros((n, k)), np.tile(np.eye(k), (n, 1, 1)))
    return em_step(wide, alike, quadratics.weights)


def gains_left_out(components: Components, quadratics: Quadratics) -> np.ndarray:
    """What components, learned without it, add to the log evidence of every sequence.

    Where components stand is taken from all; what they hold is learned anew.
    """
    gains = np.empty(len(quadratics.weights))
    for fold in range(N_FOLDS):
        held = np.arange(len(gains)) % N_FOLDS == fold
        kept, left = (
            Quadratics(*(part[chosen] for part in quadratics)) for chosen in (~held, held)
        )
        learned = run_em(components, kept, FOLD_STEPS)
        log_evidence = belongings(learned, left).log_evidence
        alone = log_evidence[:, 0] - np.log(learned.weights[0])
        gains[held] = left.weights * (logsumexp(log_evidence, axis=1) - alone)
    return gains


def fit_components(
    quadratics: Quadratics, look_again: Callable[[np.ndarray], Quadratics] | None = None
) -> Components | None:
    """The mixture that says most of sequences left out; None if that is N(0, I).

    Parameters
    ----------
    quadratics : Quadratics
        Near the posterior of every sequence under N(0, I).
    look_again : callable or None
        Quadratics near given scores (n_sequences, 1 + J, k); None: those above have to do.
    """
    components = _best_number(quadratics)
    if components is None:
        return None
    if look_again is not None:
        for _ in range(ROUNDS):
            at = belongings(components, quadratics).mean
            quadratics = look_again(at)
            components = run_em(components, quadratics, ROUND_STEPS)
            components, quadratics = without_empty(components, quadratics)
        if not _worth_it(gains_left_out(components, quadratics)):
            return None
    return widened(components, quadratics)


def _best_number(quadratics: Quadratics) -> Components | None:
    """The number whose components say more of sequences left out than any smaller number's."""
    best, most, falls = None, np.zeros(len(quadratics.weights)), 0
    for n in NUMBERS:
        if SEQUENCES_EACH * n > len(most) or falls == 2:
            break
        starts = (start_components(quadratics, n, seed) for seed in range(N_STARTS))
        tried = [run_em(start, quadratics, START_STEPS) for start in starts if start is not None]
        if not tried:
            continue
        components = max(
            tried, key=lambda c: _log_evidence(belongings(c, quadratics), quadratics.weights)
        )
        components, _ = without_empty(components, quadratics)
        gains = gains_left_out(components, quadratics)
        if _worth_it(gains - most):
            best, most, falls = components, gains, 0
        else:
            falls += 1
    return best


def without_empty(components: Components, quadratics: Quadratics) -> tuple:
    """Components that hold at least one sequence, and the quadratics near them."""
    n = quadratics.weights.sum() + BASE_COUNT + SHARE_COUNT * len(components.means)
    full = np.append(True, n * components.weights[1:] - SHARE_COUNT >= 1.0)
    weights = components.weights[full]
    parts = components.means[full[1:]], components.factors[full[1:]]
    if quadratics.level.shape[1] > 1:
        near = (part[:, full] for part in quadratics[:3])
        quadratics = Quadratics(*near, quadratics.weights)
    return Components(weights / weights.sum(), *parts), quadratics


def _worth_it(gains: np.ndarray) -> bool:
    return gains.sum() > LEAST_GAIN * np.sqrt(len(gains)) * gains.std()


def widened(components: Components, quadratics: Quadratics) -> Components:
    """Components as wide as a new sequence finds them: what is not known of their means is added.

    A priori these are N(0, I); the information of sequence i about m_j is
    r_ij (S_j + stiffness^-1)^-1.
    """
    log_evidence = belongings(components, quadratics).log_evidence
    share = np.exp(log_evidence - logsumexp(log_evidence, axis=1, keepdims=True))
    share = (share * quadratics.weights[:, None])[:, 1:]
    covs = components.factors @ np.swapaxes(components.factors, 1, 2)
    eye, stiffness = np.eye(covs.shape[1]), quadratics.stiffness
    if stiffness.shape[1] > 1:
        stiffness = stiffness[:, 1:]
    known = np.linalg.solve(eye + stiffness @ covs, stiffness)
    information = eye + np.einsum("nj,njab->jab", share, known)
    return components._replace(factors=np.linalg.cholesky(covs + np.linalg.inv(information)))
