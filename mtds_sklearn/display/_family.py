"""`FamilyDisplay`: what changes along the latent directions of a learned family."""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mtds_sklearn._scores import last_step
from mtds_sklearn.display._drawing import (
    check_fitted_family,
    figure_legend,
    latent_directions,
    make_axes,
)
from mtds_sklearn.estimators._checks import check_levels
from mtds_sklearn.model._lds import lds_from_natural
from mtds_sklearn.model._task_map import Family, natural_parameters

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
POLE_MARGIN = 0.06


class FamilyDisplay:
    """The learned manifold: sequences, poles and impulse responses along latent directions.

    One row of axes for each direction. Along it the family moves from quantile to quantile of the
    training sequences, while all other coordinates stay at their medians. Left the outputs without
    noise; then the poles, the eigenvalues of A (those
    of coloured noise left out), with the unit circle (only upper halves: poles
    come in conjugate pairs); right, if there are inputs, the response to one unit of an input in
    the first row.

    The directions are those along which the fitted distribution of z is independent, the
    strongest first, as in `LatentSpaceDisplay`.

    Parameters
    ----------
    curves : ndarray of shape (n_directions, n_levels, n_steps)
        Outputs.
    poles : ndarray of complex, shape (n_directions, n_levels, n_states)
        Eigenvalues of A.
    responses : ndarray of shape (n_directions, n_levels, n_steps) or None
        Impulse responses; None where there are no inputs.
    levels : sequence of float of shape (n_levels,)
        Quantile levels.

    Attributes
    ----------
    axes_ : ndarray of Axes, shape (n_directions, 2) or (n_directions, 3)
        The axes.
    figure_ : Figure
        Their figure.
    curves_, poles_, responses_ : ndarray of Line2D, shape (n_directions, n_levels)
        What was drawn; `responses_` is None without inputs.

    See Also
    --------
    LatentSpaceDisplay : Where the training sequences lie.
    RelevanceDisplay : Which parameters vary at all.
    """

    def __init__(self, curves, poles, responses=None, *, levels=LEVELS):
        self.curves = curves
        self.poles = poles
        self.responses = responses
        self.levels = levels

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X: ArrayLike,
        *,
        n_directions: int = 2,
        levels: Sequence[float] = LEVELS,
        output: int = 0,
        input_index: int = 0,
        ax: Any = None,
    ) -> "FamilyDisplay":
        """Compute the members of a learned family and draw them.

        Parameters
        ----------
        estimator : MTLDSRegressor
            Fitted, alone or at the end of a pipeline or a search.
        X : array-like of shape (n_steps, n_inputs)
            Inputs that drive every member.
        n_directions : int, default=2
            Number of directions.
        levels : sequence of float, default=(0.05, 0.25, 0.5, 0.75, 0.95)
            Quantile levels to stop at.
        output, input_index : int, default=0
            Which output to draw, and which input gives an impulse of one, in the units in which it
            reaches the regressor.
        ax : array-like of Axes, default=None
            As in `plot`.

        Returns
        -------
        display : FamilyDisplay
            After drawing.

        Raises
        ------
        ValueError
            If `estimator` has not learned a family, or an argument is out of range.
        """
        who = cls.__name__
        estimator, X = last_step(estimator, X)
        check_fitted_family(estimator, who)
        levels = check_levels(levels, who=who)
        directions = latent_directions(estimator)
        n_outputs = estimator.n_outputs_
        for name, value, least, most in (
            ("n_directions", n_directions, 1, directions.shape[1]),
            ("output", output, 0, n_outputs - 1),
            ("input_index", input_index, 0, estimator.n_features_in_ - 1),
        ):
            if not least <= value <= most:
                raise ValueError(f"{who}: {name} must lie between {least} and {most}, got {value}")
        coordinates = estimator.posterior_mean_ @ directions
        z = np.tile(np.median(coordinates, axis=0), (n_directions, len(levels), 1))
        for j in range(n_directions):
            z[j, :, j] = np.quantile(coordinates[:, j], levels)
        z = (z @ directions.T).reshape(-1, len(directions))
        poles = _poles(estimator.task_map_, z)
        lead = (n_directions, len(levels), -1)

        def run(inputs):
            y, _ = estimator.sample_sequences(inputs, z=z)
            return y.reshape(len(z), -1, n_outputs)[:, :, output].reshape(lead)

        curves, responses = run(X), None
        if estimator.task_map_.chart.shape.n_inputs:
            still = np.zeros(np.shape(X))
            impulse = still.copy()
            impulse[0, input_index] = 1.0
            estimator = copy(estimator)  # X had its names checked; these are no tables
            vars(estimator).pop("feature_names_in_", None)
            responses = run(impulse) - run(still)
        return cls(curves, poles.reshape(lead), responses, levels=levels).plot(ax)

    def plot(self, ax: Any = None, *, cmap: str = "viridis") -> "FamilyDisplay":
        """Draw.

        Parameters
        ----------
        ax : array-like of Axes, default=None
            One row for each direction, of two axes, or three with inputs. None makes a figure with
            a legend; in given axes ``ax.legend()`` makes one.
        cmap : str, default="viridis"
            Name of the colormap of the quantile levels.

        Returns
        -------
        display : FamilyDisplay
            This object.

        Raises
        ------
        ImportError, ValueError
            Without matplotlib; or if `ax` are not as many Axes as are needed.
        """
        n_directions, n_levels = self.curves.shape[:2]
        shape = (n_directions, 2 if self.responses is None else 3)
        self.figure_, self.axes_ = make_axes(ax, shape, (3.6, 2.5), who=type(self).__name__)
        from matplotlib import colormaps

        colors = colormaps[cmap](np.linspace(0.0, 0.9, n_levels))
        labels = [f"{100 * level:g} %" for level in self.levels]
        self.curves_ = np.empty((n_directions, n_levels), dtype=object)
        self.poles_ = self.curves_.copy()
        self.responses_ = None if self.responses is None else self.curves_.copy()
        for j, row in enumerate(self.axes_):
            for i, (color, label) in enumerate(zip(colors, labels, strict=True)):
                (self.curves_[j, i],) = row[0].plot(self.curves[j, i], color=color, label=label)
                upper = self.poles[j, i][self.poles[j, i].imag >= 0.0]
                (self.poles_[j, i],) = row[1].plot(
                    upper.real, upper.imag, "o", color=color, markersize=5
                )
                if self.responses is not None:
                    (self.responses_[j, i],) = row[2].plot(self.responses[j, i], color=color)
        self._label()
        if ax is None:
            figure_legend(self.figure_, self.axes_[0, 0], title="quantile of the family")
        return self

    def _label(self) -> None:
        circle = np.exp(1j * np.linspace(0.0, np.pi, 200))
        low = np.min(self.poles.real, initial=1.0) - POLE_MARGIN
        high = np.max(self.poles.imag, initial=0.0) + 2 * POLE_MARGIN
        for j, row in enumerate(self.axes_):
            row[0].set_ylabel(f"direction {j + 1}:  y")
            row[1].plot(circle.real, circle.imag, color="0.7", linewidth=1, zorder=0)
            row[1].set(xlim=(low, 1.02), ylim=(-POLE_MARGIN, high), ylabel="imaginary part")
        bottom = ["time step", "real part of the poles", "steps after an impulse"]
        for ax, label in zip(self.axes_[-1], bottom, strict=False):
            ax.set_xlabel(label)
        if self.responses is not None:
            for row in self.axes_:
                row[2].set_ylabel("response")


def _poles(family: Family, z: np.ndarray) -> np.ndarray:
    """Poles (..., n_states) of the systems at z, those of coloured noise left out."""
    A = lds_from_natural(natural_parameters(family, z), family.chart.shape).A
    n = family.chart.n_noise
    return np.linalg.eigvals(A[..., n:, n:])
