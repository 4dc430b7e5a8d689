"""Slow and obvious versions of what the package computes, in NumPy loops.

Nothing here calls the package's own mathematics, so that an error cannot agree with itself.
"""

import numpy as np
from scipy import stats


def modal_matrix(coordinates):
    """Block-diagonal A of modal chart coordinates, block by block from the definition."""
    n = len(coordinates)
    A = np.zeros((n, n), coordinates.dtype)
    for i in range(0, n - 1, 2):
        q = np.tanh(coordinates[i])
        p = np.tanh(coordinates[i + 1]) * (1 + q)
        d = q - p**2 / 4
        s = (d**2 + 1e-6) ** 0.25
        A[i : i + 2, i : i + 2] = [[p / 2, s], [-d / s, p / 2]]
    if n % 2:
        A[-1, -1] = np.tanh(coordinates[-1])
    return A


def cayley_matrix(coordinates, n):
    """A = diag(tanh a) (I - S)(I + S)^-1 with S skew-symmetric, filled row by row."""
    S = np.zeros((n, n), coordinates.dtype)
    values = iter(coordinates[n:])
    for i in range(n):
        for j in range(i):
            S[i, j] = next(values)
            S[j, i] = -S[i, j]
    Q = (np.eye(n) - S) @ np.linalg.inv(np.eye(n) + S)
    return np.diag(np.tanh(coordinates[:n])) @ Q


def split(psi, shape):
    """Natural vector -> dict of matrices."""
    n, m, p, block = shape
    modal = block == 2 or n == 1
    n_chart = n if modal else n + n * (n - 1) // 2
    sizes = [n_chart, n * m, n, n * p, p * n, p * m, p, 1]
    a, b, x0, k, c, d, offset, noise = np.split(psi, np.cumsum(sizes)[:-1])
    A = modal_matrix(a) if modal else cayley_matrix(a, n)
    return {
        "A": A, "B": b.reshape(n, m), "x0": x0, "K": k.reshape(n, p), "C": c.reshape(p, n),
        "D": d.reshape(p, m), "offset": offset, "level": np.exp(noise[0]),
    }  # fmt: skip


def simulate(psi, shape, inputs, outputs, observed):
    """Predicted outputs of one sequence and the state handed to the row after the last."""
    M = split(psi, shape)
    s = M["x0"].copy()
    predicted = np.zeros(outputs.shape, psi.dtype)
    for t in range(len(inputs)):
        x = s + M["B"] @ inputs[t]
        predicted[t] = M["C"] @ x + M["D"] @ inputs[t] + M["offset"]
        innovation = np.where(observed[t], outputs[t] - predicted[t], 0.0)
        s = M["A"] @ (x + M["K"] @ innovation)
    return predicted, s


def log_likelihood(psi, shape, inputs, outputs, observed, noise_std, weights=None):
    """Sum of normal log densities of the observed values, variances divided by their weights."""
    weights = np.ones(observed.shape) if weights is None else weights
    predicted, _ = simulate(psi, shape, inputs, outputs, observed)
    level = np.exp(psi[-1])
    total = 0.0
    for t, o in zip(*np.nonzero(observed), strict=True):
        sd = level * noise_std[o] / np.sqrt(weights[t, o])
        total += (
            -0.5 * np.log(2 * np.pi * sd**2) - 0.5 * ((outputs[t, o] - predicted[t, o]) / sd) ** 2
        )
    return total


def unseen_variances(psi, shape, observed, noise_std):
    """Variances of the predicted outputs that come of innovations that were not observed.

    Each of them, of the size of the noise, is let loose alone and followed through the rows: where
    an output is observed the state is corrected by what is seen of it.
    """
    M = split(psi, shape)
    variance = np.zeros(observed.shape)
    for t, o in zip(*np.nonzero(~observed), strict=True):
        d = M["A"] @ M["K"][:, o] * M["level"] * noise_std[o]
        for later in range(t + 1, len(observed)):
            error = M["C"] @ d
            variance[later] += error**2
            d = M["A"] @ (d - M["K"] @ np.where(observed[later], error, 0.0))
    return variance


def gap_weights(psi, shape, observed, noise_std):
    """Share of its precision that a value keeps after unseen innovations, in the system psi."""
    variance = (np.exp(psi[-1]) * noise_std) ** 2
    return variance / (variance + unseen_variances(psi, shape, observed, noise_std))


def student_log_density(residuals, noise_std, dof, weights):
    """Log density of residuals (n,) whose common variance s^2 is integrated out numerically."""
    log_s2 = np.linspace(-25.0, 25.0, 40_001)
    s2 = np.exp(log_s2)
    prior = stats.invgamma.logpdf(s2, dof / 2.0, scale=dof / 2.0) + log_s2
    std = noise_std / np.sqrt(weights)
    likelihood = np.sum(
        stats.norm.logpdf(residuals[:, None], 0.0, std[:, None] * np.sqrt(s2)), axis=0
    )
    top = np.max(prior + likelihood)
    return top + np.log(np.trapezoid(np.exp(prior + likelihood - top), log_s2))


def gauss_newton(psi, shape, inputs, outputs, observed, noise_std):
    """Gradient of the log likelihood in psi, and its Gauss-Newton matrix, by complex steps.

    The noise level is the last entry of psi: nothing but itself moves with it, and it has a Fisher
    information of 2 for every observed value.
    """
    rows = (inputs, outputs, observed)
    gradient = complex_step(lambda psi: log_likelihood(psi, shape, *rows, noise_std), psi)
    J = complex_step(lambda psi: simulate(psi, shape, *rows)[0][observed], psi)
    std = np.exp(psi[-1]) * np.broadcast_to(noise_std, observed.shape)[observed]
    normal = (J / std[:, None] ** 2).T @ J
    normal[-1, -1] += 2 * np.count_nonzero(observed)
    return gradient, normal


def departure(jacobian, residuals, units):
    """Posterior mean of d ~ N(0, I) given residuals = jacobian @ units @ d + N(0, I) noise.

    The least squares of the residuals with d itself below them, asked to be zero.
    """
    design = np.vstack([jacobian @ units, np.eye(units.shape[1])])
    target = np.concatenate([residuals, np.zeros(units.shape[1])])
    return np.linalg.lstsq(design, target, rcond=None)[0]


def block_normal_equations(A, residuals, weights, inputs):
    """Normal matrix and right-hand side (per output) of one 2x2 block on one sequence.

    The unknowns are the initial state and the input columns, one after the other; then a constant
    and the feed-through of each input.
    """
    columns = [initial_response(A, state, len(inputs)) for state in range(2)]
    for j in range(inputs.shape[1]):
        for state in range(2):
            response = initial_response(A, state, len(inputs))
            columns.append(np.convolve(inputs[:, j], response)[: len(inputs)])
    X = np.column_stack([*columns, np.ones(len(inputs)), inputs])
    normal = [X.T @ np.diag(w) @ X for w in weights.T]
    right = [X.T @ (w * r) for w, r in zip(weights.T, residuals.T, strict=True)]
    return np.array(normal), np.array(right)


def initial_response(A, state, n_rows):
    """First state over time, started from a unit of one state."""
    return np.array([np.linalg.matrix_power(A, t)[0, state] for t in range(n_rows)])


def finite_difference(function, x, step=1e-6):
    """Central differences of a scalar or array function, stacked along the last axis."""
    columns = []
    for i in range(len(x)):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        columns.append((np.asarray(function(up)) - np.asarray(function(down))) / (2 * step))
    return np.stack(columns, axis=-1)


def complex_step(function, x, step=1e-30):
    """Derivatives of an analytic function, exact but for rounding, stacked along the last axis.

    f(x + ih) = f(x) + ih f'(x) - ..: nothing is subtracted (Squire & Trapp, SIAM Rev. 40, 1998).
    """
    columns = []
    for i in range(len(x)):
        point = x.astype(complex)
        point[i] += 1j * step
        columns.append(np.imag(function(point)) / step)
    return np.stack(columns, axis=-1) if columns else np.zeros((*np.shape(function(x)), 0))


def gauss_hermite_posterior(log_joint, dim, center, factor, n_nodes=60):
    """Mean, covariance and log evidence of exp(log_joint(z)) by Gauss-Hermite quadrature.

    For 1 or 2 dimensions. Nodes are placed at center + factor @ node, so they should cover the
    posterior generously.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    grids = np.meshgrid(*[nodes] * dim, indexing="ij")
    unit = np.stack([g.ravel() for g in grids], axis=1)
    log_weight = sum(np.log(w).ravel() for w in np.meshgrid(*[weights] * dim, indexing="ij"))
    z = center + unit @ factor.T
    log_values = (
        np.array([log_joint(row) for row in z]) + log_weight + 0.5 * np.sum(unit**2, axis=1)
    )
    top = log_values.max()
    probability = np.exp(log_values - top)
    log_evidence = top + np.log(probability.sum()) + np.log(abs(np.linalg.det(factor)))
    probability /= probability.sum()
    mean = probability @ z
    centred = z - mean
    return mean, (probability[:, None] * centred).T @ centred, log_evidence


def log_mixture_density(v, weights, means, factors):
    """log density (...,) at v (..., k) of the mixture of N(0, I), the first, and Gaussians."""
    k = v.shape[-1]
    total = weights[0] * stats.multivariate_normal.pdf(v, np.zeros(k), np.eye(k))
    for weight, mean, factor in zip(weights[1:], means, factors, strict=True):
        total = total + weight * stats.multivariate_normal.pdf(v, mean, factor @ factor.T)
    return np.log(total)


def component_log_evidence(x, noise_cov, weights, means, factors):
    """log w_j p(x | j) (1 + J,) of a point measured with Gaussian noise; N(0, I) is the first."""
    k = len(x)
    covs = [np.eye(k), *(factor @ factor.T for factor in factors)]
    values = []
    for weight, mean, cov in zip(weights, [np.zeros(k), *means], covs, strict=True):
        density = stats.multivariate_normal.logpdf(x, mean, cov + noise_cov)
        values.append(np.log(weight) + density)
    return values


def departures_along(psi, shape, inputs, outputs, observed, entries, std):
    """Residuals (n,) of the observed values at psi, and their derivatives J (n, m) along entries.

    Outputs are linear in x0, B, D and offset: differences of simulations are exact.
    """
    base, _ = simulate(psi, shape, inputs, outputs, observed)
    columns = [
        simulate(psi + s * np.eye(len(psi))[entry], shape, inputs, outputs, observed)[0] - base
        for entry, s in zip(entries, std, strict=True)
    ]
    return (outputs - base)[observed], np.stack([c[observed] for c in columns], axis=1)


def marginal_log_likelihood(psi, shape, rows, noise_std, entries, std, weights=None):
    """log N(y; yhat, R + J J') of one sequence, departures N(0, std^2) along entries of psi."""
    observed = rows[2]
    weights = np.ones(observed.shape) if weights is None else weights
    residuals, J = departures_along(psi, shape, *rows, entries, std)
    noise = (np.exp(psi[-1]) * np.broadcast_to(noise_std, observed.shape))[observed] ** 2
    covariance = np.diag(noise / weights[observed]) + J @ J.T
    log_det = np.linalg.slogdet(2 * np.pi * covariance)[1]
    return -0.5 * (log_det + residuals @ np.linalg.solve(covariance, residuals))


def departure_posterior(psi, shape, rows, noise_std, entries, std):
    """Mean (m,) and covariance of standard normal departures given one sequence."""
    observed = rows[2]
    residuals, J = departures_along(psi, shape, *rows, entries, std)
    noise = (np.exp(psi[-1]) * np.broadcast_to(noise_std, observed.shape))[observed] ** 2
    covariance = np.linalg.inv(np.eye(len(std)) + (J.T / noise) @ J)
    return covariance @ (J.T @ (residuals / noise)), covariance
