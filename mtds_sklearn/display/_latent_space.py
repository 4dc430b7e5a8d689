"""`LatentSpaceDisplay`: where sequences lie in the family."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

from mtds_sklearn._scores import last_step
from mtds_sklearn._sequences import resolve_rows
from mtds_sklearn.display._drawing import check_fitted_family, latent_directions, make_axes

CORNERS = 100


class LatentSpaceDisplay:
    """Posterior means of z with ellipses, in two coordinates, coloured by a value per sequence.

    The coordinates are those along which the fitted distribution of z is independent, those
    that move the outputs most first, as in `FamilyDisplay`.

    Parameters
    ----------
    mean : array-like of shape (n_sequences, 2)
        Posterior means.
    cov : array-like of shape (n_sequences, 2, 2)
        Posterior covariances.
    values : array-like of shape (n_sequences,), default=None
        Numbers to colour by.
    level : float, default=0.5
        Probability inside each ellipse.
    coordinates : tuple of (int, int), default=(0, 1)
        Which coordinates these are, for the labels of the axes.

    Attributes
    ----------
    ax_ : Axes
        The axes.
    figure_ : Figure
        Their figure.
    points_ : PathCollection
        Posterior means.
    ellipses_ : PolyCollection
        Ellipses.
    colorbar_ : Colorbar or None
        The scale of the values.

    See Also
    --------
    FamilyDisplay : What changes along the coordinates.
    """

    def __init__(self, mean, cov, *, values=None, level=0.5, coordinates=(0, 1)):
        self.mean = np.asarray(mean, dtype=np.float64)
        self.cov = np.asarray(cov, dtype=np.float64)
        self.values = values
        self.level = level
        self.coordinates = coordinates
        if not 0.0 < level < 1.0:
            raise ValueError(f"{type(self).__name__}: level must lie in (0, 1), got {level}")
        if values is not None and len(values) != len(self.mean):
            raise ValueError(
                f"{type(self).__name__}: values needs one number for each of the "
                f"{len(self.mean)} sequences, got {len(values)}"
            )

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
        values: ArrayLike | None = None,
        coordinates: tuple = (0, 1),
        level: float = 0.5,
        ax: Any = None,
        **plot_options: Any,
    ) -> "LatentSpaceDisplay":
        """Draw the training sequences, or new ones.

        Parameters
        ----------
        estimator : MTLDSRegressor
            Fitted, alone or at the end of a pipeline or a search.
        X, y, groups, times : array-like, default=None
            Sequences to draw. As in `sequence_posterior`; None: those of `fit`.
        values : array-like of shape (n_sequences,), default=None
            Numbers to colour by; sequences in order of first appearance.
        coordinates : tuple of (int, int), default=(0, 1)
            Which two coordinates, from 0.
        level : float, default=0.5
            Probability inside each ellipse.
        ax : Axes, default=None
            Where to draw.
        **plot_options : dict
            Other arguments of `plot`.

        Returns
        -------
        display : LatentSpaceDisplay
            After drawing.

        Raises
        ------
        ValueError
            If `estimator` has not learned a family of two latent dimensions or more, or an
            argument is out of range.
        """
        who = cls.__name__
        # before a pipeline may drop the row index
        labels, times = resolve_rows(X, groups, times, who=who)
        estimator, X = last_step(estimator, X)
        check_fitted_family(estimator, who)
        directions = latent_directions(estimator)
        k = directions.shape[1]
        if len(set(coordinates)) != 2 or not all(0 <= j < k for j in coordinates):
            raise ValueError(
                f"{who}: coordinates needs two different numbers from 0 to {k - 1}, "
                f"got {coordinates!r}"
            )
        mean, cov = estimator.posterior_mean_, estimator.posterior_cov_
        if X is not None:
            posteriors = estimator.sequence_posterior(X, y, groups=labels, times=times).values()
            mean = np.array([posterior.mean for posterior in posteriors])
            cov = np.array([posterior.cov for posterior in posteriors])
        plane = directions[:, list(coordinates)]
        display = cls(
            mean @ plane, plane.T @ cov @ plane, values=values, level=level, coordinates=coordinates
        )
        return display.plot(ax, **plot_options)

    def plot(
        self, ax: Any = None, *, cmap: str = "viridis", name: str | None = None
    ) -> "LatentSpaceDisplay":
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None makes a figure.
        cmap : str, default="viridis"
            Colormap of the values.
        name : str, default=None
            Label of the colour scale; None: the name of `values`, if it has one.

        Returns
        -------
        display : LatentSpaceDisplay
            This object.

        Raises
        ------
        ImportError, ValueError
            Without matplotlib; or if `ax` are not as many Axes as are needed.
        """
        self.figure_, axes = make_axes(ax, (1, 1), (5.6, 4.6), who=type(self).__name__)
        from matplotlib.collections import PolyCollection

        self.ax_ = axes[0, 0]
        values = None if self.values is None else np.asarray(self.values, dtype=np.float64)
        coloured = {"color": "C0"} if values is None else {"c": values, "cmap": cmap}
        self.points_ = self.ax_.scatter(*self.mean.T, s=14, zorder=2, **coloured)
        self.colorbar_, colors = None, ["C0"]
        if values is not None:
            name = name or getattr(self.values, "name", None) or "value"
            self.colorbar_ = self.figure_.colorbar(self.points_, ax=self.ax_, label=str(name))
            colors = self.points_.to_rgba(values)
        self.ellipses_ = PolyCollection(
            self._ellipses(), facecolors=colors, edgecolors=colors, alpha=0.2, linewidths=0.8
        )
        self.ax_.add_collection(self.ellipses_)
        self.ax_.autoscale_view()
        first, second = (j + 1 for j in self.coordinates)
        self.ax_.set(xlabel=f"latent coordinate {first}", ylabel=f"latent coordinate {second}")
        return self

    def _ellipses(self) -> np.ndarray:
        """Corners (n_sequences, CORNERS, 2) of the regions of the given probability."""
        angle = np.linspace(0.0, 2.0 * np.pi, CORNERS)
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.sqrt(chi2.ppf(self.level, 2))
        factor = np.linalg.cholesky(self.cov)
        return self.mean[:, None] + circle @ np.swapaxes(factor, 1, 2)
