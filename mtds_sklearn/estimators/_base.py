"""The scikit-learn surface shared by all estimators: check, pack, call a hook, unpack.

A subclass of `BaseLDS` writes three hooks, which see packed rows in the units of the user and
nothing of scikit-learn: `_fit_packed`, `_forecast` and `_log_likelihood`.
"""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from mtds_sklearn._ahead import compile_ahead
from mtds_sklearn._sequences import (
    PackedSequences,
    frozen,
    pack_sequences,
    resolve_rows,
    unpack_rows,
)
from mtds_sklearn._transforms import check_domain
from mtds_sklearn.estimators._callbacks import (
    CallbackSupportMixin,
    fit_with_progress,
    with_callbacks,
)
from mtds_sklearn.estimators._checks import (
    as_columns,
    check_horizon,
    check_inputs,
    check_levels,
    check_targets,
    names_of,
    warn_if_reordered,
)
from mtds_sklearn.estimators._memory_of_rows import (
    RowMemory,
    check_starts,
    remember,
    warn_if_far,
    warn_if_mistyped,
    warn_if_unseen,
)
from mtds_sklearn.estimators._surface import SequenceRegressorMixin
from mtds_sklearn.estimators._weights import check_constant, weigh_sequences
from mtds_sklearn.inference._forecast import Forecast


class BaseLDS(CallbackSupportMixin, SequenceRegressorMixin, BaseEstimator, metaclass=ABCMeta):
    """Base class of the linear dynamical systems: fit, predict, score and likelihood of sequences.

    One row is one time step. Which sequence a row belongs to, and its place in it, comes from
    `groups` and `times`; else from the row MultiIndex (sequence, time) of a DataFrame `X`; else
    all rows are one sequence, in the order given.

    Subclasses declare `_parameter_constraints` (checked by `fit`) and write the hooks
    `_fit_packed`, `_forecast` and `_log_likelihood`.

    Attributes
    ----------
    n_features_in_ : int
        Number of inputs.
    feature_names_in_ : ndarray of shape (n_inputs,)
        Names of the inputs; only if `X` was a DataFrame with string names.
    n_outputs_ : int
        Number of outputs.
    labels_ : ndarray of shape (n_sequences,)
        Labels of the training sequences, in order of first appearance; only None if `fit` had
        no labels.
    """

    _parameter_constraints: ClassVar[dict] = {}

    # ------------------------------------------------------------------------------- the hooks

    @abstractmethod
    def _fit_packed(self, sequences: PackedSequences, rng: np.random.RandomState) -> dict[str, Any]:
        """Learn from packed sequences and return the fitted attributes.

        Must not change `self`; attributes of an earlier fit may be read (warm start).

        Parameters
        ----------
        sequences : PackedSequences
            At least one value is observed.
        rng : RandomState
            The only source of randomness; taken from `random_state`.

        Returns
        -------
        fitted : dict
            Name, with a trailing underscore, to value.
        """

    @abstractmethod
    def _forecast(
        self,
        context: PackedSequences,
        *,
        levels: np.ndarray,
        horizon: int | None,
        targets: np.ndarray | None,
    ) -> Forecast:
        """Forecast every row, in packed order.

        Parameters
        ----------
        context : PackedSequences
            Inputs, and the outputs that are revealed (`context.observed`).
        levels : ndarray of shape (n_levels,)
            Quantile levels; may be empty.
        horizon : int or None
            None: every revealed output is used for every row. h: row t is predicted from the
            outputs revealed up to row t - h.
        targets : ndarray of shape (n_rows, n_outputs) or None
            Outputs, in packed order, whose log density is asked for; NaN where it is not.
        """

    @abstractmethod
    def _log_likelihood(self, sequences: PackedSequences) -> np.ndarray:
        """Log marginal likelihood of each packed sequence, shape (n_sequences,), in nats."""

    # -------------------------------------------------------------------------- public methods

    @with_callbacks
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ):
        """Learn from sequences. A fit that fails leaves the estimator as it was.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_inputs)
            Inputs, one row per time step.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Outputs; NaN where they were not observed.
        sample_weight : array-like of shape (n_rows,), default=None
            How often each sequence counts, at least 0 and the same in all its rows: a weight of 2
            is like the sequence twice, and with 0 it is left out.
        groups : array-like of shape (n_rows,), default=None
            Label of the sequence each row belongs to.
        times : array-like of shape (n_rows,), default=None
            Time step of each row within its sequence; None takes the order of the rows.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or an argument is out of range, no value of `y` is observed, one is
            outside the domain of the `y_transform`, or weights differ within a sequence.
        """
        self._validate_params()
        inputs, targets, header = self._check_new_data(X, y)
        warn_if_reordered(X, y=y, groups=groups, times=times, who=type(self).__name__)
        labels, times = resolve_rows(X, groups, times, who=type(self).__name__)
        sequences = self._pack(inputs, targets, labels, times, needs_observation=True)
        warn_if_unseen(sequences, type(self).__name__)
        memory = remember(sequences, times, targets, type(self).__name__)
        sequences = weigh_sequences(sequences, sample_weight, who=type(self).__name__)
        rng = check_random_state(getattr(self, "random_state", None))
        compile_ahead()
        fitted = fit_with_progress(self, lambda: self._fit_packed(sequences, rng), X, y)
        header |= {
            "n_outputs_": sequences.outputs.shape[1],
            "labels_": sequences.labels,
            "_y_ndim_": targets.ndim,
            "_y_names_": names_of(y),
            "_starts_": memory.starts,
            "_y_mean_": memory.mean,
            "_y_std_": memory.std,
        }
        self._set_fitted(header | fitted)
        return self

    def predict(
        self,
        X: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
        y_context: ArrayLike | None = None,
        horizon: int | None = None,
        return_std: bool = False,
        quantiles: Sequence[float] | None = None,
    ) -> np.ndarray | tuple[np.ndarray, ...]:
        """Forecast the outputs of sequences, each given from its first row.

        What a sequence is like is inferred from its finite values in `y_context`; if it has none
        and its label was seen in `fit`, what was learned there is used; else the family's prior.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_inputs)
            Inputs, one row per time step.
        groups, times : array-like of shape (n_rows,), default=None
            As in `fit`. Labels are needed if `fit` had them.
        y_context : array-like of shape (n_rows,) or (n_rows, n_outputs), default=None
            Outputs known when forecasting; NaN where they are not.
        horizon : int, default=None
            With h, row t is predicted from outputs up to row t - h (1: one step ahead). With
            None, every row is predicted from all of `y_context`.
        return_std : bool, default=False
            Also return the standard deviation of a new output, noise included.
        quantiles : sequence of float of shape (n_levels,), default=None
            Also return these quantiles of a new output, levels strictly between 0 and 1.

        Returns
        -------
        mean : ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Mean of the outputs, in the shape of the `y` seen in `fit`.
        std : ndarray with the shape of `mean`
            Only if `return_std`.
        quantiles : ndarray with the shape of `mean` and a trailing axis of n_levels
            Only if `quantiles` is given.

        Raises
        ------
        ValueError
            If labels are missing that `fit` had, or an argument has a wrong shape or value, or a
            value of `y_context` is outside the domain of the `y_transform`.
        """
        check_is_fitted(self)
        who = type(self).__name__
        levels = check_levels(quantiles, who=who)
        horizon = check_horizon(horizon, who=who)
        context = self._pack_known(X, y_context, groups, times, name="y_context")
        forecast = self._forecast(context, levels=levels, horizon=horizon, targets=None)
        parts = [forecast.mean]
        if return_std:
            parts.append(forecast.std)
        if quantiles is not None:
            parts.append(forecast.quantiles)
        parts = [self._unpack(part, context) for part in parts]
        return parts[0] if len(parts) == 1 else tuple(parts)

    def forecast_log_density(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
        y_context: ArrayLike | None = None,
        horizon: int | None = None,
    ) -> np.ndarray:
        """Log density of each true output under its own forecast.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_inputs)
            Inputs, one row per time step.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            True outputs.
        groups, times, y_context : array-like, default=None
            As in `predict`.
        horizon : int, default=None
            As in `predict`.

        Returns
        -------
        log_density : ndarray with the shape of the `y` seen in `fit`
            In nats, for `y` in its own units; NaN where `y` is NaN.

        Raises
        ------
        ValueError
            As in `predict`.
        """
        check_is_fitted(self)
        horizon = check_horizon(horizon, who=type(self).__name__)
        context = self._pack_known(X, y_context, groups, times, name="y_context")
        warn_if_reordered(X, y=y, who=type(self).__name__)
        targets = self._check_outputs(y, n_rows=len(context.inputs), name="y")
        forecast = self._forecast(
            context, levels=np.empty(0), horizon=horizon, targets=targets[context.row_order]
        )
        return self._unpack(forecast.log_density, context)

    def sequence_log_likelihood(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ) -> np.ndarray:
        """Log marginal likelihood of each sequence, as a new member of the family.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_inputs)
            Inputs, one row per time step.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Outputs; NaN where they were not observed.
        groups, times : array-like of shape (n_rows,), default=None
            As in `predict`.

        Returns
        -------
        log_likelihood : ndarray of shape (n_sequences,)
            In nats, for `y` in its own units; sequences in order of first appearance.

        Raises
        ------
        ValueError
            As in `predict`.
        """
        check_is_fitted(self)
        return self._log_likelihood(self._pack_known(X, y, groups, times, name="y"))

    # ---------------------------------------------------------------------- between user and hook

    def _check_new_data(
        self, X: ArrayLike, y: ArrayLike
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Inputs and targets of `fit` as float64, and the fitted attributes that describe X."""
        probe = copy(self)  # validate_data writes on its argument, before it can fail
        inputs = check_inputs(probe, X, who=type(self).__name__)
        names = ("n_features_in_", "feature_names_in_")
        header = {name: getattr(probe, name) for name in names if hasattr(probe, name)}
        targets = check_targets(y, n_rows=len(inputs), who=type(self).__name__)
        return inputs, targets, header

    def _pack(
        self, inputs: np.ndarray, outputs: np.ndarray, labels: Any, times: Any, **options: bool
    ) -> PackedSequences:
        """Pack checked rows; the one sequence that rows without labels form is called None."""
        sequences = pack_sequences(
            inputs, outputs, labels=labels, times=times, who=type(self).__name__, **options
        )
        if labels is None:  # no user can call a sequence None: it never passes for a named one
            return sequences._replace(labels=frozen(np.array([None])))
        return sequences

    def _pack_known(
        self, X: ArrayLike, y: ArrayLike | None, groups: Any, times: Any, *, name: str
    ) -> PackedSequences:
        """Pack what the user hands to a fitted estimator, who calls `y` by `name`."""
        inputs = check_inputs(self, X, who=type(self).__name__, reset=False)
        columns = {name: y, "groups": groups, "times": times}
        warn_if_reordered(X, **columns, who=type(self).__name__)
        if y is None and name == "y_context":
            outputs = np.full((len(inputs), self.n_outputs_), np.nan)
        else:
            outputs = self._check_outputs(y, n_rows=len(inputs), name=name)
        labels, times = resolve_rows(X, groups, times, who=type(self).__name__)
        # String scorers, GridSearchCV.predict and cross_val_predict drop groups without a word.
        if labels is None and self.labels_[0] is not None:
            raise ValueError(
                f"{type(self).__name__} was fitted with the labels of {len(self.labels_)} "
                f"sequences, so it needs the label of every row: pass groups, or a DataFrame X "
                f"with a row MultiIndex (sequence, time); got {len(inputs)} rows without labels. "
                "String scorers, cross_val_predict and predict of a search drop groups: the "
                "MultiIndex passes through them, and ForecastScorer hands groups on"
            )
        who, sequences = type(self).__name__, self._pack(inputs, outputs, labels, times)
        memory = RowMemory(self._starts_, self._y_mean_, self._y_std_)
        check_starts(memory, sequences, times, who)
        warn_if_mistyped(sequences, self.labels_, who)
        warn_if_far(memory, outputs, name=name, who=who)
        return sequences

    def _check_score_weight(
        self, weight: np.ndarray, X: ArrayLike, groups: Any, times: Any
    ) -> None:
        rows = np.zeros((len(weight), 1))
        who = type(self).__name__
        sequences = self._pack(rows, rows, *resolve_rows(X, groups, times, who=who))
        check_constant(weight, sequences, who=f"{who}.score")

    def _check_outputs(self, y: ArrayLike, *, n_rows: int, name: str) -> np.ndarray:
        """Outputs handed to a fitted estimator, shape (n_rows, n_outputs)."""
        who = type(self).__name__
        shape = {"n_rows": n_rows, "n_outputs": self.n_outputs_, "names": self._y_names_}
        outputs = as_columns(check_targets(y, **shape, name=name, who=who))
        check_domain(getattr(self, "y_transform_", None), outputs, name=name, who=who)
        return outputs

    def _unpack(self, values: np.ndarray, sequences: PackedSequences) -> np.ndarray:
        """Packed (n_rows, n_outputs, ...) in the caller's order and in the shape of its `y`."""
        rows = unpack_rows(values, sequences)
        return rows[:, 0] if self._y_ndim_ == 1 else rows
