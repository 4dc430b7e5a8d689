"""Least squares of residuals on the responses of fixed blocks, compiled by numba.

Candidate blocks are scored by how much of the residuals they explain
(`learning/_initialization.py`). Kept apart from `_recursion.py`, with which it shares no function.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def block_normal_equations(entries, residuals, weights, inputs, offsets, normal, right):
    """Normal equations of every (block, sequence, output), on responses to unit states and inputs.

    The regressors X of a sequence are the first state's response to the two unit initial states
    and, for each input, to the two unit input columns; then what needs no state, a constant and the
    inputs themselves. width = 3 + 3 n_inputs.

    Parameters
    ----------
    entries : ndarray of shape (n_blocks, 4)
        a11, a12, a21, a22 of each block.
    residuals, weights : ndarray of shape (n_rows, n_outputs)
        What to explain, and the weight w of each value (0: not observed).
    inputs : ndarray of shape (n_rows, n_inputs)
    offsets : ndarray of int64, shape (n_sequences + 1,)
    normal : ndarray of shape (n_blocks, n_sequences, n_outputs, width, width)
        normal[c, i, o] <- sum_t w X X'.
    right : ndarray of shape (n_blocks, n_sequences, n_outputs, width)
        right[c, i, o] <- sum_t w X residual.
    """
    m, p = inputs.shape[1], residuals.shape[1]
    n_responses = 2 + 2 * m
    width = n_responses + 1 + m
    S = np.zeros((width, 2))
    normal[:] = 0.0
    right[:] = 0.0
    for c in range(entries.shape[0]):
        a11, a12, a21, a22 = entries[c, 0], entries[c, 1], entries[c, 2], entries[c, 3]
        for i in range(offsets.shape[0] - 1):
            S[:] = 0.0
            S[0, 0] = 1.0
            S[1, 1] = 1.0
            S[n_responses, 0] = 1.0
            for row in range(offsets[i], offsets[i + 1]):
                for j in range(m):
                    S[2 + 2 * j, 0] += inputs[row, j]
                    S[3 + 2 * j, 1] += inputs[row, j]
                    S[n_responses + 1 + j, 0] = inputs[row, j]
                for o in range(p):
                    w = weights[row, o]
                    if w == 0.0:
                        continue
                    for r in range(width):
                        right[c, i, o, r] += w * S[r, 0] * residuals[row, o]
                        for q in range(width):
                            normal[c, i, o, r, q] += w * S[r, 0] * S[q, 0]
                for r in range(n_responses):
                    old = S[r, 0]
                    S[r, 0] = a11 * old + a12 * S[r, 1]
                    S[r, 1] = a21 * old + a22 * S[r, 1]
