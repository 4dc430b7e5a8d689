"""`RelevanceDisplay`: which parameters differ between the sequences of a family."""

from typing import Any

import numpy as np

from mtds_sklearn.display._drawing import check_fitted_family, make_axes


class RelevanceDisplay:
    """Standard deviation of every entry of theta over the family, as bars.

    Entries that learning switched off, because sequences do not differ in them, are grey.

    Parameters
    ----------
    names : sequence of str of shape (n_theta,)
        Names of the entries.
    relevance : array-like of shape (n_theta,)
        Their standard deviations; 0 where they do not vary.

    Attributes
    ----------
    ax_ : Axes
        The axes.
    figure_ : Figure
        Their figure.
    bars_ : BarContainer
        The bars, in the order of `names`.

    See Also
    --------
    FamilyDisplay : What the variation does to the sequences.
    """

    def __init__(self, names, relevance):
        self.names = list(names)
        self.relevance = np.asarray(relevance, dtype=np.float64)

    @classmethod
    def from_estimator(cls, estimator, *, ax: Any = None, color: Any = "C0") -> "RelevanceDisplay":
        """Draw `relevance_` of a learned family.

        Parameters
        ----------
        estimator : MTLDSRegressor
            Fitted, alone or at the end of a pipeline or a search.
        ax : Axes, default=None
            Where to draw; None makes a figure.
        color : color, default="C0"
            Of the bars.

        Returns
        -------
        display : RelevanceDisplay
            After drawing.

        Raises
        ------
        ValueError
            If `estimator` has not learned a family.
        """
        estimator = check_fitted_family(estimator, cls.__name__)
        return cls(estimator.theta_names_, estimator.relevance_).plot(ax, color=color)

    def plot(self, ax: Any = None, *, color: Any = "C0") -> "RelevanceDisplay":
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None makes a figure, which is as high as it has bars.
        color : color, default="C0"
            Of the bars.

        Returns
        -------
        display : RelevanceDisplay
            This object.

        Raises
        ------
        ImportError, ValueError
            Without matplotlib; or if `ax` are not as many Axes as are needed.
        """
        size = (5.6, 1.0 + 0.22 * len(self.names))
        self.figure_, axes = make_axes(ax, (1, 1), size, who=type(self).__name__)
        self.ax_ = axes[0, 0]
        self.bars_ = self.ax_.barh(np.arange(len(self.names)), self.relevance, color=color)
        self.ax_.set_yticks(np.arange(len(self.names)), self.names)
        for text, size in zip(self.ax_.get_yticklabels(), self.relevance, strict=True):
            text.set_color("black" if size > 0.0 else "0.6")
        self.ax_.set_ylim(len(self.names) - 0.4, -0.6)  # the first on top
        self.ax_.set_xlabel("standard deviation over the family")
        return self
