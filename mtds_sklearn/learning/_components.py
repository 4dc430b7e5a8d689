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
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn.model._latent_prior import Components

# Sequences that the prior is worth: in N(0, I), in every component, and with the covariance that
# components have on average. Means are N(0, I) a priori.
BASE_COUNT, SHARE_COUNT, TIE_COUNT = 1.0, 0.5, 2.0
# How narrow and wide a component may be in any direction.
LEAST_STD, MOST_STD = 0.01, 10.0
# Least precision, as a share of that in all directions together.
ROUNDING = 1e-12
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
    """Evidence and posterior of every sequence under every component.

    Arrays of components may have an axis in front: many mixtures at once. Results then have it too.
    """
    k = quadratics.pull.shape[-1]
    lead = components.weights.shape[:-1]
    means = np.concatenate([np.zeros((*lead, 1, k)), components.means], axis=-2)
    base = np.broadcast_to(np.eye(k), (*lead, 1, k, k))
    factors = np.concatenate([base, components.factors], axis=-3)
    inverse = np.linalg.inv(factors)
    precisions = np.swapaxes(inverse, -1, -2) @ inverse
    pulls = np.einsum("...jab,...jb->...ja", precisions, means)
    cov, log_det = _inverse_and_log_det_of_sum(precisions[..., None, :, :, :], quadratics.stiffness)
    pull = pulls[..., None, :, :] + quadratics.pull
    mean = np.einsum("...ab,...b->...a", cov, pull)
    own = np.sum(means * pulls, axis=-1) + 2.0 * np.log(np.abs(np.linalg.det(factors)))
    fit = np.einsum("...a,...a->...", mean, pull) - log_det - own[..., None, :]
    log_evidence = np.log(components.weights)[..., None, :] + quadratics.level + 0.5 * fit
    return Belongings(log_evidence, mean, cov)


def _inverse_and_log_det_of_sum(first: np.ndarray, second: np.ndarray) -> tuple:
    """Inverses of sums (.., k, k) that are positive definite, and logarithms of determinants (..).

    Gauss-Jordan without pivoting on all of them side by side: LAPACK, called for one small matrix
    after the other, takes several times as long.
    """
    *lead, k, _ = np.broadcast_shapes(first.shape, second.shape)
    work = np.empty((k, k, *lead))
    result = np.moveaxis(work, (0, 1), (-2, -1))
    np.add(first, second, out=result)
    # Where a sequence is known to ten digits in one direction, rounding must not hide the others.
    diagonal = np.arange(k)
    work[diagonal, diagonal] += ROUNDING * work[diagonal, diagonal].sum(axis=0)
    log_det = np.zeros(work.shape[2:])
    for q in range(k):
        pivot = work[q, q].copy()
        log_det += np.log(pivot)
        work[q, q] = 1.0
        work[q] /= pivot
        factors = work[:, q].copy()
        factors[q] = 0.0
        work[:q, q] = work[q + 1 :, q] = 0.0
        work -= factors[:, None] * work[q]
    return result, log_det


def em_step(components: Components, found: Belongings, weights: np.ndarray) -> Components:
    """The components that the sequences say, with the prior that the constants above describe.

    Many mixtures at once may each have weights (.., n_sequences) of their own.
    """
    total = log_sum(found.log_evidence)[..., None]
    share = np.exp(found.log_evidence - total) * weights[..., None]
    base, share = share[..., 0].sum(axis=-1, keepdims=True), share[..., 1:]
    count, mean, k = share.sum(axis=-2), found.mean[..., 1:, :], components.means.shape[-1]
    # A posteriori N(m; 0, I) and the means of `count` sequences of covariance S.
    covs = components.factors @ np.swapaxes(components.factors, -1, -2)
    sums = np.einsum("...nj,...nja->...ja", share, mean)
    known = count[..., None, None] * np.eye(k) + covs
    centre = np.linalg.solve(known, sums[..., None])[..., 0]
    gap = np.moveaxis(mean - centre[..., None, :, :], -3, -2)
    scatter = np.einsum("...nj,...njab->...jab", share, found.cov[..., 1:, :, :])
    scatter += np.swapaxes(gap, -1, -2) @ (np.swapaxes(share, -1, -2)[..., None] * gap)
    whole = np.maximum(count.sum(axis=-1), 1.0)[..., None, None]
    typical = scatter.sum(axis=-3) / whole + LEAST_STD**2 * np.eye(k)
    covs = scatter + TIE_COUNT * typical[..., None, :, :]
    covs /= (count + TIE_COUNT)[..., None, None]
    shares = np.concatenate([base + BASE_COUNT, count + SHARE_COUNT], axis=-1)
    shares /= shares.sum(axis=-1, keepdims=True)
    return Components(shares, centre, _bounded_factors(covs))


def run_em(components: Components, quadratics: Quadratics, n_steps: int) -> Components:
    """So many steps, each as long as the evidence rises by it; of many mixtures at once, too."""
    weights, length = quadratics.weights, np.ones(components.weights.shape[:-1])
    here = belongings(components, quadratics)
    evidence = total_log_evidence(here, weights)
    for _ in range(n_steps):
        step = em_step(components, here, weights)
        if step.means.shape[-2] == 0:
            return step
        longer = step._replace(factors=_beyond(components.factors, step.factors, length))
        there = belongings(longer, quadratics)
        reached = total_log_evidence(there, weights)
        short = (length > 1.0) & ~(reached > evidence)
        if np.any(short):
            longer.factors[short] = step.factors[short]
            again = belongings(Components(*(part[short] for part in step)), quadratics)
            for part, new in zip(there, again, strict=True):
                part[short] = new
            reached = total_log_evidence(there, weights)
        length = np.minimum(LENGTHEN * np.where(short, 1.0, length), LONGEST)
        components, here, evidence = longer, there, reached
    return components


def total_log_evidence(belongings: Belongings, weights: np.ndarray) -> np.ndarray:
    """Log evidence (..) of all sequences, each as often as it counts."""
    return np.sum(log_sum(belongings.log_evidence) * weights, axis=-1)


def log_sum(logs: np.ndarray) -> np.ndarray:
    """Logarithm (..) of the sum of what has the logarithms (.., n)."""
    top = logs.max(axis=-1, keepdims=True)
    return top[..., 0] + np.log(np.exp(logs - top).sum(axis=-1))


def _beyond(old: np.ndarray, new: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Factors so many times as far from the old covariances as the new ones, in their logarithm.

    With old = F F' and F^-1 new F^-T = U diag(e) U' these are F U diag(e^length) U' F'.
    """
    change = np.linalg.solve(old, new)
    values, axes = np.linalg.eigh(change @ np.swapaxes(change, -1, -2))
    values = length[..., None, None] * np.log(np.maximum(values, 1e-12))
    half = old @ (axes * np.exp(0.5 * np.clip(values, -6.0, 6.0))[..., None, :])
    return _bounded_factors(half @ np.swapaxes(half, -1, -2))


def _bounded_factors(covs: np.ndarray) -> np.ndarray:
    """Lower Cholesky factors of covariances, made no narrower and no wider than components may be.

    QR of a root, since squares of small standard deviations drown in the rounding of large ones.
    """
    values, axes = np.linalg.eigh(0.5 * (covs + np.swapaxes(covs, -1, -2)))
    roots = axes * np.sqrt(np.clip(values, LEAST_STD**2, MOST_STD**2))[..., None, :]
    upper = np.linalg.qr(np.swapaxes(roots, -1, -2), mode="r")
    signs = np.where(np.diagonal(upper, axis1=-2, axis2=-1) < 0.0, -1.0, 1.0)
    return np.swapaxes(upper * signs[..., None], -1, -2)


def holding(components: Components, weights: np.ndarray) -> np.ndarray:
    """Which of N(0, I), the first, and the components hold a sequence, bool (1 + J,); it always."""
    n = weights.sum() + BASE_COUNT + SHARE_COUNT * len(components.means)
    return np.append(True, n * components.weights[1:] - SHARE_COUNT >= 1.0)


def some_of(components: Components, chosen: np.ndarray) -> Components:
    """N(0, I) and some of the components, chosen (1 + J,)."""
    weights = components.weights[chosen]
    parts = components.means[chosen[1:]], components.factors[chosen[1:]]
    return Components(weights / weights.sum(), *parts)


def widened(components: Components, quadratics: Quadratics) -> Components:
    """Components as wide as a new sequence finds them: what is not known of their means is added.

    A priori these are N(0, I); the information of sequence i about m_j is
    r_ij (S_j + stiffness^-1)^-1.
    """
    log_evidence = belongings(components, quadratics).log_evidence
    share = np.exp(log_evidence - log_sum(log_evidence)[:, None])
    share = (share * quadratics.weights[:, None])[:, 1:]
    covs = components.factors @ np.swapaxes(components.factors, 1, 2)
    eye, stiffness = np.eye(covs.shape[1]), quadratics.stiffness
    if stiffness.shape[1] > 1:
        stiffness = stiffness[:, 1:]
    known = np.linalg.solve(eye + stiffness @ covs, stiffness)
    information = eye + np.einsum("nj,njab->jab", share, known)
    return components._replace(factors=np.linalg.cholesky(covs + np.linalg.inv(information)))
