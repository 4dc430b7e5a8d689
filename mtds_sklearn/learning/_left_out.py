"""What few sequences cannot show of a family: specific variances, asked of sequences left out.

Ten sequences span at most nine ways to differ, and W z + b explains what it has learned from far
better than what is to come: asked of the training sequences themselves (`_specific`), specific
variances are nought. So the sequences are left out by turns. EM goes on for a few steps without
those of a fold, which then say how far outside of that family they lie: with g_i and H_i their
scores and information under the family of the others, the variances psi maximise the sum over all
sequences of log p(y_i | psi, family without i), the same expression as in `_specific`. The noise
stays: what the others do not show are ways to differ, which decide how a sequence goes on, not
errors of measurement.

EM that starts from the whole family forgets the sequences that it has lost in a few steps, so that
starting anew, which takes five times as long, comes to the same (docs/design.md, section 4).
"""

import numpy as np

from mtds_sklearn._progress import listening
from mtds_sklearn._sequences import PackedSequences, are_seen, select_sequences
from mtds_sklearn.inference._draws import make_draws
from mtds_sklearn.learning._e_step import e_step
from mtds_sklearn.learning._em import run_em
from mtds_sklearn.learning._learned import Learned, Options, may_have_specific
from mtds_sklearn.learning._m_step import sequence_weights
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.learning._seen import go_on_with_the_seen, select_posterior
from mtds_sklearn.learning._specific import (
    Scores,
    entry_scores,
    in_units_told,
    likely_variances,
    linear_entries,
    with_most_likely,
    with_specific,
)
from mtds_sklearn.model._task_map import Family, n_shared

# From so many sequences on, what they leave open is small beside what they show.
MANY = 30
N_FOLDS = 5
# Steps of EM in which a family forgets the sequences that it has lost.
FORGETTING_STEPS = 8
# Steps in which the posteriors of those left out, and later of all, find their place.
SETTLING_STEPS = 3
# Nats that a variance has to gain: without a price chance would give one to half of the entries.
LEAST_GAIN = 1.0
# Sequences whose squares differ by less than this share of the largest are one, said twice.
SAME = 1e-9


def learn_from_left_out(
    sequences: PackedSequences, learned: Learned, options: Options, seed: int
) -> Learned:
    """The family with the specific variances that few sequences ask for when they are left out.

    They come beside what p(z) has become from the posteriors of the sequences, and so are left out
    of it. None where there are many sequences, a disturbance, levels of sequences or noise that
    grows.

    Parameters
    ----------
    seed : int
        Of the draws of the prior of z.
    """
    family = learned.family
    asks = options.specific == "auto" and may_have_specific(family, options)
    if not asks or n_shared(family) == 0:
        return learned
    ranks = rank_different(sequences)
    if not 2 <= 1 + ranks.max() < MANY or len(linear_entries(family)) == 0:
        return learned
    points = make_draws(n_shared(family), seed).points
    folds = ranks[ranks >= 0] % N_FOLDS
    return go_on_with_the_seen(sequences, learned, lambda *seen: _learn(*seen, folds, points))


def _learn(sequences, learned, folds, points) -> Learned:
    with listening(None):
        scores = scores_of_left_out(sequences, learned, folds, points)
    psi = likely_variances(scores, -np.inf, LEAST_GAIN)
    wider = with_most_likely(learned, scores, psi)
    if wider is learned:
        return learned
    return wider._replace(posterior=_settled(sequences, wider.family, wider.posterior, points))


def carry_over(
    before: Family, family: Family, posterior: TaskPosterior, n_seen: int
) -> tuple[Family, TaskPosterior]:
    """A family that has learned from more sequences, beside what was left out of it before.

    Until many have been seen, or there are other entries.
    """
    n_own = len(family.specific)
    entries = np.array(before.specific[n_own:], dtype=int)
    if n_seen >= MANY or family.chart.entries != before.chart.entries or len(entries) == 0:
        return family, posterior
    std = np.abs(before.loadings[entries, n_shared(before) + n_own :]).max(axis=1)
    return with_specific(family, posterior, entries, std)


def rank_different(sequences: PackedSequences) -> np.ndarray:
    """Ranks (n_sequences,) by the size of the outputs, from 0; -1 where nothing is observed.

    By what a sequence is and not by where it stands; those that are said twice have one rank.
    """
    size = np.add.reduceat(
        np.einsum("no,no->n", sequences.outputs, sequences.outputs), sequences.offsets[:-1]
    )
    ranks = np.full(len(size), -1)
    seen = np.flatnonzero(are_seen(sequences))
    order = seen[np.argsort(size[seen], kind="stable")]
    ascending = size[order]
    ranks[order] = np.cumsum(np.diff(ascending, prepend=ascending[:1]) > SAME * size.max())
    return ranks


def scores_of_left_out(
    sequences: PackedSequences, learned: Learned, folds: np.ndarray, points: np.ndarray
) -> Scores:
    """Score and information of e of every sequence, under the family of the other folds.

    `points` (n_points, n_shared) are draws of the prior of z.
    """
    entries = linear_entries(learned.family)
    score = np.zeros((len(folds), len(entries)))
    information = np.zeros((*score.shape, len(entries)))
    for fold in np.unique(folds):
        out = folds == fold
        family, own = _without(sequences, learned, ~out, points), select_sequences(sequences, out)
        # What the whole family knows of them is a good start, and has no other say.
        known = select_posterior(learned, out).posterior
        posterior = _settled(own, family, known, points)
        score[out], information[out] = entry_scores(own, family, posterior)
    return in_units_told(entries, score, information, sequence_weights(sequences))


def _without(sequences, learned, others, points) -> Family:
    """The family as it would be known from the others alone."""
    rest, known = select_sequences(sequences, others), select_posterior(learned, others)
    family = learned.family._replace(prior=None)
    points = np.pad(points, ((0, 0), (0, len(family.specific))))
    return run_em(rest, family, known.posterior, points, max_iter=FORGETTING_STEPS, tol=0.0).family


def _settled(sequences, family, posterior, points) -> TaskPosterior:
    """Posteriors under a family, found in a few steps from draws of the prior of z."""
    points = np.pad(points, ((0, 0), (0, len(family.specific))))
    for _ in range(SETTLING_STEPS):
        posterior = e_step(sequences, family, posterior, points)
    return posterior
