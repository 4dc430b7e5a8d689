"""Gradient of the log likelihood in psi, where no Gauss-Newton matrix is wanted with it."""

import numpy as np

from mtds_sklearn._threads import run_split
from mtds_sklearn.kernels import _adjoint
from mtds_sklearn.kernels._written_out import Known, Sizes
from mtds_sklearn.model._chart import Chart
from mtds_sklearn.model._likelihood import Evaluations, row_work


def log_likelihood_gradient(
    psi: np.ndarray,
    run: Evaluations,
    chart: Chart,
    noise_std: np.ndarray,
    weight: np.ndarray | None = None,
) -> tuple:
    """Squared residuals and gradient of log p(y | psi) in the active entries.

    The same as in `theta_quantities`, in a small part of its time.

    Parameters
    ----------
    psi : ndarray of shape (n_evaluations, n_natural)
    noise_std : ndarray of shape (n_outputs,)
    weight : ndarray of shape (n_evaluations,), optional
        By which gradients are multiplied, >= 0.

    Returns
    -------
    squared : ndarray of shape (n_evaluations, n_outputs)
        Sums of weighted squares, not multiplied by the weight of the evaluation.
    gradient : ndarray of shape (n_evaluations, n_active)
    """
    count = len(psi)
    squared, gradient = (
        np.empty((count, chart.shape.n_outputs)),
        np.empty((count, len(chart.active))),
    )
    weight = np.ones(count) if weight is None else weight
    n_values, known = run.n_observed.sum(axis=1), Known(Sizes(*chart.shape, chart.gain))
    data = tuple(array.ravel() for array in run.data)
    setting = data, known, chart.active, noise_std**-2.0

    def some(part: slice) -> None:
        rows = (run.first_row[part], run.n_rows[part], weight[part], n_values[part])
        _adjoint.gradient_theta(psi[part], *rows, *setting, squared[part], gradient[part])

    run_split(some, count, 3.0 * float(run.n_rows.sum()) * row_work(chart))
    return squared, gradient
