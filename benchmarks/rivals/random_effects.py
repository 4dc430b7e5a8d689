"""Maximum likelihood of a linear mixed model with an Ornstein-Uhlenbeck residual.

    y_i = Z_i (beta + b_i) + r_i,   b_i ~ N(0, Omega),
    cov r_i(s, t) = scale^2 [share exp(-|s - t| / time) + (1 - share) 1(s = t)]

for every output, with a scale of its own; Omega is full over the coefficients of all outputs. beta
and Omega by EM (beta by generalised least squares: Laird, Lange & Stram 1987), share and time by
the simplex search of Nelder & Mead. A weak inverse Wishart prior keeps Omega positive definite.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize

PRIOR_COUNT, PRIOR_STD = 2.0, 0.1  # of Omega: as of so many sequences with coefficients so large
MIN_SCALE = 1e-3


class Effects(NamedTuple):
    """A fitted model."""

    beta: np.ndarray  # (q,)
    beta_cov: np.ndarray  # (q, q), of its estimate
    omega: np.ndarray  # (q, q)
    scale: np.ndarray  # (n_outputs,)
    share: float
    time: float

    def moments(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n_rows, n_outputs) of a new curve and covariance of its values, row by row."""
        n_rows, n_outputs = len(Z), len(self.scale)
        beta = self.beta.reshape(n_outputs, -1)
        coefficients = (self.omega + self.beta_cov).reshape(n_outputs, len(Z[0]), n_outputs, -1)
        cov = np.einsum("sa,oapb,tb->sotp", Z, coefficients, Z, optimize=True)
        residual = residual_correlation(np.arange(n_rows), self.share, self.time)
        for o, scale in enumerate(self.scale):
            cov[:, o, :, o] += scale**2 * residual
        return Z @ beta.T, cov.reshape(n_rows * n_outputs, -1)


def residual_correlation(times: np.ndarray, share: float, time: float) -> np.ndarray:
    correlation = share * np.exp(-np.abs(times[:, None] - times) / time)
    np.fill_diagonal(correlation, 1.0)
    return correlation


class Moments(NamedTuple):
    """What the residual correlation leaves of every sequence, before scaling."""

    ZZ: np.ndarray  # (n, n_outputs, a, a)
    Zy: np.ndarray  # (n, n_outputs, a)
    yy: np.ndarray  # (n, n_outputs)
    log_det: np.ndarray  # (n, n_outputs)
    counts: np.ndarray  # (n, n_outputs)


def whitened_moments(designs: list, outputs: list, share: float, time: float) -> Moments:
    """Moments of designs and outputs under one residual correlation."""
    n, a, n_outputs = len(designs), designs[0].shape[1], outputs[0].shape[1]
    places: dict[bytes, list] = {}  # many sequences are observed at the same steps
    for i, Y in enumerate(outputs):
        for o, y in enumerate(Y.T):
            places.setdefault(np.isfinite(y).tobytes(), []).append((i, o))
    products, log_det = np.zeros((n, n_outputs, a + 1, a + 1)), np.zeros((n, n_outputs))
    counts = np.zeros((n, n_outputs))
    for key, members in places.items():
        seen = np.flatnonzero(np.frombuffer(key, dtype=bool))
        if len(seen) == 0:
            continue
        L = cholesky(residual_correlation(seen, share, time), lower=True)
        rows = [np.column_stack([designs[i][seen], outputs[i][seen, o]]) for i, o in members]
        X = solve_triangular(L, np.hstack(rows), lower=True, check_finite=False)
        X = X.reshape(len(seen), len(members), a + 1).swapaxes(0, 1)
        where = tuple(np.array(members).T)
        products[where], counts[where] = X.swapaxes(1, 2) @ X, len(seen)
        log_det[where] = 2 * np.sum(np.log(np.diag(L)))
    return Moments(
        products[..., :-1, :-1], products[..., :-1, -1], products[..., -1, -1], log_det, counts
    )


def fit_effects(designs: list, outputs: list, n_rounds: int = 3, n_em: int = 40) -> Effects:
    """Fit to designs (n_rows, a) and outputs (n_rows, n_outputs), NaN where not observed."""
    n_outputs, a = outputs[0].shape[1], designs[0].shape[1]
    place = np.array([0.0, np.log(3.0)])  # logit of share, log of time
    effects = Effects(
        np.zeros(n_outputs * a), np.zeros((n_outputs * a,) * 2), 0.3 * np.eye(n_outputs * a),
        np.full(n_outputs, 0.5), *_share_and_time(place),
    )  # fmt: skip
    for _ in range(n_rounds):

        def loss(place, effects=effects):
            share, time = _share_and_time(place)
            moments = whitened_moments(designs, outputs, share, time)
            prior = 0.5 * np.sum((place / 4) ** 2)
            return prior - log_likelihood(moments, effects)

        moments = whitened_moments(designs, outputs, effects.share, effects.time)
        for _ in range(n_em):
            effects = em_step(moments, effects)
        options = {"maxfev": 25, "xatol": 0.05, "fatol": 0.1}
        place = minimize(loss, place, method="Nelder-Mead", options=options, args=(effects,)).x
        effects = effects._replace(share=_share_and_time(place)[0], time=_share_and_time(place)[1])
    moments = whitened_moments(designs, outputs, effects.share, effects.time)
    for _ in range(n_em):
        effects = em_step(moments, effects)
    return effects


def em_step(moments: Moments, effects: Effects) -> Effects:
    """One step: beta by generalised least squares, then Omega and scales from the expectations."""
    n, n_outputs, a = moments.Zy.shape
    G, g = _scaled(moments, effects.scale)
    S = np.linalg.inv(np.linalg.inv(effects.omega) + G)
    GS = G @ S
    information = (G - GS @ G).sum(axis=0)
    ridge = 1e-8 * np.trace(information) / len(information) + 1e-10
    beta_cov = np.linalg.inv(information + ridge * np.eye(len(information)))
    beta = beta_cov @ (g - np.einsum("nij,nj->ni", GS, g)).sum(axis=0)
    b = np.einsum("nij,nj->ni", S, g - G @ beta)
    scatter = S.sum(axis=0) + b.T @ b + PRIOR_COUNT * PRIOR_STD**2 * np.eye(len(beta))
    omega = scatter / (n + PRIOR_COUNT)
    coefficients = (beta + b).reshape(n, n_outputs, a)
    blocks = np.einsum("noaob->noab", S.reshape(n, n_outputs, a, n_outputs, a))
    squares = moments.yy - 2 * np.einsum("noa,noa->no", coefficients, moments.Zy)
    squares += np.einsum("noa,noab,nob->no", coefficients, moments.ZZ, coefficients)
    squares += np.einsum("noab,noab->no", moments.ZZ, blocks)
    scale = np.sqrt(squares.sum(axis=0) / np.maximum(moments.counts.sum(axis=0), 1))
    scale = np.maximum(scale, MIN_SCALE)
    return effects._replace(beta=beta, beta_cov=beta_cov, omega=omega, scale=scale)


def log_likelihood(moments: Moments, effects: Effects) -> float:
    """Log density of all curves, constants left out."""
    G, g = _scaled(moments, effects.scale)
    inverse = np.linalg.inv(effects.omega)
    residual = g - G @ effects.beta
    S = np.linalg.inv(inverse + G)
    quadratic = np.sum(moments.yy / effects.scale**2) - 2 * g.sum(axis=0) @ effects.beta
    quadratic += effects.beta @ G.sum(axis=0) @ effects.beta
    quadratic -= np.einsum("ni,nij,nj->", residual, S, residual)
    log_det = np.sum(moments.log_det) + 2 * np.sum(moments.counts @ np.log(effects.scale))
    log_det += len(G) * np.linalg.slogdet(effects.omega)[1] - np.linalg.slogdet(S)[1].sum()
    return -0.5 * float(quadratic + log_det)


def _scaled(moments: Moments, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Z' R^-1 Z (n, q, q) and Z' R^-1 y (n, q) over all outputs."""
    n, n_outputs, a = moments.Zy.shape
    G = np.zeros((n, n_outputs, a, n_outputs, a))
    for o in range(n_outputs):
        G[:, o, :, o] = moments.ZZ[:, o] / scale[o] ** 2
    g = moments.Zy / scale[:, None] ** 2
    return G.reshape(n, n_outputs * a, -1), g.reshape(n, -1)


def _share_and_time(place: np.ndarray) -> tuple[float, float]:
    share = 1 / (1 + np.exp(-np.clip(place[0], -8, 8)))
    return float(min(share, 0.999)), float(np.exp(np.clip(place[1], -2, 6)))
