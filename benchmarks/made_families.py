"""Synthetic families beside those of `mtds_sklearn.datasets`; bunches of the same form.

oscillators, pushed         process noise moves the states of two oscillators
oscillators, noise varies   every sequence has a noise level of its own
eight outputs               three oscillators, whose frequencies, half-lives and outputs lie on
                            a curved three-dimensional manifold
promotions                  stores with four promotions, whose effects differ independently
"""

import numpy as np
from sklearn.utils import Bunch, check_random_state

from mtds_sklearn import _families
from mtds_sklearn.datasets import make_oscillators

PUSH_STD = 0.05  # of the process noise of every state
NOISE_DEGREES = 4  # of freedom of the inverse chi-square distribution of noise variances
N_PROMOTIONS = 4


def make_pushed_oscillators(n_sequences=40, n_steps=80, *, random_state=None) -> Bunch:
    """Two oscillators of `make_oscillators` whose states receive N(0, PUSH_STD^2) every step."""
    rng = check_random_state(random_state)
    bunch = make_oscillators(n_sequences, n_steps, random_state=rng)
    state = bunch.parameters["x0"][:, :, None].copy()
    mean = np.empty((n_sequences, n_steps))
    for t in range(n_steps):
        mean[:, t] = (bunch.parameters["C"] @ state)[:, 0, 0]
        state = bunch.parameters["A"] @ state + PUSH_STD * rng.standard_normal(state.shape)
    y = mean + bunch.noise_std * rng.standard_normal(mean.shape)
    return Bunch(**(bunch | {"mean": mean.ravel(), "y": y.ravel()}))


def make_unequally_noisy_oscillators(n_sequences=40, n_steps=80, *, random_state=None) -> Bunch:
    """Two oscillators; noise variance 0.05^2 times NOISE_DEGREES / chi^2 of as many degrees."""
    rng = check_random_state(random_state)
    bunch = make_oscillators(n_sequences, n_steps, random_state=rng)
    level = np.sqrt(NOISE_DEGREES / rng.chisquare(NOISE_DEGREES, n_sequences))
    noise = bunch.noise_std * level[bunch.groups] * rng.standard_normal(len(bunch.y))
    bunch.parameters["noise_level"] = level
    return Bunch(**(bunch | {"y": bunch.mean + noise}))


def make_eight_outputs(n_sequences=200, n_steps=60, *, random_state=None) -> Bunch:
    """Three oscillators seen through eight outputs, noise 0.1; z ~ N(0, I_3) moves everything.

    See `eight_output_means`.
    """
    rng = check_random_state(random_state)
    z = rng.standard_normal((n_sequences, 3))
    mean = eight_output_means(z, n_steps).reshape(-1, 8)
    return Bunch(
        X=np.zeros((len(mean), 1)),
        y=mean + 0.1 * rng.standard_normal(mean.shape),
        groups=np.repeat(np.arange(n_sequences), n_steps),
        times=np.tile(np.arange(n_steps), n_sequences),
        mean=mean,
        parameters={"z": z},
        noise_std=0.1,
    )


def eight_output_means(z: np.ndarray, n_steps: int) -> np.ndarray:
    """Outputs (n, n_steps, 8) without noise at latents z (n, 3).

    Frequencies are (10, 20, 35) degrees a step times exp(0.15 z), half-lives (40, 25, 15) steps
    times exp(0.3 z'), with z' = z rotated in its coordinates; outputs are fixed mixtures of six
    states plus 0.3 z times others.
    """
    fixed = np.random.RandomState(8)  # one and the same family whatever the seed
    mixing, moved = fixed.standard_normal((8, 6)), fixed.standard_normal((3, 8, 6))
    frequency = np.deg2rad([10, 20, 35]) * np.exp(0.15 * z)
    half_life = np.array([40, 25, 15]) * np.exp(0.3 * np.roll(z, 1, axis=1))
    t = np.arange(n_steps)[:, None]
    envelope = 0.5 ** (t / half_life[:, None])
    phase = t * frequency[:, None]
    states = np.concatenate([envelope * np.sin(phase), envelope * np.cos(phase)], axis=2)
    C = (mixing + 0.3 * np.einsum("nk,kps->nps", z, moved)) / np.sqrt(6)
    return states @ C.swapaxes(1, 2)


def make_promotions(n_sequences=100, n_steps=84, *, random_state=None) -> Bunch:
    """Stores of `make_stores` with N_PROMOTIONS inputs: every store responds to each in its way."""
    rng = check_random_state(random_state)
    parameters = _families.stores(rng, n_sequences)
    inputs = [_families.promotions(rng, n_sequences, n_steps) for _ in range(N_PROMOTIONS)]
    inputs = np.concatenate(inputs, axis=2)
    parameters["B"] = np.zeros((n_sequences, 7, N_PROMOTIONS))
    parameters["B"][:, 6] = rng.uniform(0, 0.3, (n_sequences, N_PROMOTIONS))
    parameters["D"] = rng.uniform(0.1, 0.6, (n_sequences, 1, N_PROMOTIONS))
    mean = _families.simulate(parameters, inputs).ravel()
    return Bunch(
        X=inputs.reshape(-1, N_PROMOTIONS),
        y=mean + 0.1 * rng.standard_normal(mean.shape),
        groups=np.repeat(np.arange(n_sequences), n_steps),
        times=np.tile(np.arange(n_steps), n_sequences),
        mean=mean,
        parameters=parameters,
        noise_std=0.1,
    )
