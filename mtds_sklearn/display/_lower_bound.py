"""`LowerBoundDisplay`: how learning went."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtds_sklearn._scores import last_step
from mtds_sklearn.display._drawing import make_axes


class LowerBoundDisplay:
    """The bound against iterations, stage by stage, with the annealed iterations shaded.

    Learning grows the state block by block. A stage that did not raise the evidence is drawn grey:
    learning went on from before it. The number of states of each stage stands above.

    Parameters
    ----------
    stages : sequence of Stage
        As `stages_` of a fitted estimator.

    Attributes
    ----------
    ax_ : Axes
        The axes.
    figure_ : Figure
        Their figure.
    lines_ : list of Line2D
        The bound in each stage.
    annealing_ : list of Rectangle
        The annealed iterations of each stage that has some.
    """

    def __init__(self, stages: Sequence):
        self.stages = stages

    @classmethod
    def from_estimator(cls, estimator, *, ax: Any = None) -> "LowerBoundDisplay":
        """Draw how a fitted estimator learned.

        Parameters
        ----------
        estimator : MTLDSRegressor or PooledLDS
            Fitted, alone or at the end of a pipeline or a search.
        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : LowerBoundDisplay
            After drawing.

        Raises
        ------
        ValueError
            If `estimator` has no `stages_`.
        """
        estimator, _ = last_step(estimator)
        if not hasattr(estimator, "stages_"):
            raise ValueError(
                f"{cls.__name__} needs a fitted MTLDSRegressor or PooledLDS, got {estimator!r} "
                "without the attribute stages_"
            )
        return cls(estimator.stages_).plot(ax)

    def plot(self, ax: Any = None, *, color: Any = "C0") -> "LowerBoundDisplay":
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None makes a figure.
        color : color, default="C0"
            Of the stages that were kept.

        Returns
        -------
        display : LowerBoundDisplay
            This object.

        Raises
        ------
        ImportError, ValueError
            Without matplotlib; or if `ax` are not as many Axes as are needed.
        """
        self.figure_, axes = make_axes(ax, (1, 1), (7.0, 3.6), who=type(self).__name__)
        self.ax_ = axes[0, 0]
        self.lines_, self.annealing_, middles, start = [], [], [], 0
        for stage in self.stages:
            steps = start + 1 + np.arange(len(stage.bounds))
            (line,) = self.ax_.plot(steps, stage.bounds, color=color if stage.kept else "0.6")
            self.lines_.append(line)
            if stage.n_annealed:
                ends = (start + 0.5, start + 0.5 + stage.n_annealed)
                shade = self.ax_.axvspan(*ends, color="C1", alpha=0.15, linewidth=0)
                self.annealing_.append(shade)
            middles.append(start + 0.5 * (1 + len(stage.bounds)))
            start += len(stage.bounds)
        self.ax_.set(xlabel="iteration", ylabel="lower bound, nats", xlim=(0, start + 1))
        top = self.ax_.secondary_xaxis("top")
        top.set_xticks(middles, [str(stage.n_states) for stage in self.stages])
        top.tick_params(length=0)
        top.set_xlabel("number of states")
        self._legend(color)
        return self

    def _legend(self, color: Any) -> None:
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], color=color, label="kept")]
        if not all(stage.kept for stage in self.stages):
            handles.append(Line2D([], [], color="0.6", label="tried, evidence did not rise"))
        if self.annealing_:
            self.annealing_[0].set_label("noise annealed")
            handles.append(self.annealing_[0])
        self.ax_.legend(handles=handles, frameon=False, loc="lower right")
