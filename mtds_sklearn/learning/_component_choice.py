"""How many components p(v) has: as many as the evidence of sequences left out speaks for, or none.

Components start at clusters of the posterior means and are learned from the quadratics that
the posteriors under N(0, I) imply (`_components`). Those of the best number are then learned on,
with quadratics where they have the sequences: a posterior under N(0, I) may be wide and curved
where the cluster of its sequence is a point.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.cluster.vq import ClusterError, kmeans2

from mtds_sklearn.learning._components import (
    Belongings,
    Quadratics,
    belongings,
    em_step,
    holding,
    log_sum,
    run_em,
    some_of,
    total_log_evidence,
    widened,
)
from mtds_sklearn.model._latent_prior import Components, no_components

# Numbers that are tried, until two in a row were not better, and sequences that each needs.
NUMBERS, FAILURES, SEQUENCES_EACH = (1, 2, 3, 4, 6, 8, 12, 16), 2, 4
N_FOLDS, FOLD_STEPS = 5, 15
# Starts, steps of EM after which the best is chosen, and steps of that one.
N_STARTS, FIRST_STEPS, START_STEPS = 10, 8, 30
# Rounds in which quadratics are taken where the components say, and steps of EM in each; change of
# the evidence, in nats, below which a round is the last.
ROUNDS, ROUND_STEPS, SETTLED = 5, 15, 0.5
# Numbers that posteriors of mixtures that are learned at once may take.
MOST_VALUES = 60_000
# Gain of evidence, in standard errors over sequences, from which more components are used.
LEAST_GAIN = 2.0


class Places(NamedTuple):
    """Where the components have the sequences, and the likelihoods there.

    Attributes
    ----------
    at : ndarray of shape (n_sequences, 1 + J, k)
        Scores under N(0, I), the first, and every component.
    reach : ndarray of shape (n_sequences, 1 + J)
        Share of the way to the mode, as it seems from there, that is gone next.
    quadratics : Quadratics
    """

    at: np.ndarray
    reach: np.ndarray
    quadratics: Quadratics


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
    components = best_number(quadratics)
    if components is None:
        return None
    if look_again is not None:
        components, quadratics = _settled(components, quadratics, look_again)
        if not _worth_it(gains_left_out(components, quadratics)):
            return None
    return widened(components, quadratics)


def _settled(
    components: Components,
    quadratics: Quadratics,
    look_again: Callable[[np.ndarray], Quadratics],
) -> tuple:
    """The components that are left, learned from quadratics where they have the sequences."""
    at = belongings(components, quadratics).mean
    places, reached = Places(at, np.ones(at.shape[:2]), look_again(at)), -np.inf
    for round_ in range(ROUNDS):
        places = approach(components, places, look_again) if round_ else places
        components = run_em(components, places.quadratics, ROUND_STEPS)
        components, places = without_empty(components, places)
        found = belongings(components, places.quadratics)
        before, reached = reached, total_log_evidence(found, places.quadratics.weights)
        if abs(reached - before) < SETTLED:
            break
    return components, places.quadratics


def best_number(quadratics: Quadratics) -> Components | None:
    """The number whose components say more of sequences left out than any smaller number's."""
    best, most, failures = None, np.zeros(len(quadratics.weights)), 0
    promised = 0.0
    for n in NUMBERS:
        if SEQUENCES_EACH * n > len(most) or failures == FAILURES:
            break
        starts = start_components(quadratics, n)
        if starts is None:
            continue
        components = run_em(_likeliest(starts, quadratics), quadratics, START_STEPS)
        components = some_of(components, holding(components, quadratics.weights))
        promise = promise_of(components, quadratics)
        gains = gains_left_out(components, quadratics) if promise > promised else most
        if _worth_it(gains - most):
            best, most, promised, failures = components, gains, promise, 0
        else:
            failures += 1
    return best


def promise_of(components: Components, quadratics: Quadratics) -> float:
    """What components add to the evidence of the sequences that they are learned from, less chance.

    By chance alone parameters add half their number to it, and to that of others they add nothing.
    """
    (n, k), weights = components.means.shape, quadratics.weights
    log_evidence = belongings(components, quadratics).log_evidence
    return weights @ _gains(log_evidence, components.weights[0]) - 0.25 * n * (k + 1) * (k + 2)


def _gains(log_evidence: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What components add to the log evidence of every sequence under N(0, I), of that weight."""
    return log_sum(log_evidence) - (log_evidence[..., 0] - np.log(weight))


def _worth_it(gains: np.ndarray) -> bool:
    return bool(gains.sum() > LEAST_GAIN * np.sqrt(len(gains)) * gains.std())


def _likeliest(starts: Components, quadratics: Quadratics) -> Components:
    """The start of most evidence after a few steps, of those that `starts` has along an axis."""
    if len(starts.weights) == 1:
        return Components(*(part[0] for part in starts))
    tried, evidence = [], []
    for part in _at_once(starts, quadratics):
        tried.append(run_em(part, quadratics, FIRST_STEPS))
        evidence.append(total_log_evidence(belongings(tried[-1], quadratics), quadratics.weights))
    best = int(np.argmax(np.concatenate(evidence)))
    return Components(*(np.concatenate(parts)[best] for parts in zip(*tried, strict=True)))


def _at_once(mixtures: Components, quadratics: Quadratics) -> list[Components]:
    """Mixtures along an axis, cut to parts whose posteriors do not take too much memory."""
    n, k = len(quadratics.weights), mixtures.means.shape[-1]
    size = max(1, MOST_VALUES // (n * mixtures.weights.shape[1] * max(k, 1) ** 2))
    edges = range(size, len(mixtures.weights), size)
    parts = (np.split(array, edges) for array in mixtures)
    return [Components(*part) for part in zip(*parts, strict=True)]


def start_components(quadratics: Quadratics, n: int) -> Components | None:
    """Components at clusters of the posterior means under N(0, I), from several seeds (k-means++).

    Along an axis in front; None if there are no such clusters.
    """
    k = quadratics.pull.shape[-1]
    found = belongings(no_components(k), quadratics)
    labels = _clusterings(found.mean[:, 0], n)
    if not labels:
        return None
    member = np.eye(n)[np.array(labels)]
    member = np.concatenate([np.full((*member.shape[:2], 1), 0.1), member], axis=2)
    alike = Belongings(
        np.log(np.maximum(member, 1e-9)),
        np.repeat(found.mean, 1 + n, axis=1),
        np.repeat(found.cov, 1 + n, axis=1),
    )
    lead = (len(labels), n, k)
    wide = Components(
        np.ones((len(labels), 1 + n)), np.zeros(lead), np.ones(lead)[..., None] * np.eye(k)
    )
    return em_step(wide, alike, quadratics.weights)


def _clusterings(v: np.ndarray, n: int) -> list[np.ndarray]:
    """Labels (n_sequences,) of n clusters of points v from several seeds, all different."""
    if len(np.unique(v.round(6), axis=0)) < n:
        return []
    found = {}
    for seed in range(N_STARTS if n > 1 else 1):
        try:
            _, label = kmeans2(v, n, minit="++", missing="raise", rng=np.random.default_rng(seed))
        except ClusterError:  # a cluster without points
            continue
        _, first, again = np.unique(label, return_index=True, return_inverse=True)
        found.setdefault(first[again].tobytes(), label)  # whatever the clusters are called
    return list(found.values())


def gains_left_out(components: Components, quadratics: Quadratics) -> np.ndarray:
    """What components, learned without it, add to the log evidence of every sequence.

    Where components start is taken from all; what they hold is learned anew.
    """
    n = len(quadratics.weights)
    fold = np.arange(n) % N_FOLDS
    gains = np.empty(n)
    copies = Components(*(np.repeat(part[None], N_FOLDS, axis=0) for part in components))
    first = 0
    for part in _at_once(copies, quadratics):
        folds = np.arange(first, first + len(part.weights))
        kept = quadratics._replace(weights=quadratics.weights * (fold != folds[:, None]))
        learned = run_em(part, kept, FOLD_STEPS)
        log_evidence = belongings(learned, quadratics).log_evidence
        gained = quadratics.weights * _gains(log_evidence, learned.weights[:, :1])
        for f, row in zip(folds, gained, strict=True):
            gains[fold == f] = row[fold == f]
        first += len(folds)
    return gains


def approach(
    components: Components, places: Places, look_again: Callable[[np.ndarray], Quadratics]
) -> Places:
    """Places nearer to the modes; a step that leads downhill is not gone, the next one is shorter.

    The quadratic of a likelihood far from its mode may point anywhere.
    """
    goal = belongings(components, places.quadratics).mean
    at = places.at + places.reach[..., None] * (goal - places.at)
    seen = look_again(at)
    better = _log_joint(components, seen, at) > _log_joint(components, places.quadratics, places.at)
    quadratics = Quadratics(
        np.where(better, seen.level, places.quadratics.level),
        np.where(better[..., None], seen.pull, places.quadratics.pull),
        np.where(better[..., None, None], seen.stiffness, places.quadratics.stiffness),
        seen.weights,
    )
    reach = np.where(better, 1.0, 0.25 * places.reach)
    return Places(np.where(better[..., None], at, places.at), reach, quadratics)


def _log_joint(components: Components, quadratics: Quadratics, at: np.ndarray) -> np.ndarray:
    """log p(y, v) (n_sequences, 1 + J) where quadratics are exact, but for constants of each j."""
    bent = np.einsum("njab,njb->nja", quadratics.stiffness, at)
    fit = quadratics.level + np.sum((quadratics.pull - 0.5 * bent) * at, axis=2)
    whitened = np.einsum(
        "jab,njb->nja", np.linalg.inv(components.factors), at[:, 1:] - components.means
    )
    distance = np.column_stack([np.sum(at[:, 0] ** 2, axis=1), np.sum(whitened**2, axis=2)])
    return fit - 0.5 * distance


def without_empty(components: Components, places: Places) -> tuple:
    """Components that hold at least one sequence, and their places."""
    weights = places.quadratics.weights
    full = holding(components, weights)
    quadratics = Quadratics(*(part[:, full] for part in places.quadratics[:3]), weights)
    return some_of(components, full), Places(places.at[:, full], places.reach[:, full], quadratics)
