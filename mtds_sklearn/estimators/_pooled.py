"""`PooledLDS`: one linear dynamical system for all sequences."""

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.estimators._base import BaseLDS
from mtds_sklearn.estimators._checks import Interval, StrOptions
from mtds_sklearn.estimators._fitting import (
    Y_TRANSFORMS,
    density_shift,
    fit_units,
    forecast_in_units,
    learn_again,
    learn_best,
    make_options,
    one_blas_thread,
    standardize,
    standardize_targets,
    warn_unconverged,
)
from mtds_sklearn.estimators._plug_in import (
    fit_log_likelihood,
    forecast_with,
    gaussian_fit,
    point_fit,
)
from mtds_sklearn.estimators._streaming import StreamingMixin, next_step
from mtds_sklearn.estimators._warm_start import shape_parameters, warm_stream
from mtds_sklearn.inference._forecast import Forecast
from mtds_sklearn.learning._streaming import start_stream


class PooledLDS(StreamingMixin, BaseLDS):
    """One linear dynamical system for all sequences: the baseline that knows no differences.

    The same model, learning and forecasts as `MTLDSRegressor` with W = 0. `y_context` and `horizon`
    are accepted and change nothing: all sequences obey one theta, initial state included.
    `sequence_log_likelihood` is that at the theta learned; what is uncertain about it is in the
    forecasts and their densities.

    Parameters
    ----------
    n_states : int or "auto", default=8
        Largest number of states; fewer are used where more do not raise the evidence. "auto" is 16.
    transition : {"modal", "cayley"}, default="modal"
        Chart of the stable transition matrix; see `MTLDSRegressor`.
    initial_state : {"shared", "zero"}, default="shared"
        Whether the state handed to the first row is learned or zero.
    max_iter : int, default=100
        Iterations of the last stage of learning.
    tol : float, default=2e-5
        Learning stops when three iterations in a row change the bound by less than this, in nats
        per observed value.
    warm_start : bool, default=False
        Whether another `fit` goes on from where the last one ended, in its units and with its
        number of states, instead of learning anew: more iterations, or other sequences.
    verbose : int, default=0
        1 logs every tenth iteration to the logger "mtds_sklearn", 2 each: bound, noise and seconds
        per iteration. What is logged is also printed where logging has not been configured.
    y_transform : {"log", "log1p", "box-cox", "yeo-johnson"}, tuple or None, default=None
        Learn a function of each output instead of the output itself; see `MTLDSRegressor`.
    random_state : int, RandomState instance or None, default=None
        Accepted for symmetry; nothing is random.

    Attributes
    ----------
    n_states_ : int
        Number of states found.
    noise_std_ : ndarray of shape (n_outputs,)
        Standard deviation of what the system does not explain, in the units of y; with a
        `y_transform` f, in those of f(y).
    evidence_ : float
        Laplace approximation of the log evidence of the standardised training data, in nats; with
        a `y_transform` f, of f(y).
    lower_bounds_ : ndarray of shape (n_iterations,)
        Log likelihood plus log prior after each iteration of the last stage, in nats.
    stages_ : tuple of Stage
        All stages of learning in order; see `MTLDSRegressor`.
    n_iter_ : int
        Number of iterations of the last stage.
    converged_ : bool
        Whether the last stage ended before `max_iter`.
    y_transform_ : object or None
        The fitted transform; see `MTLDSRegressor`.
    labels_ : ndarray of shape (n_sequences,)
        Labels of the training sequences; after `partial_fit` those of the latest minibatch.
        `evidence_`, `lower_bounds_`, `stages_`, `n_iter_` and `converged_` are then those of the
        last `fit`, or of the first minibatch.
    n_sequences_seen_ : int
        Number of sequences learned from; in `partial_fit` one that comes again counts again.
    n_outputs_, n_features_in_ : int
        Numbers of outputs and inputs.
    feature_names_in_ : ndarray of shape (n_inputs,)
        Names of the inputs; only if `X` was a DataFrame with string names.

    See Also
    --------
    MTLDSRegressor : Learns how sequences differ.
    SingleTaskLDS : One independent system for each sequence.

    Examples
    --------
    >>> from mtds_sklearn import PooledLDS
    >>> from mtds_sklearn.datasets import make_oscillators
    >>> train = make_oscillators(n_oscillators=1, n_sequences=10, n_steps=40, random_state=0)
    >>> model = PooledLDS(n_states=2).fit(train.X, train.y, groups=train.groups)
    >>> model.predict(train.X, groups=train.groups).shape
    (400,)
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_states": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "transition": [StrOptions({"modal", "cayley"})],
        "initial_state": [StrOptions({"shared", "zero"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "y_transform": Y_TRANSFORMS,
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_states=8,
        *,
        transition="modal",
        initial_state="shared",
        max_iter=100,
        tol=2e-5,
        warm_start=False,
        verbose=0,
        y_transform=None,
        random_state=None,
    ):
        self.n_states = n_states
        self.transition = transition
        self.initial_state = initial_state
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.verbose = verbose
        self.y_transform = y_transform
        self.random_state = random_state

    def _fit_packed(self, sequences: PackedSequences, rng: np.random.RandomState) -> dict[str, Any]:
        options, start = make_options(self, 0, ()), warm_stream(self, sequences)
        units = start[1] if start else fit_units(self, sequences)
        scaled = standardize(sequences, units)
        if start:
            learned = learn_again(scaled, start[0].family, options, 0)
        else:
            learned = learn_best(scaled, options)
        warn_unconverged(self, learned)
        return {
            "n_states_": learned.family.chart.shape.n_states,
            "noise_std_": learned.family.noise_std * units.scaling.output_scale,
            "evidence_": learned.evidence,
            "lower_bounds_": np.array(learned.bounds),
            "stages_": learned.stages,
            "n_iter_": len(learned.bounds),
            "converged_": learned.converged,
            "n_sequences_seen_": len(sequences.labels),
            "_fit_": point_fit(learned, scaled),
            "y_transform_": units.transform,
            "_units_": units,
            "_stream_": start_stream(scaled, learned.family, learned.posterior),
            "_shape_parameters_": shape_parameters(self),
        }

    def _learn_more(self, sequences: PackedSequences) -> dict[str, Any]:
        step = next_step(self, self._stream_, sequences, self._units_, ())
        family = step.stream.family
        return {
            "n_states_": family.chart.shape.n_states,
            "noise_std_": family.noise_std * self._units_.scaling.output_scale,
            "labels_": step.labels,
            "n_sequences_seen_": step.stream.n_seen,
            "_fit_": gaussian_fit(step.stream),
            "_stream_": step.stream,
        }

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
        which = np.zeros(len(context.labels), dtype=np.int64)
        with one_blas_thread():
            forecast = forecast_with(
                [self._fit_], which, scaled, levels, scaled_targets, units.image
            )
        return forecast_in_units(forecast, units, targets)

    def _log_likelihood(self, sequences: PackedSequences) -> np.ndarray:
        values = fit_log_likelihood(self._fit_, standardize(sequences, self._units_))
        return values - density_shift(sequences, self._units_)
