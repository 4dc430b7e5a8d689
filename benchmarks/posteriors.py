"""Posteriors of new sequences: how long they take, and how many draws they are worth.

After 5, 10, ..., 60 observations of 10 new sequences of the two-oscillator family, 120 posteriors
in all, with the default settings of inference; then one sequence updated row by row.

    python benchmarks/posteriors.py
"""

import argparse
import datetime
import time

import numpy as np
import sklearn

import mtds_sklearn
from mtds_sklearn import MTLDSRegressor, mask_future
from mtds_sklearn.datasets import make_oscillators

LENGTHS = range(5, 61, 5)


def posteriors_at(model, new, length: int) -> tuple:
    """Seconds for the posteriors after the first `length` rows, and effective sample sizes."""
    known = new.times < length
    rows = {"groups": new.groups[known] + 1000, "times": new.times[known]}
    start = time.perf_counter()
    posteriors = model.sequence_posterior(new.X[known], new.y[known], **rows)
    seconds = time.perf_counter() - start
    return seconds, [posterior.ess for posterior in posteriors.values()]


def update_latency(model, new) -> np.ndarray:
    """Seconds of each single-row update of the first sequence, after its first 20 rows."""
    mine = new.groups == new.groups[0]
    X, y = new.X[mine], new.y[mine]
    posterior = model.sequence_posterior(X[:20], y[:20], groups=np.zeros(20))[0.0]
    seconds = []
    for u, value in zip(X[20:], y[20:], strict=True):
        start = time.perf_counter()
        posterior = posterior.update(u, value)
        seconds.append(time.perf_counter() - start)
    return np.array(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    train = make_oscillators(n_oscillators=2, random_state=0)
    new = make_oscillators(n_oscillators=2, n_sequences=10, random_state=10_000)
    model = MTLDSRegressor(n_states=4, latent_dim=4, random_state=0)
    model.fit(train.X, train.y, groups=train.groups, times=train.times)
    model.predict(
        new.X, groups=new.groups + 1000, y_context=mask_future(new.y, new.groups, new.times, 9)
    )
    [posteriors_at(model, new, length) for length in LENGTHS]
    totals, sizes = [], []
    for _ in range(args.repeats):
        results = [posteriors_at(model, new, length) for length in LENGTHS]
        totals.append(sum(seconds for seconds, _ in results))
        sizes = np.concatenate([ess for _, ess in results])
    updates = 1e6 * update_latency(model, new)
    versions = f"mtds_sklearn {mtds_sklearn.__version__}, sklearn {sklearn.__version__}"
    print(f"{datetime.date.today()}, {versions}")
    print("\n| what | least | median | most |\n| :--- | ---: | ---: | ---: |")
    rows = {
        "120 posteriors, s": totals,
        "effective sample size": sizes,
        "one update, microseconds": updates,
    }
    for name, values in rows.items():
        print(f"| {name} | {np.min(values):.3g} | {np.median(values):.3g} | {np.max(values):.3g} |")


if __name__ == "__main__":
    main()
