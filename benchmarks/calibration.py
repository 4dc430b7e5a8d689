"""Coverage of forecast intervals on held-out sequences of every synthetic family.

For every number of known rows, over several training sets, each with test sequences of its own:
the share of what follows that lies inside the 50, 90 and 95 % intervals, the standard error of the
90 % figure (over sequences and training sets), the negative log density in nats per value and the
root mean square error in standard deviations of y. The last family, bouncing balls, no linear
system represents.

    python benchmarks/calibration.py
    python benchmarks/calibration.py --n-train 10 20 --families "two oscillators" --contexts 5 20
"""

import argparse
import datetime
import time
import warnings
from typing import NamedTuple

import numpy as np

import mtds_sklearn
from mtds_sklearn import MTLDSRegressor, PooledLDS, mask_future
from mtds_sklearn import datasets as families

CASES = {
    "one oscillator": (families.make_oscillators, {"n_oscillators": 1}, (2, 2)),
    "two oscillators": (families.make_oscillators, {"n_oscillators": 2}, (4, 4)),
    "input-driven": (families.make_input_driven, {}, (4, 6)),
    "drug response": (families.make_drug_response, {}, (8, 8)),
    "stores": (families.make_stores, {}, (10, 10)),
    "bouncing balls": (families.make_bouncing_balls, {}, (6, 4)),
}
LEVELS = (0.025, 0.05, 0.25, 0.75, 0.95, 0.975)
# Labels of test sequences that no training set uses: a seen label would stand for its posterior.
FIRST_TEST_LABEL = 1_000_000


class Scores(NamedTuple):
    """One row per test sequence; all but the last are means over its hidden values."""

    inside: np.ndarray  # (n, 3), of the 50, 90 and 95 % intervals
    log_density: np.ndarray
    squared_error: np.ndarray
    n_hidden: np.ndarray


def measure(model, new, context: int) -> Scores:
    """Score the forecasts of what follows the first `context` rows of every sequence."""
    known = mask_future(new.y, new.groups, new.times, context)
    rows = {"groups": new.groups + FIRST_TEST_LABEL, "times": new.times, "y_context": known}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mean, q = model.predict(new.X, quantiles=LEVELS, **rows)
        log_density = model.forecast_log_density(new.X, new.y, **rows)
    for text in sorted({str(warning.message) for warning in caught}):
        print("  warning:", text, flush=True)
    hidden = np.isnan(known) & np.isfinite(new.y)
    inside = [(new.y > q[..., j]) & (new.y < q[..., -1 - j]) for j in (2, 1, 0)]
    squared = ((new.y - mean) / np.nanstd(new.y, axis=0)) ** 2
    values = [*inside, log_density, squared, np.ones(new.y.shape)]
    sums = np.array([_sum_by_sequence(np.where(hidden, v, 0.0), new.groups) for v in values])
    sums = sums[:, sums[-1] > 0]
    return Scores(sums[:3].T, sums[3], sums[4], sums[5])


def _sum_by_sequence(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return np.bincount(groups, values.reshape(len(groups), -1).sum(axis=1))


def summary(scores: list[Scores]) -> list[str]:
    """Cells of the table from the scores of all training sets."""
    count = np.concatenate([s.n_hidden for s in scores])
    inside = np.concatenate([s.inside for s in scores])
    share = inside.sum(axis=0) / count.sum()
    # Ratio estimator over sequences; training sets add what they do not share.
    residual = [s.inside[:, 1] - share[1] * s.n_hidden for s in scores]
    error = np.sqrt(sum(np.sum(r**2) for r in residual)) / count.sum()
    if len(scores) > 1:
        by_set = [r.sum() / s.n_hidden.sum() for r, s in zip(residual, scores, strict=True)]
        error = max(error, np.std(by_set, ddof=1) / np.sqrt(len(by_set)))
    density = -np.concatenate([s.log_density for s in scores]).sum() / count.sum()
    rms = np.sqrt(np.concatenate([s.squared_error for s in scores]).sum() / count.sum())
    return [*(f"{100 * x:.1f}" for x in (*share, error)), f"{density:.3f}", f"{rms:.3f}"]


def make_model(kind: str, size: tuple[int, int]):
    n_states, latent_dim = size
    if kind == "pooled":
        return PooledLDS(n_states)
    return MTLDSRegressor(n_states, latent_dim, random_state=0)


def run(name: str, kind: str, n_train: int | None, args: argparse.Namespace) -> None:
    make, options, size = CASES[name]
    results, seconds = {}, []
    for seed in args.seeds:
        count = {} if n_train is None else {"n_sequences": n_train}
        train = make(random_state=seed, **options, **count)
        new = make(random_state=10_000 + seed, **options, n_sequences=args.n_test)
        start = time.perf_counter()
        model = make_model(kind, size).fit(train.X, train.y, groups=train.groups, times=train.times)
        seconds.append(time.perf_counter() - start)
        for context in args.contexts:
            results.setdefault(context, []).append(measure(model, new, context))
    shown_size = "default" if n_train is None else n_train
    for context, scores in results.items():
        cells = [name, kind, str(shown_size), str(context), *summary(scores)]
        print(f"| {' | '.join(cells)} | {np.mean(seconds):.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of the training sets")
    add("--families", nargs="+", default=list(CASES), choices=list(CASES))
    add("--models", nargs="+", default=["multi-task"], choices=["multi-task", "pooled"])
    add("--contexts", type=int, nargs="+", default=[0, 1, 2, 5, 10, 20, 40])
    add("--n-train", type=int, nargs="+", default=[None], help="default: the family's own")
    add("--n-test", type=int, default=200, help="test sequences of each training set")
    args = parser.parse_args()
    print(f"{datetime.date.today()}, mtds_sklearn {mtds_sklearn.__version__}, seeds {args.seeds},")
    print(f"{args.n_test} test sequences each; coverage in %\n")
    columns = "family | model | N | known | in 50 % | in 90 % | in 95 % | +- | -log density | error"
    print(f"| {columns} | fit s |")
    print("| :--- | :--- |" + " ---: |" * 9)
    for name in args.families:
        for n_train in args.n_train:
            for kind in args.models:
                run(name, kind, n_train, args)


if __name__ == "__main__":
    main()
