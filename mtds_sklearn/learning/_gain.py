"""The gain K and coloured noise, learned last: innovations that the state remembers.

A deterministic family first, then

    s_{t+1} = A (x_t + K e_t),   e_t = y_t - yhat_t,

with (W, b) of the family frozen: learned together with them by likelihood, K would soak up what the
family should explain, since that makes the next step cheap and the far ones dear. Three models are
offered to the choice by forecasts (`learning/_disturbance.py`):

- *noise*: for each output two states of their own, driven by its innovations and seen by it alone,
  with poles and gains that all sequences share: y is what the family says plus coloured noise, an
  ARMA(2, 2) process (an Ornstein-Uhlenbeck residual with measurement noise is one);
- *gain*: besides, a gain on the states of the family, shared by all sequences in amplitudes: shocks
  go on with the dynamics of the sequence;
- *together*: from there, everything at once. Of a deterministic family poles are too slow and
  initial states differ too much, since that is all it has to follow shocks with. And a gain that
  is part of theta: how much of an innovation is a shock depends on the dynamics.

z is inferred again after each step, since what is forgiven as disturbance no longer bends z.
"""

from itertools import product
from typing import Any

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.inference._disturbance import with_gap_weights
from mtds_sklearn.learning._em import EMResult, Held, run_em
from mtds_sklearn.learning._initialization import release, rows_of
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.model._chart import Chart, make_chart
from mtds_sklearn.model._lds import Shape, is_modal
from mtds_sklearn.model._likelihood import evaluations, squared_residuals
from mtds_sklearn.model._task_map import Family, natural_parameters

# Poles that coloured noise is started from, and gains. The other pole of an output is off zero,
# where what its state is handed would be lost, whatever the gain, and neither could be learned.
NOISE_POLES = (0.3, 0.6, 0.85, 0.95, 0.99)
OTHER_POLE = 0.1
GAINS = (0.2, 0.5, 0.9)
GAIN_ITERATIONS = 30
WEIGHT_ROUNDS = 3


def with_noise_states(family: Family) -> Family:
    """The family with two noise states for each output, in front of its own; all gains zero."""
    old = family.chart
    n, m, p, block = old.shape
    n_noise = 2 * p
    block = 2 if is_modal(old.shape) else n + n_noise
    shape = Shape(n + n_noise, m, p, block)
    directions = np.vstack([np.eye(p), old.directions.reshape(-1, p)])
    chart = make_chart(shape, directions, (*old.free, "K"), True, n_noise)
    row_of = {entry: row for row, entry in enumerate(chart.entries)}
    rows = [row_of[_shifted(entry, old, shape, n_noise)] for entry in old.entries]
    loadings = np.zeros((len(chart.entries), family.loadings.shape[1]))
    bias = np.zeros(len(chart.entries))
    precision = np.full(len(chart.entries), np.inf)
    loadings[rows], bias[rows], precision[rows] = family.loadings, family.bias, family.precision
    specific = tuple(rows[entry] for entry in family.specific)
    return family._replace(
        chart=chart, loadings=loadings, bias=bias, precision=precision, specific=specific
    )


def _shifted(entry: tuple, old: Chart, shape: Shape, n_noise: int) -> tuple:
    """Name of an old entry among more states."""
    kind, i, j = entry
    if kind in ("B", "x0", "K"):
        return kind, i + n_noise, j
    if kind == "C":
        return (kind, i + n_noise, j) if is_modal(shape) else (kind, i, j + n_noise)
    if kind != "A":
        return entry
    n = old.shape.n_states
    if is_modal(shape) or i < n:
        return kind, i + n_noise, j
    row, column = (index[i - n] + n_noise for index in np.tril_indices(n, -1))
    return kind, shape.n_states + row * (row - 1) // 2 + column, j


def disturbance_of(family: Family) -> str:
    """What a family has: "none", coloured "noise", or "gain" on the states of the family too."""
    chart = family.chart
    if not chart.gain:
        return "none"
    gains = [
        row for row, (kind, i, _) in enumerate(chart.entries) if kind == "K" and i >= chart.n_noise
    ]
    return "gain" if np.any(family.bias[gains]) else "noise"


def gain_entries(chart: Chart, on_states: bool) -> np.ndarray:
    """Mask (n_theta,) of the poles and gains of the noise, and of the gains on the states."""
    return np.array(
        [_is_noise(kind, i, chart) or (kind == "K" and on_states) for kind, i, _ in chart.entries],
        dtype=bool,
    )


def _is_noise(kind: str, i: int, chart: Chart) -> bool:
    return kind in ("A", "K") and i < chart.n_noise


def start_noise(sequences: PackedSequences, family: Family, posterior: TaskPosterior) -> Family:
    """Poles and gains of the noise of each output that predict the next residuals best."""
    chart, run = family.chart, evaluations(sequences)
    noise = np.flatnonzero(gain_entries(chart, on_states=False))
    names = [chart.entries[row][:2] for row in noise]
    output = np.array([i // 2 for _, i in names])

    def squared_with(bias: np.ndarray) -> np.ndarray:
        psi = natural_parameters(family._replace(bias=bias), posterior.mean)
        return squared_residuals(psi, run, chart).sum(axis=0)

    bias, best = family.bias.copy(), squared_with(family.bias)
    for pole, gain in product(NOISE_POLES, GAINS):
        trial = family.bias.copy()
        trial[noise] = [_start(kind, i, pole, gain, chart) for kind, i in names]
        squared = squared_with(trial)
        better = noise[squared[output] < best[output]]
        bias[better] = trial[better]
        best = np.minimum(best, squared)
    return family._replace(bias=bias)


def _start(kind: str, i: int, pole: float, gain: float, chart: Chart) -> float:
    """Start of one entry of two noise states, the mode of whose first pole has the gain."""
    if kind == "K":
        # In the modal block (1, 1) is the mode of the larger pole; in the Cayley chart it is an
        # axis.
        return gain if is_modal(chart.shape) or i % 2 == 0 else 0.0
    if is_modal(chart.shape):
        product, total = pole * OTHER_POLE, pole + OTHER_POLE
        return np.arctanh(product if i % 2 == 0 else total / (1.0 + product))
    return np.arctanh(pole if i % 2 == 0 else OTHER_POLE)


def learn_noise(
    sequences: PackedSequences,
    family: Family,
    posterior: TaskPosterior,
    points: np.ndarray,
    spent: float,
) -> EMResult:
    """Coloured noise beside the frozen family."""
    family = start_noise(sequences, with_noise_states(family), posterior)
    return _learn(sequences, family, posterior, points, spent, on_states=False)


def learn_gain(
    sequences: PackedSequences, result: EMResult, points: np.ndarray, spent: float
) -> EMResult:
    """A gain on the states of the frozen family, from where coloured noise was learned."""
    return _learn(sequences, result.family, result.posterior, points, spent, on_states=True)


def learn_together(
    sequences: PackedSequences,
    start: tuple[Family, TaskPosterior],
    points: np.ndarray,
    varying: tuple,
    **limits: Any,
) -> EMResult:
    """All of (W, b) at once; with "K" in `varying` gains on the states too may differ.

    `limits` are the `max_iter` and `tol` of `run_em`.
    """
    family, posterior = start
    if "K" in varying and family.loadings.shape[1]:
        chart = family.chart
        rows = rows_of(chart, "K") & ~gain_entries(chart, on_states=False)
        size = float(np.sqrt(np.mean(family.bias[rows] ** 2))) if rows.any() else 0.0
        family = release(family, rows, size)
    weighted = with_gap_weights(sequences, family)
    return run_em(weighted, family, posterior, points, **limits)


def _learn(sequences, family, posterior, points, spent, on_states) -> EMResult:
    moving = np.zeros((family.loadings.shape[1] + 1, len(family.bias)), dtype=bool)
    # What looks like a noisy sequence may be a disturbance.
    moving[:-1, rows_of(family.chart, "noise")] = True
    moving[-1] = gain_entries(family.chart, on_states)
    # Where values are missing, their weights follow the gain.
    n_rounds = 1 if sequences.observed.all() else WEIGHT_ROUNDS
    bounds, gains = [], []
    for _ in range(n_rounds):
        weighted = with_gap_weights(sequences, family)
        result = run_em(
            weighted, family, posterior, points, max_iter=GAIN_ITERATIONS // n_rounds, tol=2e-4,
            held=Held(moving, spent),
        )  # fmt: skip
        family, posterior = result.family, result.posterior
        bounds, gains = bounds + result.bounds, gains + result.gains
    return result._replace(bounds=bounds, gains=gains)
