"""Process noise: an estimator against the Kalman filter that knows each sequence's parameters.

One damped oscillation a sequence, y = x[0] + noise of 0.05, frequencies U(10, 30) degrees a step,
half-lives U(8, 60) steps; the state is pushed by normal shocks of a given size in every step, or of
none.

    python benchmarks/disturbance.py
    python benchmarks/disturbance.py --seeds 0 --pushes 0.05 --set disturbance=joint

Columns: `fit` seconds; what was found; `one step`: log density per value of the rows after the
first 20, each given all before, in nats, of the estimator and of the filter; `share` of what the
filter has; `known`: the same of filters that know the family and the push, and weigh a grid of
parameters by what they have seen; `NLL c`: negative log density per value of what follows c rows.
"""

import argparse
import time
import warnings

import numpy as np
from scipy.special import logsumexp

from mtds_sklearn import MTLDSRegressor

N_STEPS, NOISE, FIRST, CONTEXTS = 80, 0.05, 20, (10, 20, 40)
FIRST_TEST_LABEL = 1_000_000


def draw(n, push, seed):
    """Outputs (n, N_STEPS), and their log densities by the filter that knows A and the push."""
    rng = np.random.default_rng(seed)
    angle, half_life = np.deg2rad(rng.uniform(10, 30, n)), rng.uniform(8, 60, n)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    A = 0.5 ** (1 / half_life)[:, None, None] * np.moveaxis(turn, 2, 0)
    x = np.tile([0.0, 1.0], (n, 1))
    y, density = np.empty((n, N_STEPS)), np.empty((n, N_STEPS))
    mean, P = x.copy(), np.zeros((n, 2, 2))
    for t in range(N_STEPS):
        y[:, t] = x[:, 0] + NOISE * rng.standard_normal(n)
        variance, error = P[:, 0, 0] + NOISE**2, y[:, t] - mean[:, 0]
        density[:, t] = -0.5 * (error**2 / variance + np.log(2 * np.pi * variance))
        gain = P[:, :, 0] / variance[:, None]
        mean = np.einsum("nij,nj->ni", A, mean + gain * error[:, None])
        P = P - gain[:, :, None] * gain[:, None] * variance[:, None, None]
        P = A @ P @ np.swapaxes(A, 1, 2) + push**2 * np.eye(2)
        x = np.einsum("nij,nj->ni", A, x) + push * rng.standard_normal((n, 2))
    return y, density


def knowing_the_family(y, push):
    """Log densities (n, N_STEPS) of the mixture of filters of all sequences that there may be."""
    angle, half_life = np.meshgrid(
        np.deg2rad(10 + 20 * (np.arange(40) + 0.5) / 40), 8 + 52 * (np.arange(30) + 0.5) / 30
    )
    angle, half_life = angle.ravel(), half_life.ravel()
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    A = 0.5 ** (1 / half_life)[:, None, None] * np.moveaxis(turn, 2, 0)
    mean, P = np.tile([0.0, 1.0], (len(y), len(A), 1)), np.zeros_like(A)
    density, log_weights = np.empty_like(y), np.full((len(y), len(A)), -np.log(len(A)))
    for t in range(N_STEPS):
        variance, error = P[:, 0, 0] + NOISE**2, y[:, t, None] - mean[..., 0]
        log_weights -= 0.5 * (error**2 / variance + np.log(2 * np.pi * variance))
        density[:, t] = logsumexp(log_weights, axis=1)
        log_weights -= density[:, t, None]
        gain = P[:, :, 0] / variance[:, None]
        mean = np.einsum("gij,ngj->ngi", A, mean + gain * error[..., None])
        P = P - gain[:, :, None] * gain[:, None] * variance[:, None, None]
        P = A @ P @ np.swapaxes(A, 1, 2) + push**2 * np.eye(2)
    return density


def rows_of(y, first_label=0):
    n = len(y)
    return {
        "X": np.zeros((y.size, 1)),
        "groups": np.repeat(np.arange(n) + first_label, N_STEPS),
        "times": np.tile(np.arange(N_STEPS), n),
    }


def measure(push, seed, options):
    train, _ = draw(40, push, seed)
    test, density = draw(60, push, seed + 10_000)
    model, start = MTLDSRegressor(random_state=0, **options), time.perf_counter()
    model.fit(y=train.ravel(), **rows_of(train))
    seconds, new = time.perf_counter() - start, rows_of(test, FIRST_TEST_LABEL)
    y, late = test.ravel(), new["times"] >= FIRST
    one = model.forecast_log_density(y=y, y_context=y, horizon=1, **new)[late].mean()
    known = density[:, FIRST:].mean()
    shares = one / known, knowing_the_family(test, push)[:, FIRST:].mean() / known
    far = []
    for c in CONTEXTS:
        context = np.where(new["times"] < c, y, np.nan)
        values = model.forecast_log_density(y=y, y_context=context, **new)
        far.append(-values[new["times"] >= c].mean())
    found = f"{model.n_states_} {model.disturbance_:6}"
    return seconds, found, one, known, shares, far


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pushes", type=float, nargs="+", default=[0.0, 0.05, 0.1])
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    options = dict(item.split("=", 1) for item in args.set)
    warnings.simplefilter("ignore")
    contexts = " ".join(f"{f'NLL {c}':>7}" for c in CONTEXTS)
    names = f"{'push':>5} {'seed':>4} {'fit':>6} {'found':8} {'one step':>8} {'filter':>7}"
    print(f"{names} share known  {contexts}")
    for push in args.pushes:
        for seed in args.seeds:
            seconds, found, one, known, shares, far = measure(push, seed, options)
            numbers = " ".join(f"{value:7.3f}" for value in far)
            print(
                f"{push:5.2f} {seed:4} {seconds:6.1f} {found:8} {one:8.4f} {known:7.4f} "
                f"{shares[0]:5.3f} {shares[1]:5.3f}  {numbers}",
                flush=True,
            )


if __name__ == "__main__":
    main()
