"""`ContextCurveDisplay`: how forecasts improve with what is known of a sequence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mtds_sklearn.display._drawing import figure_legend, make_axes
from mtds_sklearn.model_selection import ForecastScorer

# Metrics of which scorers return the negative, with the labels of their axes.
ERRORS = {"rmse": "RMSE", "mae": "mean absolute error", "crps": "CRPS"}
OTHERS = {
    "nll": "log density of the rest, nats per value",
    "r2": "R² of the rest",
    "coverage": "share inside the 90 % interval",
}
NOMINAL_COVERAGE = 0.9
PREFIX = "test_context_"
# With so many contexts or fewer each gets a tick.
MOST_TICKS = 8


class ContextCurveDisplay:
    """A score of the forecasts of the rest against how much of each sequence is known.

    Parameters
    ----------
    contexts : sequence of int or float of shape (n_contexts,)
        Rows known, or the share of the rows.
    scores : dict of str to array-like of shape (n_contexts,) or (n_contexts, n_folds)
        Scores of each model as `ForecastScorer` returns them, greater is better.
    metric : str, default="rmse"
        As of `ForecastScorer`. Errors are drawn as positive numbers.

    Attributes
    ----------
    ax_ : Axes
        The axes.
    figure_ : Figure
        Their figure.
    lines_ : dict of str to Line2D
        The curve of each model: the mean over folds.
    bands_ : dict of str to FillBetweenPolyCollection
        One standard deviation over folds on either side; empty without folds.

    See Also
    --------
    ForecastDisplay : The forecasts themselves.
    """

    def __init__(self, contexts, scores, metric="rmse"):
        self.contexts = list(contexts)
        self.scores = {name: np.asarray(values) for name, values in scores.items()}
        self.metric = metric
        if metric not in (*ERRORS, *OTHERS):
            raise ValueError(
                f"{type(self).__name__}: metric must be one of {(*ERRORS, *OTHERS)}, got {metric!r}"
            )
        for name, values in self.scores.items():
            if len(values) != len(self.contexts):
                raise ValueError(
                    f"{type(self).__name__}: {name!r} needs a score for each of the "
                    f"{len(self.contexts)} contexts, got {len(values)}"
                )

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X: ArrayLike,
        y: ArrayLike,
        contexts: Sequence[int | float],
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
        metric: str = "rmse",
        ax: Any = None,
        **plot_options: Any,
    ) -> "ContextCurveDisplay":
        """Score fitted estimators and draw.

        Parameters
        ----------
        estimator : estimator object or dict of str to estimator object
            Fitted; a dict gives one curve for each.
        X, y : array-like
            Sequences to forecast. As in `ForecastScorer.score`.
        contexts : sequence of int or float
            How much to reveal: numbers of rows, or shares of them.
        groups, times : array-like of shape (n_rows,), default=None
            Sequence of each row and its place in it.
        metric : str, default="rmse"
            As of `ForecastScorer`.
        ax : Axes, default=None
            Where to draw; None makes a figure.
        **plot_options : dict
            Other arguments of `plot`.

        Returns
        -------
        display : ContextCurveDisplay
            After drawing.

        Raises
        ------
        ValueError
            As in `ForecastScorer.score`.
        """
        single = not isinstance(estimator, Mapping)
        estimators = {type(estimator).__name__: estimator} if single else estimator
        scores = {
            name: [
                ForecastScorer(context, metric)(model, X, y, groups=groups, times=times)
                for context in contexts
            ]
            for name, model in estimators.items()
        }
        return cls(contexts, scores, metric).plot(ax, **plot_options)

    @classmethod
    def from_cv_results(
        cls,
        results: Mapping[str, Mapping[str, ArrayLike]],
        *,
        metric: str = "rmse",
        ax: Any = None,
        **plot_options: Any,
    ) -> "ContextCurveDisplay":
        """Draw results of `cross_validate`, scored by `forecast_scorers`.

        Parameters
        ----------
        results : dict of str to dict
            Results of each model, with entries ``test_context_8`` and the like.
        metric : str, default="rmse"
            What `forecast_scorers` was given.
        ax : Axes, default=None
            Where to draw; None makes a figure.
        **plot_options : dict
            Other arguments of `plot`.

        Returns
        -------
        display : ContextCurveDisplay
            After drawing.

        Raises
        ------
        ValueError
            If the results hold no such entries, or not all models the same.
        """
        keys = [[key for key in each if key.startswith(PREFIX)] for each in results.values()]
        if not keys or not keys[0] or any(set(each) != set(keys[0]) for each in keys):
            raise ValueError(
                f"{cls.__name__} needs results of cross_validate with the same entries "
                f"{PREFIX}... for every model, got {keys}"
            )
        numbers = {key: _number(key.removeprefix(PREFIX)) for key in keys[0]}
        ordered = sorted(numbers, key=numbers.get)
        scores = {name: np.array([each[key] for key in ordered]) for name, each in results.items()}
        contexts = [numbers[key] for key in ordered]
        return cls(contexts, scores, metric).plot(ax, **plot_options)

    def plot(self, ax: Any = None, *, colors: Mapping | None = None) -> "ContextCurveDisplay":
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None makes a figure with a legend, ``ax.legend()`` makes one elsewhere.
        colors : dict of str to color, default=None
            Of the models; None: those of the current cycle.

        Returns
        -------
        display : ContextCurveDisplay
            This object.

        Raises
        ------
        ImportError, ValueError
            Without matplotlib; or if `ax` are not as many Axes as are needed.
        """
        self.figure_, axes = make_axes(ax, (1, 1), (5.2, 3.6), who=type(self).__name__)
        self.ax_ = axes[0, 0]
        sign = -1.0 if self.metric in ERRORS else 1.0
        self.lines_, self.bands_ = {}, {}
        for name, scores in self.scores.items():
            folds = sign * scores.reshape(len(self.contexts), -1)
            mean, spread = folds.mean(axis=1), folds.std(axis=1)
            color = None if colors is None else colors.get(name)
            (line,) = self.ax_.plot(
                self.contexts, mean, "o-", markersize=4, color=color, label=name
            )
            self.lines_[name] = line
            if folds.shape[1] > 1:
                self.bands_[name] = self.ax_.fill_between(
                    self.contexts, mean - spread, mean + spread, alpha=0.15, linewidth=0,
                    color=line.get_color(),
                )  # fmt: skip
        if self.metric == "coverage":
            self.ax_.axhline(NOMINAL_COVERAGE, color="black", linestyle=":", linewidth=1)
        shares = all(isinstance(context, float) for context in self.contexts)
        self.ax_.set_xlabel("share of the rows known" if shares else "rows known")
        name = ERRORS.get(self.metric)
        self.ax_.set_ylabel(f"{name} of the rest" if name else OTHERS[self.metric])
        if len(self.contexts) <= MOST_TICKS:
            self.ax_.set_xticks(self.contexts)
        if ax is None:
            figure_legend(self.figure_, self.ax_)
        return self


def _number(text: str) -> int | float:
    return float(text) if "." in text or "e" in text else int(text)
