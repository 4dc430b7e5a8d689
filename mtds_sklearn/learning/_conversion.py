"""From a finished modal fit to the Cayley chart.

From a random start the Cayley chart fails often: its skew entries couple the modes, and nothing
tells blocks apart. So the family is grown in the modal chart, every system of it is rewritten as a
contraction diag(s) Q, and the new theta is regressed on z; EM then refines.
"""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from mtds_sklearn.learning._em import RELEVANCE_RANGE
from mtds_sklearn.learning._initialization import row_precision
from mtds_sklearn.learning._posterior import TaskPosterior, cubature_points
from mtds_sklearn.model._chart import make_chart
from mtds_sklearn.model._lds import LDS, Shape, lds_from_natural
from mtds_sklearn.model._task_map import Family, natural_parameters

# Half the gap between the poles of a block is kept above this: at a double pole no diagonal matrix
# and no multiple of a rotation is similar to it.
LEAST_GAP = 0.02
# Scales are kept below one by so little that even a pole of a level or a trend stays what it was.
LARGEST_SCALE = 1.0 - 1e-9
REGRESSION_RIDGE = 1e-3


def convert_to_cayley(family: Family, posterior: TaskPosterior, varying: tuple) -> Family:
    """The modal family in the Cayley chart, by regression over the posteriors of the sequences."""
    old = family.chart
    n, m, p, _ = old.shape
    shape = Shape(n, m, p, max(n, 3))
    chart = make_chart(shape, np.zeros((0, p)), old.free, old.gain)
    points = cubature_points(posterior)
    points = points.reshape(-1, points.shape[2]) if points.size else np.zeros((1, 0))
    psi = to_contractions(natural_parameters(family, points), old.shape)
    # Every theta entry of this chart is one natural entry.
    theta = psi[:, chart.active]
    z1 = np.column_stack([points, np.ones(len(points))])
    normal = z1.T @ z1 / len(z1) + REGRESSION_RIDGE * np.diag([1.0] * (z1.shape[1] - 1) + [0.0])
    solution = cho_solve(cho_factor(normal), z1.T @ theta / len(z1))
    precision = row_precision(chart, varying)
    loadings = np.where(np.isfinite(precision)[:, None], solution[:-1].T, 0.0)
    # Rows are as relevant as they are large. From equal precisions relevance would soon hold one of
    # the two scales of a rotation, and the other alone cannot follow its damping.
    size = np.maximum(np.sum(loadings**2, axis=1), 1e-300)
    precision = np.where(
        np.isfinite(precision), np.clip(loadings.shape[1] / size, *RELEVANCE_RANGE), np.inf
    )
    parts = (np.ascontiguousarray(loadings), solution[-1], family.noise_std, precision)
    return Family(chart, *parts, growth=family.growth)


def to_contractions(psi: np.ndarray, shape: Shape) -> np.ndarray:
    """Natural vectors of the Cayley chart for those (n_points, n_natural) of the modal chart.

    A block [[h, s], [-d/s, h]] becomes, by a change of its two states, a rotation by omega times
    the modulus of its poles (d > 0; S = [[0, -t], [t, 0]], t = tan(omega / 2)), or the diagonal of
    its poles (d < 0).
    """
    lds = lds_from_natural(psi, shape)
    n = shape.n_states
    change = np.tile(np.eye(n), (len(psi), 1, 1))
    scale, skew = np.zeros((len(psi), n)), np.zeros((len(psi), n, n))
    for i in range(0, n - 1, 2):
        half, upper, lower = lds.A[:, i, i], lds.A[:, i, i + 1], lds.A[:, i + 1, i]
        d = -upper * lower
        gap = np.maximum(np.sqrt(np.abs(d)), LEAST_GAP)
        real = d < 0.0
        stretch = upper / gap
        change[:, i + 1, i + 1] = stretch
        root = np.sqrt(0.5)
        # Rows of the change to the diagonal: left eigenvectors.
        change[real, i : i + 2, i] = root
        change[real, i, i + 1] = root * stretch[real]
        change[real, i + 1, i + 1] = -root * stretch[real]
        modulus = np.hypot(half, gap)
        scale[:, i] = np.where(real, half + gap, modulus)
        scale[:, i + 1] = np.where(real, half - gap, modulus)
        skew[:, i + 1, i] = np.where(real, 0.0, np.tan(0.5 * np.arctan2(gap, half)))
    if n % 2:
        scale[:, n - 1] = lds.A[:, n - 1, n - 1]
    return _assemble(lds, change, scale, skew, psi[:, -1:])


def _assemble(lds: LDS, change, scale, skew, log_level) -> np.ndarray:
    n_points, n = scale.shape
    rows, columns = np.tril_indices(n, -1)
    C = lds.C @ np.linalg.inv(change)
    x0 = np.einsum("eij,ej->ei", change, lds.x0)
    blocks = [
        np.arctanh(np.clip(scale, -LARGEST_SCALE, LARGEST_SCALE)), skew[:, rows, columns],
        change @ lds.B, x0, change @ lds.K, C, lds.D, lds.offset, log_level,
    ]  # fmt: skip
    return np.concatenate([block.reshape(n_points, -1) for block in blocks], axis=1)
