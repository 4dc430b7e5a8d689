"""Synthetic sequence families with their true parameters.

Every maker returns a `sklearn.utils.Bunch` whose rows are time steps, sequence after sequence:

- ``X`` (n_rows, n_inputs): inputs; one column of zeros where the family has none
- ``y`` (n_rows,) or (n_rows, n_outputs): outputs, NaN where not observed
- ``groups`` (n_rows,) int: the sequence a row belongs to, 0 .. n_sequences - 1
- ``times`` (n_rows,) int: the step within its sequence, from 0
- ``mean``: the outputs without noise, same shape as ``y`` and never NaN
- ``parameters``: dict of arrays, one row per sequence
- ``noise_std`` float and ``DESCR`` str

The parameters of the linear families contain the true system ``A B C D offset x0``::

    s_1 = x0;  x_t = s_t + B u_t;  mean_t = C x_t + D u_t + offset;  s_{t+1} = A x_t.

Parameters and inputs are drawn before the noise, and the noise is drawn at any `noise_std`: one
`random_state` gives the same ``mean`` at every noise level.
"""

from numbers import Integral, Real

import numpy as np
from numpy.random import RandomState
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_scalar

from mtds_sklearn import _families

__all__ = [
    "make_bouncing_balls",
    "make_drug_response",
    "make_input_driven",
    "make_oscillators",
    "make_stores",
]


def make_oscillators(
    n_sequences: int = 40,
    n_steps: int = 80,
    *,
    n_oscillators: int = 2,
    noise_std: float = 0.05,
    random_state: int | RandomState | None = None,
) -> Bunch:
    """Make sums of damped sines whose frequencies and half-lives vary; no inputs, one output.

    With r = 0.5 ** (1 / half_life), y_t = r^t sin(w t) for one oscillator and
    y_t = r1^t sin(w1 t) - 0.5 r2^t sin(w2 t) for two, t = 0 .. n_steps - 1, plus noise.

    Parameters
    ----------
    n_sequences, n_steps : int
        Number of sequences and steps per sequence, at least 1.
    n_oscillators : {1, 2}
        One: frequency ~ U(6.75, 36) degrees a step, half-life ~ U(4, 80) steps.
        Two: frequencies ~ U(6.75, 18), U(22.5, 36), half-lives ~ U(4, 80), U(8, 60).
    noise_std : float
        Standard deviation of the Gaussian noise.
    random_state : int, RandomState instance or None
        Seed of the draws.

    Returns
    -------
    Bunch
        See the module description; ``parameters`` adds ``frequency`` (degrees a step) and
        ``half_life`` (steps), both (n_sequences, n_oscillators).

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type or out of range.
    """
    check_scalar(n_oscillators, "n_oscillators", Integral, min_val=1, max_val=2)
    rng = _checked(n_sequences, n_steps, noise_std, random_state)
    parameters = _families.oscillators(rng, n_sequences, n_oscillators)
    inputs = np.zeros((n_sequences, n_steps, 1))
    mean = _families.simulate(parameters, inputs)
    description = f"Sum of {n_oscillators} damped sine(s), frequency and half-life vary."
    return _bunch(inputs, mean, parameters, noise_std, rng, description)


def make_bouncing_balls(
    n_sequences: int = 40,
    n_steps: int = 80,
    *,
    noise_std: float = 0.05,
    random_state: int | RandomState | None = None,
) -> Bunch:
    """Make heights (metres) of bouncing balls, a family that no linear system represents.

    A ball starts at a height ~ U(0.5, 2) m with an upward speed ~ U(-1, 1) m/s, falls under
    gravity ~ U(6, 12) m/s^2 and leaves the floor with restitution ~ U(0.6, 0.95) times the speed
    of its impact. One step is 0.05 s. No inputs, one output.

    Parameters
    ----------
    n_sequences, n_steps : int
        Number of sequences and steps per sequence, at least 1.
    noise_std : float
        Standard deviation of the Gaussian noise, in metres.
    random_state : int, RandomState instance or None
        Seed of the draws.

    Returns
    -------
    Bunch
        See the module description; ``parameters`` holds ``initial_height``, ``initial_speed``,
        ``gravity`` and ``restitution``, each (n_sequences,).

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type or out of range.
    """
    rng = _checked(n_sequences, n_steps, noise_std, random_state)
    parameters = _families.balls(rng, n_sequences)
    mean = _families.bounce(0.05 * np.arange(n_steps), **parameters)[:, :, None]
    inputs = np.zeros((n_sequences, n_steps, 1))
    description = "Height of a bouncing ball; start, gravity and restitution vary."
    return _bunch(inputs, mean, parameters, noise_std, rng, description)


def make_input_driven(
    n_sequences: int = 120,
    n_steps: int = 80,
    *,
    noise_std: float = 0.05,
    random_state: int | RandomState | None = None,
) -> Bunch:
    """Make one fixed four-state system whose smooth input enters at one state, with either sign.

    The input is a Gaussian process with covariance exp(-(t - t')^2 / 6^2). A is the rotation of
    two planes, by 0.03 and 0.02 rad, after diag(0.99, 0.8, 0.3, 0.9); B is plus or minus a random
    unit vector; C = (1, 1, 1, 1) / 4; the offset ~ N(0, 1).

    Parameters
    ----------
    n_sequences, n_steps : int
        Number of sequences and steps per sequence, at least 1.
    noise_std : float
        Standard deviation of the Gaussian noise.
    random_state : int, RandomState instance or None
        Seed of the draws.

    Returns
    -------
    Bunch
        See the module description; only ``B`` and ``offset`` vary.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type or out of range.
    """
    rng = _checked(n_sequences, n_steps, noise_std, random_state)
    parameters = _families.signed_entries(rng, n_sequences)
    inputs = _families.smooth_inputs(rng, n_sequences, n_steps)
    mean = _families.simulate(parameters, inputs)
    description = "Fixed four-state system, one of eight input vectors B, random offset."
    return _bunch(inputs, mean, parameters, noise_std, rng, description)


def make_drug_response(
    n_sequences: int = 60,
    n_steps: int = 120,
    *,
    missing_fraction: float = 0.1,
    noise_std: float = 2.0,
    random_state: int | RandomState | None = None,
) -> Bunch:
    """Make two responses of patients to an infused drug, of unequal lengths, with gaps.

    A central and a peripheral compartment and an effect site, with rates k10, k12, k21 and ke0
    (1/min), discretised exactly for an infusion that is constant within each minute. The drug at
    the effect site lowers blood pressure (output 0, mmHg) and an index of wakefulness (output 1)
    from patient-specific offsets. A row holds the infusion rate of a minute and the outputs at its
    end. The rates are log-normal (standard deviation 0.3 in logs), as are the sensitivities; the
    offsets are normal: eight numbers vary. Every patient starts with a bolus, most get another,
    and the rate changes four times.

    Parameters
    ----------
    n_sequences : int
        Number of patients, at least 1.
    n_steps : int
        Minutes of the longest possible sequence, at least 1; the shortest has half of them.
    missing_fraction : float
        Probability that a value of y is not observed (NaN), in [0, 1).
    noise_std : float
        Standard deviation of the Gaussian noise of both outputs, in their units.
    random_state : int, RandomState instance or None
        Seed of the draws.

    Returns
    -------
    Bunch
        See the module description; ``parameters`` adds ``rates`` (n_sequences, 4),
        ``sensitivity`` (n_sequences, 2) and ``length`` (n_sequences,).

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type or out of range.
    """
    _check_real(missing_fraction, "missing_fraction", max_val=1)
    rng = _checked(n_sequences, n_steps, noise_std, random_state)
    parameters = _families.patients(rng, n_sequences, n_steps)
    inputs = _families.infusions(rng, n_sequences, n_steps)
    mean = _families.simulate(parameters, inputs)
    description = "Two-compartment drug response: two outputs, infusions, unequal lengths, gaps."
    return _bunch(inputs, mean, parameters, noise_std, rng, description, missing_fraction)


def make_stores(
    n_sequences: int = 100,
    n_steps: int = 84,
    *,
    noise_std: float = 0.1,
    random_state: int | RandomState | None = None,
) -> Bunch:
    """Make daily log sales of stores: offset, weekly season, promotions with carry-over.

    The season is a sum of three undamped rotations (periods 7, 7/2 and 7/3 days), a profile
    common to all stores plus one of each store's own. The input is 1 on days with a promotion,
    which lifts sales at once (D) and leaves a lift that decays by a factor ~ U(0.4, 0.9) a day.

    Parameters
    ----------
    n_sequences, n_steps : int
        Number of stores and of days, at least 1.
    noise_std : float
        Standard deviation of the Gaussian noise.
    random_state : int, RandomState instance or None
        Seed of the draws.

    Returns
    -------
    Bunch
        See the module description; ``parameters`` adds ``carry_over`` (n_sequences,).

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type or out of range.
    """
    rng = _checked(n_sequences, n_steps, noise_std, random_state)
    parameters = _families.stores(rng, n_sequences)
    inputs = _families.promotions(rng, n_sequences, n_steps)
    mean = _families.simulate(parameters, inputs)
    description = "Daily log sales: weekly season, promotion with carry-over, offset, all varying."
    return _bunch(inputs, mean, parameters, noise_std, rng, description)


def _checked(
    n_sequences: int, n_steps: int, noise_std: float, random_state: int | RandomState | None
) -> RandomState:
    """Check what all makers take; return the generator."""
    check_scalar(n_sequences, "n_sequences", Integral, min_val=1)
    check_scalar(n_steps, "n_steps", Integral, min_val=1)
    _check_real(noise_std, "noise_std")
    return check_random_state(random_state)


def _check_real(value: float, name: str, max_val: float = np.inf) -> None:
    """Reject all but numbers in [0, max_val)."""
    check_scalar(value, name, Real, min_val=0, max_val=max_val, include_boundaries="left")
    if np.isnan(value):  # NaN passes any comparison with the bounds
        raise ValueError(f"{name} == nan, must be >= 0 and < {max_val}.")


def _bunch(
    inputs: np.ndarray,
    mean: np.ndarray,
    parameters: dict[str, np.ndarray],
    noise_std: float,
    rng: RandomState,
    description: str,
    missing_fraction: float = 0.0,
) -> Bunch:
    """Add noise and gaps, cut to length and stack the sequences into rows."""
    n_sequences, n_steps, n_outputs = mean.shape
    y = mean + noise_std * rng.standard_normal(mean.shape)
    y[rng.random_sample(mean.shape) < missing_fraction] = np.nan
    length = parameters.get("length", np.full(n_sequences, n_steps))
    kept = np.arange(n_steps) < length[:, None]
    groups, times = np.nonzero(kept)
    y, mean = (y[kept], mean[kept]) if n_outputs > 1 else (y[kept][:, 0], mean[kept][:, 0])
    return Bunch(
        X=inputs[kept],
        y=y,
        groups=groups,
        times=times,
        mean=mean,
        parameters=parameters,
        noise_std=float(noise_std),
        DESCR=description,
    )
