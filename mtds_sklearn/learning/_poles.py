"""How poles and responses of a family move with z, whatever the coordinates of its states are.

In the Cayley chart entries of A, B, x0 and C depend on each other and on a choice of states that
means nothing; that entries of theta vary independently is to be expected of what outputs show. With
lambda_j, v_j and w_j the eigenvalues of A and its right and left eigenvectors, w_j' v_j = 1, an
output is

    C A^t x0 = sum_j lambda_j^t (C v_j)(w_j' x0),        and so are responses to inputs, with B.

Poles are taken as the modal chart has them (`model._chart`): for a pair of them arctanh |lambda|^2
and arctanh(2 Re lambda / (1 + |lambda|^2)), for a real one arctanh lambda.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from mtds_sklearn.model._lds import LDS, lds_from_natural
from mtds_sklearn.model._task_map import Family, natural_parameters

# Half the step of a central difference, in standard deviations of z.
STEP = 1e-4
# What moves less than this over the family does not vary; as for entries of theta.
LEAST_STD = 0.03


def loadings_free_of_states(family: Family, relevant: np.ndarray) -> np.ndarray:
    """Derivatives (n_rows, k) by z, at z = 0, of what varies of poles, responses, D, offset, noise.

    Parameters
    ----------
    relevant : ndarray of bool, shape (n_theta,)
        Entries of theta that vary; only those of D, offset and the noise are looked at.
    """
    k = family.loadings.shape[1]
    z = STEP * np.vstack([np.zeros((1, k)), np.eye(k), -np.eye(k)])
    lds = lds_from_natural(natural_parameters(family, z), family.chart.shape)
    values = _poles_and_responses(lds)
    rows = (values[1 : k + 1] - values[k + 1 :]).T / (2.0 * STEP)
    rows = rows[np.linalg.norm(rows, axis=1) > LEAST_STD]
    kinds = np.array([kind for kind, _, _ in family.chart.entries])
    others = relevant & np.isin(kinds, ("D", "offset", "noise"))
    return np.vstack([rows, family.loadings[others]])


def _poles_and_responses(lds: LDS) -> np.ndarray:
    """Real numbers (n_systems, n_values) of every system, in the order of the first one's poles."""
    poles, right = np.linalg.eig(lds.A)
    left = np.linalg.pinv(right)  # of a double pole eigenvectors are the same
    driven = np.concatenate([lds.x0[..., None], lds.B], axis=2)
    responses = np.einsum("epj,ejd->ejpd", lds.C @ right, left @ driven)
    for e in range(1, len(poles)):
        order = linear_sum_assignment(np.abs(poles[0, :, None] - poles[e]))[1]
        poles[e], responses[e] = poles[e, order], responses[e, order]
    upper = poles[0].imag >= 0.0  # one of each pair
    pairs = poles[0, upper].imag > 0.0
    size = np.abs(poles[:, upper]) ** 2
    first = np.where(pairs, size, poles[:, upper].real)
    second = 2.0 * poles[:, upper].real / (1.0 + size)
    chosen = responses[:, upper].reshape(len(poles), -1)
    parts = (np.arctanh(first), np.arctanh(second[:, pairs]), chosen.real, chosen.imag)
    return np.concatenate(parts, axis=1)
