"""Specific variances integrated out: the posterior of e given z, exact, for every particle.

theta = W z + b + e with e ~ N(0, diag psi) on entries in which outputs are linear (x0, B, D and
offset, given the rest; also where innovations are fed back). With u = e / sqrt(psi) ~ N(0, I),
residuals r at e = 0, the derivatives J of the outputs in u and the noise R,

    log p(y | z) = log N(r; 0, R + J J') = log N(r; 0, R) + 1/2 a' a - sum_j log L_jj,
    p(u | y, z) = N(L^-T a, (L L')^-1),      L L' = I + J' R^-1 J,   L a = J' R^-1 r

(Woodbury's identity and the lemma of determinants; `kernels/_specific.py` finds L and a). So only z
is sampled, however many entries have variances of their own; at the end every particle gets a draw
of its u (Rao-Blackwell), and is as good as any other particle (z, u).

Points stand side by side, (n_sequences, m, n_points).
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._threads import run_split
from mtds_sklearn.kernels import _specific
from mtds_sklearn.model._chart import Chart
from mtds_sklearn.model._likelihood import MOST_SQUARED, Evaluations, row_work
from mtds_sklearn.model._task_map import Family, n_shared

# Squares in units of the noise beyond which rounding would drown what u explains of them: such a
# particle, which runs away, is as unlikely as without.
MOST_EXPLAINED = 1e13


class Directions(NamedTuple):
    """Along what outputs depart.

    Attributes
    ----------
    entries : ndarray of int64, shape (m,)
        Natural entries.
    std : ndarray of shape (m,)
        By how much they move with u, sqrt(psi).
    """

    entries: np.ndarray
    std: np.ndarray


class Departures(NamedTuple):
    """What the outputs say of u given each particle.

    Attributes
    ----------
    squared : ndarray of shape (n_sequences, n_outputs, n_points)
        Weighted squared residuals at u = 0.
    pulled : ndarray of shape (n_sequences, m, n_points)
        a.
    factor : ndarray of shape (n_sequences, m (m + 1) / 2, n_points)
        L, the lower triangle row by row.
    """

    squared: np.ndarray
    pulled: np.ndarray
    factor: np.ndarray


def directions_of(family: Family) -> Directions | None:
    """The directions of a family's specific variances; None if it has none."""
    if not family.specific:
        return None
    # Each of these entries of theta is one natural entry.
    columns = family.chart.basis[:, list(family.specific)]
    own = family.loadings[list(family.specific), n_shared(family) :]
    return Directions(np.argmax(columns, axis=0), np.diag(own).copy())


def departures(
    transitions: np.ndarray,
    psi: np.ndarray,
    run: Evaluations,
    chart: Chart,
    noise_std: np.ndarray,
    along: Directions,
) -> Departures:
    """Posterior of u given particles psi (n_sequences, n_natural, n_points), u = 0 there."""
    n, _, n_points = psi.shape
    m, shape = len(along.std), tuple(chart.shape)
    sizes = (chart.shape.n_outputs, m, m * (m + 1) // 2)
    out = Departures(*(np.empty((n, size, n_points)) for size in sizes))

    def some(part: slice) -> None:
        rows, parts = (run.first_row[part], run.n_rows[part]), [array[part] for array in out]
        _specific.integrate_out(
            transitions[part], psi[part], *along, *rows, run.data, shape, chart.gain,
            noise_std**-2.0, *parts,
        )  # fmt: skip

    row = row_work(chart) + m * chart.shape.n_outputs * (m + 4.0)
    run_split(some, n, float(run.n_rows.sum()) * n_points * row)
    return _without_runaways(out._replace(squared=np.fmin(out.squared, MOST_SQUARED)), noise_std)


def _without_runaways(found: Departures, noise_std: np.ndarray) -> Departures:
    """The prior of u, in place, where squares are beyond what numbers can tell."""
    total = np.einsum("nos,o->ns", found.squared, noise_std**-2.0)
    far = ~(total < MOST_EXPLAINED)
    if far.any():
        m = found.pulled.shape[1]
        identity = np.eye(m)[np.tril_indices(m)]
        np.copyto(found.pulled, 0.0, where=far[:, None])
        np.copyto(found.factor, identity[:, None], where=far[:, None])
    return found


def log_gain(found: Departures) -> np.ndarray:
    """log p(y | z) above that at u = 0 (n_sequences, n_points)."""
    diagonal = found.factor[:, _diagonal(found.pulled.shape[1])]
    return 0.5 * np.sum(found.pulled**2, axis=1) - np.sum(np.log(diagonal), axis=1)


def draws_given(found: Departures, normal: np.ndarray) -> np.ndarray:
    """Draws of u (n_sequences, m, n_points) from standard normal numbers, which broadcast."""
    return _solve_transposed(found.factor, found.pulled + normal)


def mean_covariance(found: Departures, weights: np.ndarray) -> np.ndarray:
    """Covariance of u given each particle, averaged (n_sequences, m, m); weights (.., n_points)."""
    (n, m, n_points), out = found.pulled.shape, []
    for unit in np.eye(m):
        column = np.broadcast_to(unit[:, None], (n, m, n_points))
        column = _solve_transposed(found.factor, _solve(found.factor, column))
        out.append(column @ weights[..., None])
    return np.concatenate(out, axis=2)


def unit_columns(along: Directions, n_natural: int) -> np.ndarray:
    """The directions as columns (n_natural, m) of loadings."""
    columns = np.zeros((n_natural, len(along.std)))
    columns[along.entries, np.arange(len(along.std))] = along.std
    return columns


def most_likely(gradient: np.ndarray, normal: np.ndarray, k: int) -> tuple:
    """u (n, m) of most posterior density given z, and log p(y | z) above that at u = 0 (n,).

    From the gradient (n, k + m) of the log likelihood in z and u, where u = 0, and its curvature.
    """
    pull, inner = gradient[:, k:], np.eye(normal.shape[1] - k) + normal[:, k:, k:]
    u = np.linalg.solve(inner, pull[..., None])[..., 0]
    return u, 0.5 * np.sum(u * pull, axis=1) - 0.5 * np.linalg.slogdet(inner)[1]


def without_departures(gradient: np.ndarray, normal: np.ndarray, k: int) -> tuple:
    """Gradient (n, k) and curvature in z, u integrated out, from those in z and u at its mode.

    There the gradient of the marginal is that of the joint density, and the curvature is its Schur
    complement.
    """
    inner = np.eye(normal.shape[1] - k) + normal[:, k:, k:]
    across = normal[:, k:, :k]
    explained = np.swapaxes(across, 1, 2) @ np.linalg.solve(inner, across)
    return gradient[:, :k], normal[:, :k, :k] - explained


def _diagonal(m: int) -> np.ndarray:
    """Where the diagonal of a lower triangle of m rows is stored."""
    return np.cumsum(np.arange(1, m + 1)) - 1


def _solve(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """L^-1 right, point by point."""
    x = np.array(right)
    for j in range(x.shape[1]):
        row = j * (j + 1) // 2
        for h in range(j):
            x[:, j] -= factor[:, row + h] * x[:, h]
        x[:, j] /= factor[:, row + j]
    return x


def _solve_transposed(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """L^-T right, point by point."""
    x = np.array(right)
    for j in reversed(range(x.shape[1])):
        row = j * (j + 1) // 2
        x[:, j] /= factor[:, row + j]
        for h in range(j):
            x[:, h] -= factor[:, row + h] * x[:, j]
    return x
