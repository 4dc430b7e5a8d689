"""Draws and systems behind the synthetic families of `datasets`, on plain arrays."""

import numpy as np
from numpy.random import RandomState
from scipy.linalg import expm


def oscillators(rng: RandomState, n_sequences: int, n_oscillators: int) -> dict:
    """Draw frequencies and half-lives of one or two oscillators, and their systems."""
    two = n_oscillators == 2
    frequencies = [(6.75, 18), (22.5, 36)] if two else [(6.75, 36)]
    frequency = _uniform(rng, n_sequences, frequencies)
    half_life = _uniform(rng, n_sequences, [(4, 80), (8, 60)] if two else [(4, 80)])
    decay = np.repeat(0.5 ** (1 / half_life), 2, axis=1)[:, None]
    parameters = _systems(
        n_sequences,
        A=_rotations(np.deg2rad(frequency)) * decay,
        C=np.tile([1, 0], n_oscillators),
        x0=np.array([0, 1, 0, -0.5])[: 2 * n_oscillators],
    )
    return parameters | {"frequency": frequency, "half_life": half_life}


def balls(rng: RandomState, n_sequences: int) -> dict:
    """Draw start, gravity and restitution of balls, each (n_sequences,)."""
    draws = _uniform(rng, n_sequences, [(0.5, 2), (-1, 1), (6, 12), (0.6, 0.95)])
    names = ("initial_height", "initial_speed", "gravity", "restitution")
    return dict(zip(names, draws.T.copy(), strict=True))


def signed_entries(rng: RandomState, n_sequences: int) -> dict:
    """Draw the sign and the state of the input, and the offset, of one four-state system."""
    rotation = _rotations(np.array([[0.03, 0.02]]))
    parameters = _systems(
        n_sequences,
        A=rotation * np.array([0.99, 0.8, 0.3, 0.9]),
        C=np.full(4, 0.25),
        x0=np.zeros(4),
    )
    entry = rng.randint(4, size=n_sequences)
    parameters["B"][np.arange(n_sequences), entry, 0] = rng.choice([-1, 1], size=n_sequences)
    parameters["offset"][:] = rng.standard_normal((n_sequences, 1))
    return parameters


def patients(rng: RandomState, n_sequences: int, n_steps: int) -> dict:
    """Draw rates, sensitivities, offsets and lengths of patients, and their systems."""
    log_normal = np.exp(0.3 * rng.standard_normal((n_sequences, 6)))
    rates = log_normal[:, :4] * [0.12, 0.11, 0.055, 0.3]
    sensitivity = log_normal[:, 4:] * [8, 12]
    A, B = _discretised_compartments(rates)
    C = -sensitivity[:, :, None] * np.array([0, 0, 1])
    parameters = _systems(n_sequences, A=A, C=C, x0=np.zeros(3))
    parameters["B"][:] = B
    parameters["offset"][:] = [125, 94] + [12, 3] * rng.standard_normal((n_sequences, 2))
    length = rng.randint((n_steps + 1) // 2, n_steps + 1, size=n_sequences)
    return parameters | {"rates": rates, "sensitivity": sensitivity, "length": length}


def stores(rng: RandomState, n_sequences: int) -> dict:
    """Draw season, response to promotions and offset of stores, and their systems."""
    parameters = _systems(
        n_sequences,
        A=np.zeros((7, 7)),
        C=np.array([1, 0, 1, 0, 1, 0, 1]),
        x0=np.array([0.4, -0.2, 0.2, 0.1, -0.1, 0.1, 0]),
    )
    carry_over = rng.uniform(0.4, 0.9, n_sequences)
    parameters["A"][:, :6, :6] = _rotations(2 * np.pi / 7 * np.array([[1, 2, 3]]))
    parameters["A"][:, 6, 6] = carry_over
    parameters["B"][:, 6, 0] = rng.uniform(0, 0.3, n_sequences)
    parameters["D"][:, 0, 0] = rng.uniform(0.1, 0.6, n_sequences)
    parameters["offset"][:] = 3 + 0.5 * rng.standard_normal((n_sequences, 1))
    parameters["x0"][:, :6] += 0.15 * rng.standard_normal((n_sequences, 6))
    return parameters | {"carry_over": carry_over}


def smooth_inputs(rng: RandomState, n_sequences: int, n_steps: int) -> np.ndarray:
    """Draw Gaussian processes (n_sequences, n_steps, 1), covariance exp(-(t - t')^2 / 6^2)."""
    steps = np.arange(n_steps)
    # The jitter makes the factorisation of this nearly singular covariance succeed.
    covariance = np.exp(-(((steps[:, None] - steps) / 6) ** 2)) + 1e-8 * np.eye(n_steps)
    draws = rng.standard_normal((n_sequences, n_steps))
    return (draws @ np.linalg.cholesky(covariance).T)[:, :, None]


def infusions(rng: RandomState, n_sequences: int, n_steps: int) -> np.ndarray:
    """Draw infusion rates (n_sequences, n_steps, 1): five constant stretches plus boluses."""
    levels = rng.uniform(0, 0.5, (n_sequences, 5)) * (rng.random_sample((n_sequences, 5)) > 0.2)
    changes = rng.random_sample((n_sequences, 1, 4)) * n_steps
    stretch = (np.arange(n_steps)[:, None] >= changes).sum(axis=2)
    infusion = np.take_along_axis(levels, stretch, axis=1)
    infusion[:, 0] += rng.uniform(1, 3, n_sequences)
    second = rng.randint(n_steps, size=n_sequences)
    given = rng.random_sample(n_sequences) < 0.7
    infusion[np.arange(n_sequences), second] += given * rng.uniform(0.5, 2, n_sequences)
    return infusion[:, :, None]


def promotions(rng: RandomState, n_sequences: int, n_steps: int) -> np.ndarray:
    """Draw 0/1 runs (n_sequences, n_steps, 1): one starts with probability 0.08 a day, mean 4."""
    draws = rng.random_sample((n_sequences, n_steps))
    promotions = np.zeros((n_sequences, n_steps, 1))
    running = np.zeros(n_sequences, dtype=bool)
    for t in range(n_steps):
        running = draws[:, t] < np.where(running, 0.75, 0.08)
        promotions[:, t, 0] = running
    return promotions


def simulate(parameters: dict[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """Run the linear systems over inputs (n_sequences, n_steps, n_inputs) to their means."""
    A, B, C, D = (parameters[name] for name in "ABCD")
    state = parameters["x0"][:, :, None]
    mean = np.empty((*inputs.shape[:2], C.shape[1]))
    for t in range(inputs.shape[1]):
        u = inputs[:, t, :, None]
        state = state + B @ u
        mean[:, t] = (C @ state + D @ u)[:, :, 0] + parameters["offset"]
        state = A @ state
    return mean


def bounce(
    seconds: np.ndarray,
    initial_height: np.ndarray,
    initial_speed: np.ndarray,
    gravity: np.ndarray,
    restitution: np.ndarray,
) -> np.ndarray:
    """Heights (n_sequences, n_steps) of balls at given times (n_steps,), in closed form."""
    height, speed = initial_height[:, None], initial_speed[:, None]
    gravity, restitution = gravity[:, None], restitution[:, None]
    impact = np.sqrt(speed**2 + 2 * gravity * height)
    after = seconds - (speed + impact) / gravity  # time since the first impact
    # Flight k = 1, 2, .. starts with speed impact * restitution^k, so the start times are a
    # geometric series; past its limit (remaining <= 0) the tiny bound makes a ball lie still.
    remaining = restitution - after * gravity / (2 * impact) * (1 - restitution)
    flight = np.floor(np.log(np.clip(remaining, 1e-300, restitution)) / np.log(restitution))
    lift = impact * restitution**flight
    flown = after - 2 * impact / gravity * (restitution - restitution**flight) / (1 - restitution)
    bouncing = lift * flown - gravity * flown**2 / 2
    falling = height + speed * seconds - gravity * seconds**2 / 2
    return np.maximum(np.where(after < 0, falling, bouncing), 0)


def _uniform(rng: RandomState, n_sequences: int, ranges: list[tuple]) -> np.ndarray:
    """Draw one column per range, shape (n_sequences, n_ranges)."""
    low, high = np.array(ranges, dtype=float).T
    return low + (high - low) * rng.random_sample((n_sequences, len(ranges)))


def _systems(
    n_sequences: int, *, A: np.ndarray, C: np.ndarray, x0: np.ndarray
) -> dict[str, np.ndarray]:
    """Give every sequence its own copy of a system with one input, B = 0, D = 0 and no offset.

    A, C and x0 may be those of one system or have a leading axis of sequences; one row of C for
    one output.
    """
    C = C if C.ndim == 3 else C[None, None]
    n_states, n_outputs = A.shape[-1], C.shape[1]
    return {
        "A": np.array(np.broadcast_to(A, (n_sequences, n_states, n_states)), dtype=float),
        "B": np.zeros((n_sequences, n_states, 1)),
        "C": np.array(np.broadcast_to(C, (n_sequences, n_outputs, n_states)), dtype=float),
        "D": np.zeros((n_sequences, n_outputs, 1)),
        "offset": np.zeros((n_sequences, n_outputs)),
        "x0": np.array(np.broadcast_to(x0, (n_sequences, n_states)), dtype=float),
    }


def _rotations(angles: np.ndarray) -> np.ndarray:
    """Put rotations by angles (n, n_blocks) rad on the diagonals of matrices (n, 2k, 2k)."""
    n, n_blocks = angles.shape
    matrices = np.zeros((n, n_blocks, 2, n_blocks, 2))
    block = np.arange(n_blocks)
    matrices[:, block, 0, block, 0] = matrices[:, block, 1, block, 1] = np.cos(angles)
    matrices[:, block, 0, block, 1] = np.sin(angles)
    matrices[:, block, 1, block, 0] = -np.sin(angles)
    return matrices.reshape(n, 2 * n_blocks, 2 * n_blocks)


def _discretised_compartments(rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact (A, B) over one minute of constant infusion; rates (n, 4) as k10, k12, k21, ke0.

    The exponential of [[F, b], [0, 0]] holds exp(F) and the integral of exp(F s) b.
    """
    k10, k12, k21, ke0 = rates.T
    generator = np.zeros((len(rates), 4, 4))
    generator[:, 0, 0] = -(k10 + k12)
    generator[:, 0, 1], generator[:, 1, 0] = k21, k12
    generator[:, 1, 1] = -k21
    generator[:, 2, 0], generator[:, 2, 2] = ke0, -ke0
    generator[:, 0, 3] = 1
    step = expm(generator)
    return step[:, :3, :3], step[:, :3, 3:]
