"""Kalman filter of two oscillators that are pushed about, for thousands of parameters at once."""

import numpy as np
from numba import njit


@njit(cache=True)
def filter_pushed(radius, angle, start, push, noise, y, n_known):
    """One-step forecasts and log likelihoods of a sum of two oscillators.

    Parameters
    ----------
    radius, angle : ndarray of shape (n_draws, 2)
        Poles, of which the states are turned and shrunk.
    start : ndarray of shape (4,)
        State at the first row, known.
    push, noise : float
        Standard deviations of what moves every state, and of the observations.
    y : ndarray of shape (n_rows,)
        Observations; those from `n_known` on are not used.

    Returns
    -------
    mean, variance : ndarray of shape (n_draws, n_rows)
        Of every observation, given those before it that are used.
    log_likelihood : ndarray of shape (n_draws, n_rows + 1)
        Of the observations used so far.
    """
    n_draws, n_rows = len(radius), len(y)
    mean, variance = np.empty((n_draws, n_rows)), np.empty((n_draws, n_rows))
    log_likelihood = np.zeros((n_draws, n_rows + 1))
    A = np.zeros((4, 4))
    for s in range(n_draws):
        for j in range(2):
            cosine, sine = radius[s, j] * np.cos(angle[s, j]), radius[s, j] * np.sin(angle[s, j])
            A[2 * j, 2 * j], A[2 * j + 1, 2 * j + 1] = cosine, cosine
            A[2 * j, 2 * j + 1], A[2 * j + 1, 2 * j] = sine, -sine
        state, P = start.copy(), np.zeros((4, 4))
        for t in range(n_rows):
            to_output = P[:, 0] + P[:, 2]
            mean[s, t] = state[0] + state[2]
            variance[s, t] = to_output[0] + to_output[2] + noise**2
            total = log_likelihood[s, t]
            if t < n_known:
                error = y[t] - mean[s, t]
                total -= 0.5 * (np.log(variance[s, t]) + error**2 / variance[s, t])
                gain = to_output / variance[s, t]
                state = state + gain * error
                P = P - np.outer(gain, to_output)
            log_likelihood[s, t + 1] = total
            state = A @ state
            P = A @ P @ A.T
            for i in range(4):
                P[i, i] += push**2
    return mean, variance, log_likelihood
