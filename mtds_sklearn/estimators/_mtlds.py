"""`MTLDSRegressor`: the multi-task linear dynamical system."""

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from mtds_sklearn._rows import ROUTING
from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn._warnings import warn_caller
from mtds_sklearn.estimators._base import BaseLDS
from mtds_sklearn.estimators._checks import Interval, StrOptions
from mtds_sklearn.estimators._family_methods import FamilyMethods
from mtds_sklearn.estimators._fitting import (
    ALL_KINDS,
    VARYING_KINDS,
    Y_TRANSFORMS,
    Units,
    density_shift,
    forecast_in_units,
    learn_again,
    make_options,
    one_blas_thread,
    standardize,
    standardize_targets,
    warn_unconverged,
    with_latent_shape,
)
from mtds_sklearn.estimators._known_family import family_forecast, infer_observed
from mtds_sklearn.estimators._streaming import Remembered, StreamingMixin, next_step, remembered
from mtds_sklearn.estimators._transform_choice import learn_in_units
from mtds_sklearn.estimators._warm_start import shape_parameters, warm_stream
from mtds_sklearn.inference._forecast import Forecast
from mtds_sklearn.learning._clusters import follow
from mtds_sklearn.learning._gain import disturbance_of
from mtds_sklearn.learning._growth import Options, theta_size
from mtds_sklearn.learning._latent_shape import fit_latent_shape, varying_entries
from mtds_sklearn.learning._latents import most_latents
from mtds_sklearn.learning._left_out import carry_over
from mtds_sklearn.learning._streaming import start_stream
from mtds_sklearn.model._chart import n_family_states, theta_names
from mtds_sklearn.model._latent_prior import first_of
from mtds_sklearn.model._noise import at_zero, unit_of
from mtds_sklearn.model._task_map import mean_noise, n_shared, relative_levels, specific_variances

# The shape of p(z) is fitted again when so many times as many sequences have been seen.
PRIOR_REFIT = 1.2


class MTLDSRegressor(StreamingMixin, FamilyMethods, BaseLDS):
    """Multi-task linear dynamical system: sequences that share how their dynamics differ.

    Every sequence i is a linear dynamical system of its own, whose parameters lie on a plane that
    all sequences share::

        z_i ~ N(0, I),   theta_i = W z_i + b,
        x_t = s_t + B u_t,   s_1 = x0,   s_{t+1} = A x_t,
        y_t = C x_t + D u_t + offset + noise,

    with theta = (A, B, C, D, offset, x0). Learning finds (W, b) and the noise from many sequences
    by a variational Gauss-Newton EM that grows the state block by block; a new sequence is then
    forecast from a handful of its observations, by the posterior of its z.

    Parameters
    ----------
    n_states : int or "auto", default=8
        Largest number of states. Fewer are used where more do not raise the evidence; "auto" is 16,
        which are more than growth needs for most families.
    latent_dim : int or "auto", default="auto"
        Dimension of z: how many independent ways there are for sequences to differ. "auto" begins
        with 10 (with N sequences at most N - 1), leaves out those that the outputs say next to
        nothing of, while the evidence does not fall, and adds those that the outputs ask for,
        while it rises.
    transition : {"modal", "cayley"}, default="modal"
        Chart of the stable transition matrix: blocks of two states with two poles each, or a full
        contraction (fitted by converting a modal fit).
    varying : "all" or tuple of {"A", "B", "C", "D", "offset", "x0", "K", "noise"}, default="all"
        Which parameters may differ between sequences; the others are shared. "K" is the gain of a
        disturbance, if there is one; "noise" is the log noise level of a sequence, which "all"
        leaves out. Both are let vary when the rest has been learned.
    initial_state : {"varying", "shared", "zero"}, default="varying"
        Whether the state handed to the first row belongs to theta, is the same for all sequences,
        or zero.
    disturbance : {"auto", "none", "innovations", "joint"}, default="auto"
        What pushes sequences off the course that their parameters set. "none": nothing, as in the
        article. "innovations": what the forecast of a row missed goes on, in coloured noise of
        each output and through a gain on the states, s_{t+1} = A (x_t + K (y_t - yhat_t)), the
        same gain for all sequences; learned when the rest is. "joint": then everything is learned
        together once more. "auto": innovations where they forecast the rest of the training
        sequences, from a quarter and from half of each, better than none.
    sequence_noise : bool, default=False
        Whether sequences may have noise levels of their own, whose distribution (inverse gamma)
        is learned and integrated out; only where that forecasts better.
    specific_variances : "auto" or bool, default="auto"
        Whether entries of x0, B, D and the offset may differ in ways of their own beside those of
        z: theta_i = W z_i + b + e_i, e_i ~ N(0, diag(psi)), as in factor analysis. "auto": those
        that ask for it, while the evidence rises, and with fewer than 30 sequences also those that
        ask for it when sequences are left out; True: all whose most likely variance is not zero.
        None with noise levels of sequences or noise that grows with y.
    max_iter : int, default=100
        Iterations of the last stage of EM.
    tol : float, default=2e-5
        EM stops when three iterations in a row change the bound by less than this, in nats per
        observed value.
    n_init : int or "auto", default="auto"
        Number of random starts, the best evidence wins; "auto" is 4 with fewer than 20 sequences,
        else 1, or 2 with latent_dim="auto", where more is to be found.
    n_jobs : int, default=None
        Number of jobs for the starts or, with one start and more than 256 sequences, for chunks of
        sequences, through joblib: `joblib.parallel_config` chooses threads, processes, Ray or Dask,
        whose cluster keeps the data. Results do not depend on it.
    warm_start : bool, default=False
        Whether another `fit` goes on from where the last one ended, in its units and with its
        number of states, instead of learning anew: more iterations, or other sequences.
    verbose : int, default=0
        1 logs every tenth iteration to the logger "mtds_sklearn", 2 each: bound, noise and seconds
        per iteration. What is logged is also printed where logging has not been configured.
    y_transform : {"auto", "log", "log1p", "box-cox", "yeo-johnson"}, tuple or None, default="auto"
        Learn an increasing function f of each output instead of the output itself: for positive
        outputs "log" or "box-cox" (y > 0), "log1p" (y > -1), whose noise is proportional to y; for
        others "yeo-johnson"; or callables (f, inverse), optionally (f, inverse, derivative of f),
        elementwise on arrays. "auto", for outputs that are hardly ever negative: y itself, y with
        noise that grows with it (`noise_unit_`), or arcsinh, which is logarithmic for large y,
        whichever has the most evidence; the fit takes twice as long where it is close. Powers of
        Box-Cox and Yeo-Johnson, one per output, are the most likely ones from 0 to 2. Forecasts,
        densities and samples stay in the units of y: quantiles map back exactly; mean and standard
        deviation are those of y, with f(y) held within its range in training, widened by its own
        width on both sides (by its standard deviation, with "auto"): tails that are heavy in f(y)
        would leave y without a mean.
    random_state : int, RandomState instance or None, default=None
        Determines the starts and the quasi-random numbers of inference.

    Attributes
    ----------
    task_map_ : Family
        The learned W (`loadings`), b (`bias`) and the chart that gives theta its meaning;
        standardised units.
    n_states_ : int
        Number of states found.
    latent_dim_ : int
        Dimension of z, without the latents of specific variances.
    specific_variances_ : ndarray of shape (n_theta,)
        psi, the specific variance of each entry of theta; 0 where it has none.
    disturbance_ : {"none", "noise", "gain"}
        What was found: nothing, coloured noise, or a gain on the states too.
    noise_std_ : ndarray of shape (n_outputs,)
        Standard deviation of the observation noise, at y = 0 if it grows, in the units of y; with a
        `y_transform` f, in those of f(y).
    noise_unit_ : ndarray of shape (n_outputs,)
        Where the noise has grown to sqrt(2) `noise_std_`: at y it is `noise_std_` times
        sqrt(1 + (y / `noise_unit_`)^2); inf if it is the same everywhere.
    theta_names_ : list of str
        Names of the entries of theta.
    relevance_ : ndarray of shape (n_theta,)
        Standard deviation of each entry of theta over the family; 0 where it does not vary.
    posterior_mean_ : ndarray of shape (n_sequences, n_latents)
        Posterior means of z of the training sequences, and after the `latent_dim_` numbers of z
        those of e / sqrt(psi), in the order of the columns of W (`task_map_.specific`).
    posterior_cov_ : ndarray of shape (n_sequences, n_latents, n_latents)
        Their posterior covariances.
    noise_level_ : ndarray of shape (n_sequences,)
        Noise of each training sequence as a multiple of `noise_std_`: at its posterior mean, if
        the level is part of theta.
    noise_dof_ : float
        Degrees of freedom of the noise level; inf if it is the same for all sequences.
    evidence_ : float
        Laplace approximation of the log evidence of the standardised training data, in nats; with
        a `y_transform` f, of f(y).
    lower_bounds_ : ndarray of shape (n_iterations,)
        The bound after each iteration of the last stage, in nats.
    stages_ : tuple of Stage
        All stages of learning in order, each with its `n_states`, `bounds`, `n_annealed` (first
        iterations that hold the noise up), `evidence` and whether it was `kept`.
    n_iter_, converged_ : int, bool
        Number of iterations of the last stage; whether it ended before `max_iter`.
    y_transform_ : object or None
        The fitted transform, with methods `forward`, `inverse` and `log_slope` on arrays of shape
        (n_rows, n_outputs); of "box-cox" and "yeo-johnson" also `power` and `unit`, per output.
    labels_ : ndarray of shape (n_sequences,)
        Labels of the training sequences, in order of first appearance. After `partial_fit` these
        and the posteriors are the latest 400 sequences'; what describes learning (`evidence_`,
        `lower_bounds_`, `stages_`, `n_iter_`, `converged_`) is that of the last `fit`, or of the
        first minibatch.
    n_sequences_seen_ : int
        Number of sequences learned from; in `partial_fit` one that comes again counts again.
    n_outputs_, n_features_in_ : int
        Numbers of outputs and inputs.
    feature_names_in_ : ndarray of shape (n_inputs,)
        Names of the inputs; only if `X` was a DataFrame with string names.

    See Also
    --------
    PooledLDS : One system for all sequences.
    SingleTaskLDS : One independent system for each sequence.

    References
    ----------
    A. Bird, C. K. I. Williams, C. Hawthorne, "Multi-Task Dynamical Systems", JMLR 23(230), 2022.

    Examples
    --------
    >>> from mtds_sklearn import MTLDSRegressor, mask_future
    >>> from mtds_sklearn.datasets import make_oscillators
    >>> train = make_oscillators(n_oscillators=1, n_sequences=20, n_steps=40, random_state=0)
    >>> model = MTLDSRegressor(n_states=2, latent_dim=2, random_state=0)
    >>> model.fit(train.X, train.y, groups=train.groups, times=train.times).n_states_
    2
    >>> new = make_oscillators(n_oscillators=1, n_sequences=1, n_steps=40, random_state=1)
    >>> known = mask_future(new.y, new.groups + 100, new.times, 15)
    >>> model.predict(new.X, groups=new.groups + 100, times=new.times, y_context=known).shape
    (40,)
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_states": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "latent_dim": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "transition": [StrOptions({"modal", "cayley"})],
        "varying": [StrOptions({"all"}), tuple, list],
        "initial_state": [StrOptions({"varying", "shared", "zero"})],
        "disturbance": [StrOptions({"none", "innovations", "joint", "auto"})],
        "sequence_noise": ["boolean"],
        "specific_variances": [StrOptions({"auto"}), "boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "y_transform": [StrOptions({"auto"}), *Y_TRANSFORMS],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_states=8,
        latent_dim="auto",
        *,
        transition="modal",
        varying="all",
        initial_state="varying",
        disturbance="auto",
        sequence_noise=False,
        specific_variances="auto",
        max_iter=100,
        tol=2e-5,
        n_init="auto",
        n_jobs=None,
        warm_start=False,
        verbose=0,
        y_transform="auto",
        random_state=None,
    ):
        self.n_states = n_states
        self.latent_dim = latent_dim
        self.transition = transition
        self.varying = varying
        self.initial_state = initial_state
        self.disturbance = disturbance
        self.sequence_noise = sequence_noise
        self.specific_variances = specific_variances
        self.max_iter = max_iter
        self.tol = tol
        self.n_init = n_init
        self.n_jobs = n_jobs
        self.warm_start = warm_start
        self.verbose = verbose
        self.y_transform = y_transform
        self.random_state = random_state

    # ------------------------------------------------------------------------------------ hooks

    def _fit_packed(self, sequences: PackedSequences, rng: np.random.RandomState) -> dict[str, Any]:
        n_sequences = len(sequences.labels)
        latent_dim = most_latents(n_sequences) if self.latent_dim == "auto" else self.latent_dim
        options = make_options(self, latent_dim, self._varying_kinds())
        self._check_latent_dim(sequences, options)
        if n_sequences == 1:
            warn_caller(
                f"{type(self).__name__} learns what differs between sequences, and got 1 sequence; "
                f"pass groups, or a DataFrame X with a row MultiIndex (sequence, time). {ROUTING} "
                "With one sequence PooledLDS does the same with fewer parameters."
            )
        start, seed = warm_stream(self, sequences), rng.randint(2**31 - 1)
        if start:
            units, scaled = start[1], standardize(sequences, start[1])
            learned = learn_again(scaled, start[0].family, options, seed)
        else:
            units, scaled, learned = learn_in_units(self, sequences, options, seed)
        warn_unconverged(self, learned)
        stream = start_stream(scaled, learned.family, learned.posterior)
        learned = with_latent_shape(scaled, learned, options, seed)
        return self._describe(learned.family, learned.posterior, units) | {
            **({} if learned.level is None else {"noise_level_": learned.level}),
            "evidence_": learned.evidence,
            "lower_bounds_": np.array(learned.bounds),
            "stages_": learned.stages,
            "n_iter_": len(learned.bounds),
            "converged_": learned.converged,
            "n_sequences_seen_": n_sequences,
            "y_transform_": units.transform,
            "_units_": units,
            "_seed_": seed,
            "_stream_": stream,
            "_n_at_prior_": n_sequences,
            "_shape_parameters_": shape_parameters(self),
        }

    def _describe(self, family, posterior, units: Units) -> dict[str, Any]:
        varies = varying_entries(family)
        return {
            "task_map_": family,
            "n_states_": n_family_states(family.chart),
            "latent_dim_": n_shared(family),
            "noise_std_": at_zero(family.growth, mean_noise(family)) * units.scaling.output_scale,
            "noise_unit_": unit_of(family.growth, units.scaling),
            "theta_names_": theta_names(family.chart),
            "relevance_": np.where(varies, np.linalg.norm(family.loadings, axis=1), 0.0),
            "specific_variances_": specific_variances(family),
            "noise_dof_": family.noise_dof,
            "noise_level_": relative_levels(family, posterior.mean),
            "disturbance_": disturbance_of(family),
            "posterior_mean_": posterior.mean,
            "posterior_cov_": posterior.factor @ np.swapaxes(posterior.factor, 1, 2),
        }

    def _learn_more(self, sequences: PackedSequences) -> dict[str, Any]:
        step = next_step(self, self._stream_, sequences, self._units_, self._varying_kinds())
        known = remembered(self, len(step.shift)).moved(step.shift, step.factor)
        known = known.with_latest(Remembered(step.labels, step.level, step.posterior))
        family, n_seen, n_at_prior = step.stream.family, step.stream.n_seen, self._n_at_prior_
        prior = follow(first_of(self.task_map_.prior, len(step.shift)), step.shift, step.factor)
        if n_seen >= PRIOR_REFIT * n_at_prior:  # it takes longer than the minibatch
            prior, n_at_prior = fit_latent_shape(family, known.posterior), n_seen
        family = family._replace(prior=prior)
        family, posterior = carry_over(self.task_map_, family, known.posterior, n_seen)
        return self._describe(family, posterior, self._units_) | {
            "labels_": known.labels,
            "noise_level_": known.level,
            "n_sequences_seen_": n_seen,
            "_stream_": step.stream,
            "_n_at_prior_": n_at_prior,
        }

    def _forecast(
        self,
        context: PackedSequences,
        *,
        levels: np.ndarray,
        horizon: int | None,
        targets: np.ndarray | None,
    ) -> Forecast:
        known = self._known_family()
        scaled = standardize(context, known.units)
        scaled_targets = standardize_targets(targets, known.units)
        with one_blas_thread():
            forecast = family_forecast(known, scaled, horizon, levels, scaled_targets)
        return forecast_in_units(forecast, known.units, targets)

    def _log_likelihood(self, sequences: PackedSequences) -> np.ndarray:
        known = self._known_family()
        with one_blas_thread():
            posterior = infer_observed(known, standardize(sequences, known.units))
        return posterior.log_evidence - density_shift(sequences, known.units)

    # --------------------------------------------------------------------------------- helpers

    def _varying_kinds(self) -> tuple:
        if isinstance(self.varying, str):
            return ALL_KINDS
        who, kinds = type(self).__name__, VARYING_KINDS
        unknown = [kind for kind in self.varying if kind not in kinds]
        if unknown:
            raise ValueError(
                f"{who}: varying must be 'all' or a tuple of names among {kinds}, got "
                f"{self.varying!r} with the unknown {unknown}"
            )
        if "K" in self.varying and self.disturbance == "none":
            raise ValueError(
                f"{who}: a gain that varies needs one: varying={self.varying!r} names 'K', but "
                "disturbance='none'; set disturbance='innovations', 'joint' or 'auto'"
            )
        if "noise" in self.varying and self.sequence_noise:
            raise ValueError(
                f"{who}: noise levels are either part of theta (varying={self.varying!r} names "
                "'noise') or integrated out (sequence_noise=True), not both"
            )
        return tuple(self.varying)

    def _check_latent_dim(self, sequences: PackedSequences, options: Options) -> None:
        size = theta_size(
            options.n_states, sequences.inputs.shape[1], sequences.outputs.shape[1], options.free
        )
        if self.latent_dim != "auto" and self.latent_dim > size:
            raise ValueError(
                f"{type(self).__name__}: latent_dim must be at most {size}, the number of entries "
                f"of theta with n_states={self.n_states}, {sequences.inputs.shape[1]} inputs and "
                f"{sequences.outputs.shape[1]} outputs; got latent_dim={self.latent_dim}"
            )
