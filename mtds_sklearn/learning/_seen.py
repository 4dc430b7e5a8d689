"""Sequences of which something is observed: learning goes on with them alone."""

from collections.abc import Callable

import numpy as np

from mtds_sklearn._sequences import PackedSequences, are_seen, select_sequences
from mtds_sklearn.learning._learned import Learned
from mtds_sklearn.learning._posterior import TaskPosterior, prior_posterior


def of_the_seen(sequences: PackedSequences, learn: Callable) -> Learned:
    """Learn from the sequences of which something is observed; the others get the prior."""
    seen = are_seen(sequences)
    if seen.all() or not seen.any():
        return learn(sequences)
    return scatter_posterior(learn(select_sequences(sequences, seen)), seen)


def go_on_with_the_seen(sequences: PackedSequences, learned: Learned, learn: Callable) -> Learned:
    """Call learn(sequences, learned) with the sequences of which something is observed."""
    seen = are_seen(sequences)
    if seen.all():
        return learn(sequences, learned)
    some = learn(select_sequences(sequences, seen), select_posterior(learned, seen))
    return scatter_posterior(some, seen)


def select_posterior(learned: Learned, index: np.ndarray) -> Learned:
    """The same with the posteriors of some of the sequences; smaller families have no others."""
    posterior = TaskPosterior(*(part[index] for part in learned.posterior))
    return learned._replace(posterior=posterior)


def scatter_posterior(learned: Learned, seen: np.ndarray) -> Learned:
    """The same with posteriors of all sequences, the prior for those without values."""
    everyone = prior_posterior(len(seen), learned.posterior.mean.shape[1])
    everyone.mean[seen], everyone.factor[seen] = learned.posterior
    level = learned.level
    if level is not None:
        level = np.ones(len(seen))
        level[seen] = learned.level
    return learned._replace(posterior=everyone, level=level)
