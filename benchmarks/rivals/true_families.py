"""What the synthetic families are made of, for a predictor that knows all but a sequence's numbers.

Every family maps places in the unit cube, one coordinate per number that varies, to what a
sequence with these numbers does. The formulas are those of `mtds_sklearn.datasets` and
`made_families`, written once more in closed form, so that thousands of draws are cheap.
"""

from collections.abc import Callable
from typing import NamedTuple

import made_families
import numpy as np
from scipy.special import ndtri
from sequences import Sequence

from rivals.pushed_kernel import filter_pushed


class Said(NamedTuple):
    """What every draw says of a sequence's rows: a Student t, normal with infinite degrees."""

    mean: np.ndarray  # (n_draws, n_rows, n_outputs)
    scale: np.ndarray  # as mean
    degrees: np.ndarray  # (n_rows,)
    log_likelihood: np.ndarray  # (n_draws, n_rows + 1), of the first rows, up to a constant


class TrueFamily(NamedTuple):
    """Number of coordinates; what draws (n_draws, dim) say given the first `n_known` rows."""

    dim: int
    says: Callable[[np.ndarray, Sequence, int], Said]


def _deterministic(simulate: Callable, noise_std: np.ndarray, degrees: float = np.inf) -> Callable:
    """What simulated means say, with noise variances noise_std^2 degrees / chi^2(degrees).

    Infinite degrees: all sequences have the same.
    """

    def says(places: np.ndarray, sequence: Sequence, n_known: int) -> Said:
        mean = simulate(places, sequence.inputs)
        seen = np.isfinite(sequence.outputs)
        seen[n_known:] = False
        error = np.where(seen, (mean - np.where(seen, sequence.outputs, 0)) / noise_std, 0)
        squares = np.zeros((len(places), len(seen) + 1))
        np.cumsum(np.sum(error**2, axis=2), axis=1, out=squares[:, 1:])
        n = np.concatenate([[0], np.cumsum(seen.sum(axis=1))])
        if np.isinf(degrees):
            scale = np.broadcast_to(noise_std, mean.shape)
            return Said(mean, scale, np.full(len(seen), np.inf), -0.5 * squares)
        level = np.sqrt((degrees + squares) / (degrees + n))[:, :-1, None]
        log_likelihood = -0.5 * (degrees + n) * np.log1p(squares / degrees)
        return Said(mean, level * noise_std, degrees + n[:-1], log_likelihood)

    return says


def _between(places: np.ndarray, low: float, high: float) -> np.ndarray:
    return low + (high - low) * places


def _filtered(u: np.ndarray, poles: np.ndarray) -> np.ndarray:
    """g_t = pole g_{t-1} + u_t for many poles (n_draws,): (n_draws, n_rows)."""
    g = np.empty((len(u), len(poles)))
    state = np.zeros(len(poles))
    for t, value in enumerate(u):
        state = poles * state + value
        g[t] = state
    return g.T


def _damped_sine(frequency: np.ndarray, half_life: np.ndarray, t: np.ndarray) -> np.ndarray:
    return 0.5 ** (t / half_life[:, None]) * np.sin(np.deg2rad(frequency)[:, None] * t)


def one_oscillator(places: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    t = np.arange(len(inputs))
    frequency, half_life = _between(places[:, 0], 6.75, 36), _between(places[:, 1], 4, 80)
    return _damped_sine(frequency, half_life, t)[:, :, None]


def two_oscillators(places: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    t = np.arange(len(inputs))
    slow = _damped_sine(_between(places[:, 0], 6.75, 18), _between(places[:, 1], 4, 80), t)
    fast = _damped_sine(_between(places[:, 2], 22.5, 36), _between(places[:, 3], 8, 60), t)
    return (slow - 0.5 * fast)[:, :, None]


def eight_outputs(places: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    return made_families.eight_output_means(ndtri(places), len(inputs))


def drug_response(places: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Effect-site concentration by partial fractions of its transfer function.

    ke0 (s + k21) / [(s + ke0) (s^2 + (k10 + k12 + k21) s + k10 k21)], input constant within a
    minute.
    """
    normal = ndtri(places)
    k10, k12, k21, ke0 = (np.exp(0.3 * normal[:, :4]) * [0.12, 0.11, 0.055, 0.3]).T
    sensitivity = np.exp(0.3 * normal[:, 4:6]) * [8, 12]
    half, product = (k10 + k12 + k21) / 2, k10 * k21
    root = np.sqrt(half**2 - product)
    poles = np.stack([-half + root, -half - root, -ke0])
    effect = 0.0
    for j, pole in enumerate(poles):
        others = np.prod(pole - np.delete(poles, j, axis=0), axis=0)
        gain = ke0 * (pole + k21) / others * np.expm1(pole) / pole
        effect = effect + gain[:, None] * _filtered(inputs[:, 0], np.exp(pole))
    offset = [125, 94] + [12, 3] * normal[:, 6:8]
    return offset[:, None] - sensitivity[:, None] * effect[:, :, None]


def stores(places: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Season, level and carry-over; then lift and effect at once of every promotion in turn."""
    phase = 2 * np.pi / 7 * np.arange(len(inputs))[:, None] * np.array([1, 2, 3])
    waves = np.stack([np.cos(phase), np.sin(phase)], axis=2).reshape(len(inputs), 6)
    profile = np.array([0.4, -0.2, 0.2, 0.1, -0.1, 0.1]) + 0.15 * ndtri(places[:, :6])
    level = 3 + 0.5 * ndtri(places[:, 6])
    carry_over = _between(places[:, 7], 0.4, 0.9)
    mean = level[:, None] + profile @ waves.T
    for promotion, effects in zip(
        inputs.T, np.split(places[:, 8:], inputs.shape[1], axis=1), strict=True
    ):
        lift, at_once = _between(effects[:, :1], 0, 0.3), _between(effects[:, 1:], 0.1, 0.6)
        mean = mean + at_once * promotion + lift * _filtered(promotion, carry_over)
    return mean[:, :, None]


def bouncing_balls(places: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Heights by following every flight: time since the last impact, and the speed after it."""
    ranges = ((0.5, 2), (-1, 1), (6, 12), (0.6, 0.95))
    height, speed, gravity, restitution = (
        _between(places[:, j], *ends) for j, ends in enumerate(ranges)
    )
    impact = np.sqrt(speed**2 + 2 * gravity * height)
    start, lift, base = np.zeros(len(places)), speed, height  # of the present flight
    end = (speed + impact) / gravity
    mean = np.empty((len(places), len(inputs)))
    for row in range(len(inputs)):
        seconds = 0.05 * row
        for _ in range(50):
            over = (end <= seconds) & (impact > 1e-3)
            if not over.any():
                break
            impact = np.where(over, restitution * impact, impact)
            start, lift = np.where(over, end, start), np.where(over, impact, lift)
            base = np.where(over, 0.0, base)
            end = np.where(over, end + 2 * impact / gravity, end)
        flown = seconds - start
        mean[:, row] = np.maximum(base + lift * flown - gravity * flown**2 / 2, 0)
    return mean[:, :, None]


def _pushed(places: np.ndarray, sequence: Sequence, n_known: int) -> Said:
    frequency = np.stack([_between(places[:, 0], 6.75, 18), _between(places[:, 2], 22.5, 36)])
    half_life = np.stack([_between(places[:, 1], 4, 80), _between(places[:, 3], 8, 60)])
    mean, variance, log_likelihood = filter_pushed(
        0.5 ** (1 / half_life.T), np.deg2rad(frequency.T), np.array([0, 1, 0, -0.5]),
        made_families.PUSH_STD, 0.05, sequence.outputs[:, 0], n_known,
    )  # fmt: skip
    degrees = np.full(len(sequence.outputs), np.inf)
    return Said(mean[:, :, None], np.sqrt(variance)[:, :, None], degrees, log_likelihood)


TRUE_FAMILIES = {
    "one oscillator": TrueFamily(2, _deterministic(one_oscillator, np.array([0.05]))),
    "two oscillators": TrueFamily(4, _deterministic(two_oscillators, np.array([0.05]))),
    "oscillators, pushed": TrueFamily(4, _pushed),
    "oscillators, noise varies": TrueFamily(
        4, _deterministic(two_oscillators, np.array([0.05]), made_families.NOISE_DEGREES)
    ),
    "eight outputs": TrueFamily(3, _deterministic(eight_outputs, np.full(8, 0.1))),
    "drug response": TrueFamily(8, _deterministic(drug_response, np.array([2.0, 2.0]))),
    "stores": TrueFamily(10, _deterministic(stores, np.array([0.1]))),
    "promotions": TrueFamily(16, _deterministic(stores, np.array([0.1]))),
    "bouncing balls": TrueFamily(4, _deterministic(bouncing_balls, np.array([0.05]))),
}
