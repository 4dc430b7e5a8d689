"""`ForecastDisplay`: what is known of sequences, and what is forecast."""

from collections.abc import Hashable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mtds_sklearn._rows import as_column, number_times
from mtds_sklearn._scores import last_step
from mtds_sklearn._sequences import PackedSequences, pack_sequences, resolve_rows, unpack_rows
from mtds_sklearn._tables import mask_future
from mtds_sklearn.display._drawing import (
    KNOWN,
    TO_COME,
    choose_sequences,
    figure_legend,
    make_axes,
    output_names,
    with_last_axis,
)
from mtds_sklearn.estimators._checks import as_columns, check_levels, check_targets, take_rows


class ForecastDisplay:
    """Forecasts of sequences: known and hidden values, mean, band and sample paths.

    One column of axes for each sequence and one row for each output. The forecast is drawn from
    the row after the last known one; where no row comes after it, over all rows.

    Parameters
    ----------
    y, mean : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Outputs (NaN where not observed) and their forecast.
    band : array-like of shape (n_rows, 2) or (n_rows, n_outputs, 2), default=None
        Lower and upper end of the band.
    groups, times : array-like of shape (n_rows,), default=None
        Sequence of each row and its place in it; None: one sequence, the order given.
    y_context : array-like with the shape of `y`, default=None
        What was known when forecasting; NaN where nothing was.
    paths : array-like of shape (n_rows, n_paths) or (n_rows, n_outputs, n_paths), default=None
        Sample paths.
    level : float, default=0.95
        Probability of the band, for its label.

    Attributes
    ----------
    axes_ : ndarray of Axes, shape (n_outputs, n_sequences)
        The axes.
    figure_ : Figure
        Their figure.
    known_, to_come_, lines_ : ndarray of Line2D, shape (n_outputs, n_sequences)
        Known values, values that were not known, and the mean.
    bands_ : ndarray of FillBetweenPolyCollection or None, shape (n_outputs, n_sequences)
        The bands.
    paths_ : list of Line2D
        Sample paths.

    See Also
    --------
    ContextCurveDisplay : How the error falls with the number of known rows.

    Examples
    --------
    >>> import numpy as np
    >>> from mtds_sklearn.display import ForecastDisplay
    >>> y = np.array([0.0, 1.0, 2.0, 3.0])
    >>> known = np.array([0.0, 1.0, np.nan, np.nan])
    >>> display = ForecastDisplay(y, y, y_context=known)
    >>> display.plot().lines_[0, 0].get_ydata()
    array([2., 3.])
    """

    def __init__(
        self, y, mean, *, band=None, groups=None, times=None, y_context=None, paths=None, level=0.95
    ):
        who = type(self).__name__
        nothing = np.zeros((len(y), 1))
        self._sequences = pack_sequences(nothing, y, labels=groups, times=times, who=who)
        self.y = unpack_rows(_with_nan(self._sequences), self._sequences)
        self.output_names = output_names(y)
        size = {"n_rows": len(self.y), "n_outputs": self.y.shape[1], "who": who}
        self.mean = as_columns(check_targets(mean, name="mean", **size))
        self.band = None if band is None else with_last_axis(band, 2, name="band", **size)
        self.paths = None if paths is None else with_last_axis(paths, None, name="paths", **size)
        known = np.full(self.y.shape, np.nan) if y_context is None else y_context
        self.y_context = as_columns(check_targets(known, name="y_context", **size))
        self.has_labels = groups is not None
        self.times = None
        if times is not None:
            column = as_column(times, len(self.y), name="times", who=who)
            self.times = number_times(column, who)
        self.level = level

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X: ArrayLike,
        y: ArrayLike,
        context: int | float | ArrayLike,
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
        sequences: Sequence[Hashable] | None = None,
        level: float = 0.95,
        n_paths: int = 0,
        ax: Any = None,
        **plot_options: Any,
    ) -> "ForecastDisplay":
        """Forecast with a fitted estimator and draw.

        Parameters
        ----------
        estimator : estimator object
            A fitted regressor of sequences, a pipeline that ends in one, or a search over either.
        X : array-like of shape (n_rows, n_inputs)
            Inputs, each sequence from its first row.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Outputs; NaN where not observed.
        context : int, float or array-like with the shape of `y`
            Number of rows of each sequence that are known, or their share; or what is known, as
            `y_context` of `predict`.
        groups, times : array-like of shape (n_rows,), default=None
            As in `predict`.
        sequences : sequence of labels, default=None
            The sequences to draw; None: the first four.
        level : float, default=0.95
            Probability of the central band.
        n_paths : int, default=0
            Sample paths to draw, from `sample_y` of the estimator with a fixed seed.
        ax : Axes or array-like of Axes, default=None
            As in `plot`.
        **plot_options : dict
            Other arguments of `plot`.

        Returns
        -------
        display : ForecastDisplay
            After drawing.

        Raises
        ------
        ValueError
            If a label is not in the data, or an argument is out of range.
        """
        who = cls.__name__
        estimator = getattr(estimator, "best_estimator_", estimator)
        labels, times = resolve_rows(X, groups, times, who=who)
        nothing = np.zeros((len(y), 1))
        packed = pack_sequences(nothing, y, labels=labels, times=times, who=who)
        rows = np.concatenate([rows for _, rows in choose_sequences(packed, sequences, who=who)])
        if isinstance(context, Integral | Real):
            known = np.reshape(mask_future(y, labels, times, context), np.shape(y))
        else:
            known = check_targets(context, n_rows=len(y), name="context", who=who)
        X, y, known = (take_rows(values, rows) for values in (X, y, known))
        given = {"groups": labels, "times": times}
        given = {name: take_rows(v, rows) for name, v in given.items() if v is not None}
        ends = check_levels((0.5 - 0.5 * level, 0.5 + 0.5 * level), who=who)
        mean, band = estimator.predict(X, y_context=known, quantiles=list(ends), **given)
        paths = None
        if n_paths:
            model, inputs = last_step(estimator, X)
            paths = model.sample_y(inputs, n_paths, y_context=known, random_state=0, **given)
        display = cls(y, mean, band=band, y_context=known, paths=paths, level=level, **given)
        return display.plot(ax, sequences=sequences, **plot_options)

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        mean: ArrayLike,
        *,
        band: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
        y_context: ArrayLike | None = None,
        level: float = 0.95,
        ax: Any = None,
        **plot_options: Any,
    ) -> "ForecastDisplay":
        """Draw forecasts that were made before.

        Parameters
        ----------
        y, mean, band, groups, times, y_context, level : array-like or float
            As of the class.
        ax : Axes or array-like of Axes, default=None
            As in `plot`.
        **plot_options : dict
            Other arguments of `plot`.

        Returns
        -------
        display : ForecastDisplay
            After drawing.

        Raises
        ------
        ImportError, ValueError
            Without matplotlib; or if shapes do not fit together.
        """
        display = cls(
            y, mean, band=band, groups=groups, times=times, y_context=y_context, level=level
        )
        return display.plot(ax, **plot_options)

    def plot(
        self,
        ax: Any = None,
        *,
        sequences: Sequence[Hashable] | None = None,
        color: Any = "C0",
        name: str = "forecast",
    ) -> "ForecastDisplay":
        """Draw.

        Parameters
        ----------
        ax : Axes or array-like of Axes, default=None
            One for each output and sequence, outputs in rows. None makes a figure with a legend;
            in given axes ``ax.legend()`` makes one.
        sequences : sequence of labels, default=None
            The sequences to draw; None: the first four.
        color : color, default="C0"
            Of the forecast.
        name : str, default="forecast"
            Label of the mean.

        Returns
        -------
        display : ForecastDisplay
            This object.

        Raises
        ------
        ImportError, ValueError
            Without matplotlib; or if `ax` are not as many Axes as are needed.
        """
        who = type(self).__name__
        chosen = choose_sequences(self._sequences, sequences, who=who)
        shape = (self.y.shape[1], len(chosen))
        size = (max(2.5, 6.0 / shape[1]), 2.6)
        self.figure_, self.axes_ = make_axes(ax, shape, size, who=who, sharex="col", sharey="row")
        for name_ in ("known_", "to_come_", "lines_", "bands_"):
            setattr(self, name_, np.full(shape, None, dtype=object))
        self.paths_ = []
        for output in range(shape[0]):
            for column, (_, rows) in enumerate(chosen):
                self._draw(output, column, rows, color, name)
        self._label([label for label, _ in chosen])
        if ax is None:
            figure_legend(self.figure_, self.axes_[0, 0])
        return self

    def _draw(self, output: int, column: int, index: np.ndarray, color: Any, name: str) -> None:
        """Draw one output of one sequence, whose rows are `index` in order of time."""
        ax = self.axes_[output, column]
        times = np.arange(len(index)) if self.times is None else self.times[index]
        y, known = self.y[index, output], self.y_context[index, output]
        seen = np.flatnonzero(~np.isnan(self.y_context[index]).all(axis=1))
        first = seen[-1] + 1 if len(seen) and seen[-1] + 1 < len(index) else 0
        ahead, later = index[first:], times[first:]
        hidden = np.isnan(known)
        draw = {"known": known, "to come": np.where(hidden, y, np.nan)}
        for (label, values), style, lines in zip(
            draw.items(), (KNOWN, TO_COME), (self.known_, self.to_come_), strict=True
        ):
            (lines[output, column],) = ax.plot(times, values, label=label, zorder=3, **style)
        (self.lines_[output, column],) = ax.plot(
            later, self.mean[ahead, output], color=color, label=name
        )
        if self.band is not None:
            self.bands_[output, column] = ax.fill_between(
                later, *self.band[ahead, output].T, color=color, alpha=0.25, linewidth=0,
                label=f"{100 * self.level:g} % band",
            )  # fmt: skip
        if self.paths is not None:
            lines = ax.plot(later, self.paths[ahead, output], color=color, alpha=0.6, linewidth=0.6)
            lines[0].set_label("sample paths")
            self.paths_ += lines

    def _label(self, labels: list) -> None:
        for ax, name in zip(self.axes_[:, 0], self.output_names, strict=True):
            ax.set_ylabel(name)
        for ax in self.axes_[-1]:
            ax.set_xlabel(
                "time step" if self.times is None or self.times.dtype.kind in "iu" else ""
            )
        if self.has_labels:
            for ax, label in zip(self.axes_[0], labels, strict=True):
                ax.set_title(f"sequence {label}", fontsize="medium")


def _with_nan(sequences: PackedSequences) -> np.ndarray:
    """Outputs (n_rows, n_outputs) in packed order, NaN where not observed."""
    return np.where(sequences.observed, sequences.outputs, np.nan)
