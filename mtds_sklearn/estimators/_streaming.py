"""`partial_fit`: more whole sequences, in minibatches that are not kept."""

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mtds_sklearn._progress import LOGGER, shown
from mtds_sklearn._sequences import PackedSequences, are_seen, resolve_rows, select_sequences
from mtds_sklearn._warnings import warn_caller
from mtds_sklearn.estimators._fitting import Units, most_states, one_blas_thread, standardize
from mtds_sklearn.estimators._memory_of_rows import starts_of
from mtds_sklearn.estimators._weights import weigh_sequences
from mtds_sklearn.inference._draws import make_draws
from mtds_sklearn.learning._posterior import TaskPosterior, move
from mtds_sklearn.learning._stream_growth import can_grow, grow_stream
from mtds_sklearn.learning._streaming import Stream, learn_minibatch

# Posteriors of the latest sequences that are kept: for forecasts by label, and the shape of p(z).
REMEMBERED = 400


class StreamingMixin:
    """`partial_fit` beside `BaseLDS`; a subclass writes the hook `_learn_more`."""

    @abstractmethod
    def _learn_more(self, sequences: PackedSequences) -> dict[str, Any]:
        """Learn from packed sequences, in the units of the user, beside what is known already.

        Must not change `self`. Returns the fitted attributes that change.
        """

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ):
        """Learn from more whole sequences, beside those seen before, which are not needed again.

        The first call (without an earlier `fit`) learns its sequences as `fit` does: 20 or more are
        a good start. It settles for good the units of `X` and `y`, a `y_transform`, which inputs
        there are (one that is always zero has no parameters), the number of latents, the kind of
        disturbance (`disturbance_`; its gains go on being learned) and how much noise levels
        differ. States are added later, where a minibatch needs them, but only in pairs, only to an
        even number of them, up to `n_states`, and with ``transition="modal"``; none is taken away.
        Where that is not enough, a warning says so: then `fit` anew. A call that fails leaves the
        estimator as it was.

        Parameters
        ----------
        X, y, sample_weight, groups, times : array-like
            As in `fit`; each sequence whole, with as many inputs and outputs as before.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If an argument is out of range, or no value of `y` is observed.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y, sample_weight, groups=groups, times=times)
        self._validate_params()
        sequences = self._pack_known(X, y, groups, times, name="y")
        if not sequences.observed.any():
            raise ValueError(
                f"{type(self).__name__}.partial_fit: y has no observed value; at least 1 of its "
                f"{sequences.observed.size} must not be NaN"
            )
        who = type(self).__name__
        _, times = resolve_rows(X, groups, times, who=who)
        starts = self._starts_ | starts_of(sequences, times, who)
        sequences = weigh_sequences(sequences, sample_weight, who=who)
        self._warn_of_new_inputs(sequences)
        learned = self._learn_more(sequences)
        known = {label: starts[label] for label in learned["labels_"].tolist() if label in starts}
        vars(self).update(learned | {"_starts_": known})
        if getattr(self, "verbose", 0):
            self._log_minibatch(len(sequences.labels))
        return self

    def _log_minibatch(self, n_new: int) -> None:
        noise = ", ".join(f"{std:.4g}" for std in np.atleast_2d(self.noise_std_).mean(axis=0))
        with shown():
            LOGGER.info(
                "%s, %d sequences more, %d in all: %s states, noise %s",
                type(self).__name__, n_new, self.n_sequences_seen_, np.max(self.n_states_), noise,
            )  # fmt: skip

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "labels_")

    def _warn_of_new_inputs(self, sequences: PackedSequences) -> None:
        """Inputs that were always zero at first have no parameters."""
        moved = np.any(sequences.inputs != 0.0, axis=0) & ~self._units_.used
        if moved.any():
            rows = np.count_nonzero(np.any(sequences.inputs[:, moved] != 0.0, axis=1))
            warn_caller(
                f"{type(self).__name__}.partial_fit ignores the inputs {np.flatnonzero(moved)}, "
                f"which were zero in all rows of the first sequences and are not in {rows} of "
                f"{len(sequences.inputs)} rows now; fit again with data in which they move."
            )


class Remembered(NamedTuple):
    """Posteriors of the latest sequences.

    Attributes
    ----------
    labels : ndarray of shape (n,)
    level : ndarray of shape (n,)
        Noise levels.
    posterior : TaskPosterior
    """

    labels: np.ndarray
    level: np.ndarray
    posterior: TaskPosterior

    def moved(self, shift: np.ndarray, factor: np.ndarray) -> "Remembered":
        """Where their z are after a parameter expansion."""
        return self._replace(posterior=move(self.posterior, shift, factor))

    def with_latest(self, new: "Remembered") -> "Remembered":
        """Add sequences; a label that comes again replaces what was known of it."""
        again = set(new.labels.tolist())
        old = np.array([label not in again for label in self.labels.tolist()], dtype=bool)
        kept = np.flatnonzero(old)[max(0, old.sum() + len(new.labels) - REMEMBERED) :]

        def join(before: np.ndarray, after: np.ndarray) -> np.ndarray:
            return np.concatenate([before[kept], after[-REMEMBERED:]])

        parts = map(join, self.posterior, new.posterior)
        return Remembered(
            join(self.labels, new.labels), join(self.level, new.level), TaskPosterior(*parts)
        )


def remembered(model, k: int) -> Remembered:
    """What a model knows of its latest sequences in the first k latents, those of its stream."""
    factor = np.linalg.cholesky(model.posterior_cov_[:, :k, :k])
    posterior = TaskPosterior(model.posterior_mean_[:, :k], factor)
    return Remembered(model.labels_, model.noise_level_, posterior)


class LabelledStep(NamedTuple):
    """A `Step`; labels and noise levels of the sequences of its posterior."""

    labels: np.ndarray
    level: np.ndarray
    stream: Stream
    posterior: TaskPosterior
    shift: np.ndarray
    factor: np.ndarray


def next_step(
    estimator, stream: Stream, sequences: PackedSequences, units: Units, varying: tuple
) -> LabelledStep:
    """Learn a minibatch in the user's units; a block is added where it needs one.

    Sequences without any observed value leave no trace.
    """
    seen = are_seen(sequences)
    scaled = standardize(select_sequences(sequences, seen), units)
    k = stream.family.loadings.shape[1]
    seed = getattr(estimator, "_seed_", 0)
    points = make_draws(k, seed).points if k else np.zeros((1, 0))
    rng = np.random.RandomState((seed + stream.n_seen) % 2**32)

    def grown(*state):
        return grow_stream(*state, varying=varying, rng=rng)

    room = can_grow(stream.family, most_states(estimator))
    with one_blas_thread():
        step = learn_minibatch(stream, scaled, points, grown if room else None)
    if step.is_strange:
        why = "a block more did not raise the evidence" if room else "n_states allows no more"
        warn_caller(
            f"{type(estimator).__name__}.partial_fit: the squared residuals of these "
            f"{len(scaled.labels)} sequences are {step.misfit:.2f} times the noise variance before "
            f"them: they may show what {step.stream.family.chart.shape.n_states} states learned "
            f"from {stream.n_seen} sequences cannot express ({why}). If this goes on, fit again."
        )
    return LabelledStep(scaled.labels, step.level, *step[:4])
