"""Specific variances: what sequences differ in beyond W z + b, entry by entry.

As in factor analysis, theta_i = W z_i + b + e_i with e_i ~ N(0, diag psi), on the entries in which
outputs are linear given the poles and C: x0, B, D and offset in the gauge of `_chart`. (A free
entry of C multiplies x0 and B, so that outputs are not linear in all of them together.)

Which entries have any, and how much, is asked of what is left of the outputs at the posterior means
of z. There the outputs are linear in z and e, with the derivatives J and E. With R the noise
covariance, r the residuals and z ~ N(0, I) integrated out, e_i has the score and the information

    g = E' R^-1 r - E' R^-1 J (I + J' R^-1 J)^-1 (J' R^-1 r - z),
    H = E' R^-1 E - E' R^-1 J (I + J' R^-1 J)^-1 J' R^-1 E,

and the log likelihood of psi is, with D = diag(sqrt psi), the sum over sequences of

    -1/2 log |I + D H D| + 1/2 g' D (I + D H D)^-1 D g.

Its derivative in psi_j at psi = 0 is the sum of (g_j^2 - H_jj) / 2, with the variance of the sum of
H_jj^2 / 2 if nothing is missing: where no entry exceeds LEAST_SCORE standard deviations, nothing
more is asked. Otherwise psi >= 0 is the most likely one; entries that gain less than LEAST_GAIN
nats are left out one after the other, the others become columns of W with one entry each, and EM
goes on with everything. It is asked again until no entry is left that wants any.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from mtds_sklearn._sequences import PackedSequences, select_sequences
from mtds_sklearn.inference._disturbance import with_gap_weights
from mtds_sklearn.learning._disturbance import share_spent
from mtds_sklearn.learning._em import Held, run_em
from mtds_sklearn.learning._growth import with_evidence
from mtds_sklearn.learning._initialization import spread_index
from mtds_sklearn.learning._learned import Learned, Options, may_have_specific
from mtds_sklearn.learning._m_step import sequence_weights
from mtds_sklearn.learning._posterior import TaskPosterior, beside_unknown
from mtds_sklearn.learning._seen import go_on_with_the_seen, select_posterior
from mtds_sklearn.model._latent_prior import beside_normal
from mtds_sklearn.model._likelihood import evaluations, theta_quantities
from mtds_sklearn.model._normal import in_directions
from mtds_sklearn.model._task_map import (
    Family,
    learned_columns,
    n_shared,
    natural_map,
    natural_parameters,
)

LINEAR_KINDS = ("B", "x0", "D", "offset")
# Standard deviations of a score above what chance makes of it; nats that an entry has to gain.
LEAST_SCORE, LEAST_GAIN = 3.0, 5.0
# Entries of which a sequence tells, on average, less than this share of the most are not asked.
NEGLIGIBLE = 1e-9
CHUNK_SEQUENCES = 100
# Variances begin with what is most likely in so many sequences; EM goes on with all.
MOST_WEIGHED = 1000


class Scores(NamedTuple):
    """What the sequences say of e, in units in which the mean information of each entry is 1.

    Attributes
    ----------
    entries : ndarray of int, shape (m,)
        Entries of theta.
    unit : ndarray of shape (m,)
        Of e, in units of theta.
    score : ndarray of shape (n_sequences, m)
    information : ndarray of shape (n_sequences, m, m)
    weights : ndarray of shape (n_sequences,)
        How often each sequence counts.
    """

    entries: np.ndarray
    unit: np.ndarray
    score: np.ndarray
    information: np.ndarray
    weights: np.ndarray


def linear_entries(family: Family) -> np.ndarray:
    """Entries of theta that may have specific variances and have none yet, ascending."""
    linear = np.array([kind in LINEAR_KINDS for kind, _, _ in family.chart.entries], dtype=bool)
    linear[list(family.specific)] = False
    return np.flatnonzero(linear & np.isfinite(family.precision))


def learn_specific(
    sequences: PackedSequences,
    learned: Learned,
    options: Options,
    draw: Callable[[int], np.ndarray],
) -> Learned:
    """The family with the specific variances that the options ask for.

    With "auto" those that sequences ask for, where the evidence rises, and none where there is a
    disturbance: shocks look like ways to differ. With "all" those of all entries that may have any
    and whose most likely variance is not zero; beside a disturbance everything else is held. None
    where noise levels of sequences are integrated out or noise grows with the outputs.

    Parameters
    ----------
    draw : callable
        From a number of latents k to quasi-random draws (n_points, k) of their prior.
    """
    if not may_have_specific(learned.family, options):
        return learned
    return go_on_with_the_seen(sequences, learned, lambda *seen: _learn(*seen, options, draw))


def _learn(sequences, learned, options, draw) -> Learned:
    sequences, every = with_gap_weights(sequences, learned.family), options.specific == "all"
    spent = share_spent(sequences, learned) if learned.family.chart.gain else None
    while (wider := with_missing(sequences, learned, every)) is not learned:
        points, own = draw(n_shared(wider.family)), len(wider.family.specific)
        result = run_em(
            sequences, wider.family, wider.posterior, np.pad(points, ((0, 0), (0, own))),
            max_iter=options.max_iter, tol=options.tol,
            held=None if spent is None else Held(_own_entries(wider.family), spent),
        )  # fmt: skip
        trial = with_evidence(sequences, result)
        kept = every or trial.evidence > learned.evidence
        stages = (*learned.stages, trial.stages[0]._replace(kept=kept))
        if not kept:
            return learned._replace(stages=stages)
        # Smaller families, which have none, are no match for this one any more.
        learned = trial._replace(stages=stages)
    return learned


def _own_entries(family: Family) -> np.ndarray:
    """The entries of specific variances, as `moving` of `Held`."""
    moving = np.vstack([learned_columns(family).T, np.zeros((1, len(family.bias)), dtype=bool)])
    moving[: n_shared(family)] = False
    return moving


def with_missing(sequences: PackedSequences, learned: Learned, every: bool = False) -> Learned:
    """The family with the specific variances that sequences ask for, or with every one."""
    if not (every or are_missing(sequences, learned.family, learned.posterior)):
        return learned
    index = spread_index(sequences, MOST_WEIGHED)
    posterior = select_posterior(learned, index).posterior
    scores = scores_of(select_sequences(sequences, index), learned.family, posterior)
    psi = likely_variances(scores, *((-np.inf, 0.0) if every else (LEAST_SCORE, LEAST_GAIN)))
    return with_most_likely(learned, scores, psi)


def with_most_likely(learned: Learned, scores: Scores, psi: np.ndarray) -> Learned:
    """The family with variances psi (m,) of the entries scored; the same if all are zero."""
    found = np.flatnonzero(psi)
    if len(found) == 0:
        return learned
    std = (scores.unit * np.sqrt(psi))[found]
    wider = with_specific(learned.family, learned.posterior, scores.entries[found], std)
    return learned._replace(family=wider[0], posterior=wider[1])


def are_missing(sequences: PackedSequences, family: Family, posterior: TaskPosterior) -> bool:
    """Whether the score of any entry exceeds what chance makes of it; from sums alone."""
    weights, slope, variance = sequence_weights(sequences), 0.0, 0.0
    for index, score, information in _chunks_of_scores(sequences, family, posterior):
        part = _sums_at_zero(score, information, weights[index])
        slope, variance = slope + part[0], variance + part[1]
    return bool(np.any(slope > LEAST_SCORE * np.sqrt(variance)))


def _sums_at_zero(score: np.ndarray, information: np.ndarray, weights: np.ndarray) -> tuple:
    """Derivatives (m,) of the log likelihood in psi at zero, and their variance by chance."""
    diagonal = np.einsum("njj->nj", information)
    return 0.5 * weights @ (score**2 - diagonal), 0.5 * weights @ diagonal**2


def _chunks_of_scores(sequences, family, posterior) -> Iterator[tuple]:
    """Some sequences after the others, and their scores; all of them may not fit in memory."""
    entries = linear_entries(family)
    for first in range(0, len(posterior.mean), CHUNK_SEQUENCES):
        index = np.arange(first, min(first + CHUNK_SEQUENCES, len(posterior.mean)))
        yield index, *_scores(sequences, family, posterior.mean[index], index, entries)


def scores_of(sequences: PackedSequences, family: Family, posterior: TaskPosterior) -> Scores:
    """Score and information of e of every sequence, z integrated out."""
    told = entry_scores(sequences, family, posterior)
    return in_units_told(linear_entries(family), *told, sequence_weights(sequences))


def entry_scores(sequences: PackedSequences, family: Family, posterior: TaskPosterior) -> tuple:
    """Scores (n_sequences, m) and information (n_sequences, m, m) of all `linear_entries`."""
    parts = _chunks_of_scores(sequences, family, posterior)
    _, score, information = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return score, information


def in_units_told(
    entries: np.ndarray, score: np.ndarray, information: np.ndarray, weights: np.ndarray
) -> Scores:
    """Scores in units of what is told of each entry, without those of which next to nothing is."""
    size = weights @ np.einsum("njj->nj", information) / weights.sum()
    told = size > NEGLIGIBLE * size.max(initial=0.0)
    unit = size[told] ** -0.5
    return Scores(
        entries[told], unit, score[:, told] * unit,
        information[:, told][:, :, told] * np.outer(unit, unit), weights,
    )  # fmt: skip


def _scores(sequences, family, z, index, entries) -> tuple:
    chart, k = family.chart, z.shape[1]
    parts = theta_quantities(
        natural_parameters(family, z), evaluations(sequences, index=index), chart, family.noise_std
    )
    directions = np.hstack([natural_map(family)[0], chart.basis[:, entries]])[chart.active]
    normal = in_directions(parts.normal, chart, directions)
    gradient = parts.gradient @ directions
    across = normal[:, :k, k:]
    told = np.linalg.solve(np.eye(k) + normal[:, :k, :k], across)
    score = gradient[:, k:] - np.einsum("nkj,nk->nj", told, gradient[:, :k] - z)
    return score, normal[:, k:, k:] - np.swapaxes(across, 1, 2) @ told


def likely_variances(
    scores: Scores, least_score: float = LEAST_SCORE, least_gain: float = LEAST_GAIN
) -> np.ndarray:
    """psi (m,) of most likelihood, entries that gain too little left out; zeros if all do."""
    slope, variance = _sums_at_zero(scores.score, scores.information, scores.weights)
    psi = np.zeros(len(slope))
    if not np.any(slope > least_score * np.sqrt(variance)):
        return psi
    left = np.flatnonzero(slope > 0.0)
    psi[left] = 1.0
    while len(left):
        psi[left] = _most_likely(scores, left, psi[left])
        left = np.flatnonzero(psi)
        without = np.array([_without(scores, psi, j) for j in left])
        if len(left) == 0 or log_likelihood(scores, psi) - without.max() >= least_gain:
            break
        psi[left[np.argmax(without)]] = 0.0
        left = np.flatnonzero(psi)
    return psi


def _without(scores: Scores, psi: np.ndarray, j: int) -> float:
    psi = psi.copy()
    psi[j] = 0.0
    return log_likelihood(scores, psi)


def log_likelihood(scores: Scores, psi: np.ndarray) -> float:
    """Log likelihood of psi (m,) above that of zero, in nats."""
    some = np.flatnonzero(psi)
    return -_loss(psi[some], _some(scores, some))[0]


def _some(scores: Scores, index: np.ndarray) -> Scores:
    return scores._replace(
        score=scores.score[:, index], information=scores.information[:, index][:, :, index]
    )


def _most_likely(scores: Scores, index: np.ndarray, start: np.ndarray) -> np.ndarray:
    part = _some(scores, index)
    bounds = [(0.0, None)] * len(index)
    return minimize(_loss, start, (part,), "L-BFGS-B", jac=True, bounds=bounds).x


def _loss(psi: np.ndarray, scores: Scores) -> tuple:
    """Minus the log likelihood and its gradient in psi.

    With M = (I + H psi)^-1 the gradient is half the sum of (M g)_j^2 - (M H)_jj.
    """
    score, information, weights = scores.score, scores.information, scores.weights
    inner = np.eye(len(psi)) + information * psi
    solved = np.linalg.solve(inner, np.concatenate([score[..., None], information], axis=2))
    pulled, rest = solved[..., 0], solved[..., 1:]
    value = 0.5 * np.einsum("nj,nj->n", score * psi, pulled) - 0.5 * np.linalg.slogdet(inner)[1]
    slope = 0.5 * (pulled**2 - np.einsum("njj->nj", rest))
    return -float(weights @ value), -(weights @ slope)


def with_specific(
    family: Family, posterior: TaskPosterior, entries: np.ndarray, std: np.ndarray
) -> tuple[Family, TaskPosterior]:
    """The family with specific variances std^2 of some entries; nothing is known of e yet."""
    m = len(entries)
    columns = np.zeros((len(family.bias), m))
    columns[entries, np.arange(m)] = std
    wider = family._replace(
        loadings=np.hstack([family.loadings, columns]),
        specific=(*family.specific, *entries.tolist()),
        prior=None if family.prior is None else beside_normal(family.prior, m),
    )
    return wider, beside_unknown(posterior, m)
