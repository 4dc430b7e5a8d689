"""`SingleTaskLDS`: one independent linear dynamical system for each sequence."""

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.parallel import Parallel, delayed

from mtds_sklearn._progress import heard
from mtds_sklearn._rows import show
from mtds_sklearn._sequences import PackedSequences, are_seen, select_sequences
from mtds_sklearn._warnings import warn_caller
from mtds_sklearn.estimators._base import BaseLDS
from mtds_sklearn.estimators._callbacks import make_log
from mtds_sklearn.estimators._checks import Interval, StrOptions
from mtds_sklearn.estimators._fitting import (
    Y_TRANSFORMS,
    Units,
    density_shift,
    fit_units,
    forecast_in_units,
    learn_best,
    make_options,
    merge_forecasts,
    one_blas_thread,
    standardize,
    standardize_targets,
)
from mtds_sklearn.estimators._plug_in import forecast_with, gaussian_fit, point_fit
from mtds_sklearn.estimators._streaming import StreamingMixin, next_step
from mtds_sklearn.inference._forecast import Forecast
from mtds_sklearn.learning._streaming import start_stream


class SingleTaskLDS(StreamingMixin, BaseLDS):
    """One independent linear dynamical system for each sequence: the baseline that shares nothing.

    The same model and learning as `MTLDSRegressor`, one sequence at a time under a weak prior. A
    sequence with values in `y_context` is learned anew from them alone; what its parameters leave
    uncertain enters the forecast. `sequence_log_likelihood` learns each sequence anew as well: it
    is the evidence of a system of its own (Laplace's approximation).

    Parameters
    ----------
    n_states : int or "auto", default=8
        Largest number of states; fewer are used where more do not raise the evidence. "auto" is 16.
    unseen : {"pooled", "raise"}, default="pooled"
        What to forecast for a sequence that `fit` did not see and of which nothing is known: what
        one system for all training sequences says, or a ValueError.
    transition : {"modal", "cayley"}, default="modal"
        Chart of the stable transition matrix; see `MTLDSRegressor`.
    initial_state : {"varying", "zero"}, default="varying"
        Whether the state handed to the first row is learned or zero.
    max_iter : int, default=100
        Iterations of the last stage of learning.
    tol : float, default=2e-5
        Learning stops when three iterations in a row change the bound by less than this, in nats
        per observed value.
    n_jobs : int, default=None
        Number of jobs over sequences; results do not depend on it.
    verbose : int, default=0
        1 logs every tenth iteration to the logger "mtds_sklearn", 2 each: bound, noise and seconds
        per iteration. What is logged is also printed where logging has not been configured.
    y_transform : {"log", "log1p", "box-cox", "yeo-johnson"}, tuple or None, default=None
        Learn a function of each output instead of the output itself; see `MTLDSRegressor`.
    random_state : int, RandomState instance or None, default=None
        Accepted for symmetry; nothing is random.

    Attributes
    ----------
    n_states_ : ndarray of int, shape (n_sequences,)
        Number of states found for each training sequence.
    noise_std_ : ndarray of shape (n_sequences, n_outputs)
        Standard deviation of the observation noise of each training sequence, in the units of y;
        with a `y_transform` f, in those of f(y).
    n_iter_ : ndarray of int, shape (n_sequences,)
        Number of iterations of the last stage for each training sequence.
    converged_ : ndarray of bool, shape (n_sequences,)
        Whether learning ended before `max_iter`.
    y_transform_ : object or None
        The fitted transform; see `MTLDSRegressor`.
    labels_ : ndarray of shape (n_sequences,)
        Labels of the training sequences; `partial_fit` adds its own, and learns anew those that
        come again.
    n_sequences_seen_ : int
        Number of sequences learned from; in `partial_fit` one that comes again counts again.
    n_outputs_, n_features_in_ : int
        Numbers of outputs and inputs.
    feature_names_in_ : ndarray of shape (n_inputs,)
        Names of the inputs; only if `X` was a DataFrame with string names.

    See Also
    --------
    MTLDSRegressor : Learns how sequences differ.
    PooledLDS : One system for all sequences.

    Examples
    --------
    >>> from mtds_sklearn import SingleTaskLDS
    >>> from mtds_sklearn.datasets import make_oscillators
    >>> train = make_oscillators(n_oscillators=1, n_sequences=3, n_steps=40, random_state=0)
    >>> model = SingleTaskLDS(n_states=2).fit(train.X, train.y, groups=train.groups)
    >>> model.predict(train.X, groups=train.groups).shape
    (120,)
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_states": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "unseen": [StrOptions({"pooled", "raise"})],
        "transition": [StrOptions({"modal", "cayley"})],
        "initial_state": [StrOptions({"varying", "zero"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
        "y_transform": Y_TRANSFORMS,
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_states=8,
        *,
        unseen="pooled",
        transition="modal",
        initial_state="varying",
        max_iter=100,
        tol=2e-5,
        n_jobs=None,
        verbose=0,
        y_transform=None,
        random_state=None,
    ):
        self.n_states = n_states
        self.unseen = unseen
        self.transition = transition
        self.initial_state = initial_state
        self.max_iter = max_iter
        self.tol = tol
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.y_transform = y_transform
        self.random_state = random_state

    def _fit_packed(self, sequences: PackedSequences, rng: np.random.RandomState) -> dict[str, Any]:
        units = fit_units(self, sequences)
        fitted = self._learn_own(sequences, units) | {
            "n_sequences_seen_": len(sequences.labels),
            "y_transform_": units.transform,
            "_pooled_": None,
            "_units_": units,
        }
        if self.unseen == "pooled":
            scaled = standardize(sequences, units)
            shared = learn_best(scaled, make_options(self, 0, ()))
            fitted["_pooled_"] = point_fit(shared, scaled)
            fitted["_stream_"] = start_stream(scaled, shared.family, shared.posterior)
        return fitted

    def _learn_more(self, sequences: PackedSequences) -> dict[str, Any]:
        new = self._learn_own(sequences, self._units_)
        again = set(sequences.labels.tolist())
        kept = [i for i, label in enumerate(self.labels_.tolist()) if label not in again]
        fitted = {
            name: np.concatenate([getattr(self, name)[kept], values])
            for name, values in new.items()
            if name != "_fits_"
        }
        fitted["labels_"] = np.concatenate([self.labels_[kept], sequences.labels])
        fitted["_fits_"] = [self._fits_[i] for i in kept] + new["_fits_"]
        fitted["n_sequences_seen_"] = self.n_sequences_seen_ + len(sequences.labels)
        if self._pooled_ is not None:
            step = next_step(self, self._stream_, sequences, self._units_, ())
            fitted |= {"_pooled_": gaussian_fit(step.stream), "_stream_": step.stream}
        return fitted

    def _learn_own(self, sequences: PackedSequences, units: Units) -> dict[str, Any]:
        """Learn each sequence from itself; its weight does not matter, for nothing outweighs it."""
        scaled = standardize(sequences, units)._replace(weights=None)
        learned = self._learn_each(scaled)
        converged = np.array([part.converged for part in learned])
        if not converged.all():
            late = sequences.labels[~converged]
            warn_caller(
                f"{type(self).__name__} did not converge in max_iter={self.max_iter} iterations "
                f"for {len(late)} of {len(converged)} sequences, the first is {show(late[0])}. "
                "More iterations (max_iter) or a larger tol end it.",
                ConvergenceWarning,
            )
        fits = self._point_fits(learned, scaled)
        return {
            "n_states_": np.array([fit.chart.shape.n_states for fit in fits]),
            "noise_std_": np.array([fit.noise_std for fit in fits]) * units.scaling.output_scale,
            "n_iter_": np.array([len(part.bounds) for part in learned]),
            "converged_": converged,
            "_fits_": fits,
        }

    def _learn_each(self, scaled: PackedSequences) -> list:
        options, log = make_options(self, 0, ()), make_log(self)
        return Parallel(n_jobs=self.n_jobs)(
            delayed(heard)(log, learn_best, select_sequences(scaled, [i]), options)
            for i in range(len(scaled.labels))
        )

    def _point_fits(self, learned: list, scaled: PackedSequences) -> list:
        with one_blas_thread():
            return [
                point_fit(part, select_sequences(scaled, [i])) for i, part in enumerate(learned)
            ]

    def _forecast(
        self,
        context: PackedSequences,
        *,
        levels: np.ndarray,
        horizon: int | None,
        targets: np.ndarray | None,
    ) -> Forecast:
        units = self._units_
        scaled, scaled_targets = standardize(context, units), standardize_targets(targets, units)
        if horizon is not None and scaled.observed.any():
            raise ValueError(
                f"{type(self).__name__}.predict cannot forecast at a fixed horizon: it would have "
                f"to learn every sequence anew after each row; got horizon={horizon}. Pass "
                "y_context alone, which gives the forecast from one set of known rows."
            )
        fits = self._fits_for(scaled)
        sizes = np.array([fit.chart.shape.n_states for fit in fits])
        parts = []
        for size in np.unique(sizes):
            index = np.flatnonzero(sizes == size)
            rows = np.repeat(sizes == size, np.diff(scaled.offsets))
            wanted = None if targets is None else scaled_targets[rows]
            group, which = [fits[i] for i in index], np.arange(len(index))
            with one_blas_thread():
                some = select_sequences(scaled, index)
                forecast = forecast_with(group, which, some, levels, wanted, units.image)
                parts.append((rows, forecast))
        return forecast_in_units(merge_forecasts(parts), units, targets)

    def _fits_for(self, scaled: PackedSequences) -> list:
        """The fit of every sequence: anew from its context, from `fit`, or the pooled one."""
        informed = are_seen(scaled)
        context = select_sequences(scaled, informed)
        anew = iter(self._point_fits(self._learn_each(context), context))
        stored = dict(zip(self.labels_.tolist(), self._fits_, strict=True))
        fits = []
        for label, known in zip(scaled.labels.tolist(), informed, strict=True):
            fit = next(anew) if known else stored.get(label, self._pooled_)
            if fit is None:
                raise ValueError(
                    f"{type(self).__name__}: sequence {show(label)} was not among the "
                    f"{len(self.labels_)} sequences of fit and has no value in y_context; "
                    "with unseen='raise' it cannot be forecast"
                )
            fits.append(fit)
        return fits

    def _log_likelihood(self, sequences: PackedSequences) -> np.ndarray:
        learned = self._learn_each(standardize(sequences, self._units_))
        values = np.array([part.evidence for part in learned])
        return values - density_shift(sequences, self._units_)
