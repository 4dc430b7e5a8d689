"""What the displays share: matplotlib when it is there, axes, and directions of the family."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from mtds_sklearn._scores import last_step
from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.model._task_map import latent_prior

KNOWN = {"color": "black", "marker": "o", "linestyle": "none", "markersize": 3.5}
FIRST_SEQUENCES = 4
# What an entry of a legend takes, roughly, in matplotlib's own font size.
HANDLE_INCHES, LETTER_INCHES = 0.65, 0.085
TO_COME = KNOWN | {"markerfacecolor": "white", "markeredgecolor": "0.4"}


def import_pyplot(who: str) -> Any:
    """matplotlib.pyplot.

    Raises
    ------
    ImportError
        If matplotlib is not installed; names `who`, and how to install it.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{who} needs matplotlib, which cannot be imported; "
            "python -m pip install 'mtds-sklearn[plot]' installs it"
        ) from error
    return plt


def make_axes(
    ax: Any, shape: tuple, size: tuple, *, who: str, **options: Any
) -> tuple[Any, np.ndarray]:
    """Figure and axes (object array of `shape`): the given ones, or those of a new figure.

    Parameters
    ----------
    ax : Axes, array-like of Axes or None
        Exactly as many as `shape` asks for.
    shape : tuple of int
        Rows and columns.
    size : tuple of float
        Inches per row and column of a new figure: (width, height).
    who : str
        The complainer in error messages.
    **options : dict
        Of `subplots`, for a new figure.

    Returns
    -------
    figure, axes
        The figure may be a subfigure.
    """
    plt = import_pyplot(who)
    n_rows, n_columns = shape
    if ax is None:
        return plt.subplots(
            n_rows, n_columns, figsize=(size[0] * n_columns, size[1] * n_rows), squeeze=False,
            layout="constrained", **options,
        )  # fmt: skip
    axes = np.array(ax, dtype=object)
    if axes.size != n_rows * n_columns:
        raise ValueError(
            f"{who}: ax needs {n_rows * n_columns} Axes ({n_rows} rows of {n_columns}), "
            f"got {axes.size}"
        )
    axes = axes.reshape(shape)
    return axes[0, 0].get_figure(), axes


def figure_legend(figure: Any, axes: Any, **options: Any) -> Any:
    """One legend for all of a new figure, above the axes, where nothing can be hidden by it."""
    handles, labels = axes.get_legend_handles_labels()
    width = sum(HANDLE_INCHES + LETTER_INCHES * len(label) for label in labels)
    n_rows = -(-width // figure.get_figwidth())
    n_columns = int(-(-len(labels) // max(n_rows, 1)))
    return figure.legend(
        handles, labels, loc="outside upper center", ncols=n_columns, frameon=False, **options
    )


def check_fitted_family(estimator: Any, who: str) -> Any:
    """The fitted estimator, alone or in a pipeline or search, which must have learned a family."""
    estimator, _ = last_step(estimator)
    if not hasattr(estimator, "task_map_"):
        raise ValueError(
            f"{who} shows a family and needs a fitted MTLDSRegressor, got {estimator!r} "
            "without the attribute task_map_"
        )
    return estimator


def latent_directions(estimator: Any) -> np.ndarray:
    """Orthonormal directions of z, columns of (latent_dim, latent_dim), the strongest first.

    They are next to those along which the fitted p(z) is independent. Their strength is how far
    they move the outputs, in standard deviations of the noise: the posterior precision that the
    training sequences add along them, I + J' R^-1 J less I, on average over sequences.
    """
    left, _, right = np.linalg.svd(latent_prior(estimator.task_map_).axes)
    rotation = left @ right
    precision = np.linalg.inv(estimator.posterior_cov_)
    strength = np.einsum("kj,nkl,lj->j", rotation, precision, rotation)
    return rotation[:, np.argsort(-strength, kind="stable")]


def output_names(y: Any) -> list[str]:
    """Names of the outputs: those of a table, else y or y[0], y[1], ..."""
    if getattr(y, "columns", None) is not None:
        return [str(name) for name in y.columns]
    if np.ndim(y) == 1:
        return [str(getattr(y, "name", None) or "y")]
    return [f"y[{j}]" for j in range(np.shape(y)[1])]


def choose_sequences(
    sequences: PackedSequences, chosen: Sequence[Hashable] | None, *, who: str
) -> list[tuple]:
    """Label and rows, in order of time, of each chosen sequence (None: the first ones)."""
    place = {label: i for i, label in enumerate(sequences.labels.tolist())}
    chosen = list(place)[:FIRST_SEQUENCES] if chosen is None else list(chosen)
    absent = [label for label in chosen if label not in place]
    if absent or not chosen:
        raise ValueError(
            f"{who}: sequences needs labels among those of the {len(place)} sequences of the "
            f"data, got {absent or chosen!r}"
        )
    ends = sequences.offsets
    return [
        (label, sequences.row_order[ends[place[label]] : ends[place[label] + 1]])
        for label in chosen
    ]


def with_last_axis(
    values: Any, length: int | None, *, n_rows: int, n_outputs: int, name: str, who: str
) -> np.ndarray:
    """Values as (n_rows, n_outputs, length); one output may do without its axis.

    Raises
    ------
    ValueError
        If they have another shape; `length` None takes any.
    """
    array = np.asarray(values, dtype=np.float64)
    if n_outputs == 1 and array.ndim == 2:
        array = array[:, np.newaxis]
    wanted = (n_rows, n_outputs, array.shape[-1] if length is None and array.ndim else length)
    if array.shape != wanted:
        shown = (n_rows, n_outputs, "any" if length is None else length)
        raise ValueError(f"{who}: {name} needs shape {shown}, got {np.shape(values)}")
    return array
