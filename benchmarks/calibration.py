"""Coverage of forecast intervals on held-out sequences of every synthetic family.

For every number of known rows, over several training sets, each with test sequences of its own:
per cent of what follows that lies inside the 50, 90 and 95 % intervals, as the mean over training
sets, the standard deviation between them and that of the mean (over sets, and at least over
sequences). Bold: more than 3 points from what was asked for. Then the negative log density in nats
per value and the root mean square error in standard deviations of y. The last family, bouncing
balls, no linear system represents.

    python benchmarks/calibration.py
    python benchmarks/calibration.py --families "one oscillator" --seeds 100 101 102 --contexts 0

Writes benchmarks/results/calibration.md; rows of families that were not run now stay there.
"""

import argparse
import datetime
import importlib.metadata
import platform
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import made_families as made
import numpy as np

from mtds_sklearn import MTLDSRegressor, PooledLDS, mask_future
from mtds_sklearn import datasets as families

# Makers, their options, numbers of states and latents, and what else the estimator is told. Where
# nothing pushes a family no disturbance is looked for.
CALM = {"disturbance": "none"}
CASES = {
    "one oscillator": (families.make_oscillators, {"n_oscillators": 1}, (2, 2), CALM),
    "two oscillators": (families.make_oscillators, {"n_oscillators": 2}, (4, 4), CALM),
    "oscillators, pushed": (made.make_pushed_oscillators, {}, (4, 4), {}),
    "oscillators, noise varies": (
        made.make_unequally_noisy_oscillators, {}, (4, 4), {"sequence_noise": True}),
    "input-driven": (families.make_input_driven, {}, (4, 6), CALM),
    "drug response": (families.make_drug_response, {}, (8, 8), CALM),
    "stores": (families.make_stores, {}, (10, 10), CALM),
    "eight outputs": (made.make_eight_outputs, {}, (6, 6), CALM),
    "bouncing balls": (families.make_bouncing_balls, {}, (6, 4), {}),
}  # fmt: skip
LEVELS = (0.025, 0.05, 0.25, 0.75, 0.95, 0.975)
ASKED, MOST_OFF = (50.0, 90.0, 95.0), 3.0
# Labels of test sequences that no training set uses: a seen label would stand for its posterior.
FIRST_TEST_LABEL = 1_000_000
COLUMNS = (
    "family", "model", "sets", "known", "in 50 %", "in 90 %", "in 95 %", "-log density",
    "error", "fit s", "date",
)  # fmt: skip
LIBRARIES = ("mtds_sklearn", "numpy", "scipy", "scikit-learn", "numba")
RESULTS = Path(__file__).parent / "results" / "calibration.md"


class Scores(NamedTuple):
    """One row per test sequence; all but the last are sums over its hidden values."""

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
    values = [*inside, _shared_out(log_density, hidden), squared, np.ones(new.y.shape)]
    sums = np.array([_sum_by_sequence(np.where(hidden, v, 0.0), new.groups) for v in values])
    sums = sums[:, sums[-1] > 0]
    return Scores(sums[:3].T, sums[3], sums[4], sums[5])


def _shared_out(log_density: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Log densities of rows as the same share of each hidden value of the row."""
    if log_density.shape == hidden.shape:
        return log_density
    return log_density[:, None] / np.maximum(hidden.sum(axis=1, keepdims=True), 1)


def _sum_by_sequence(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return np.bincount(groups, values.reshape(len(groups), -1).sum(axis=1))


def coverage(scores: list[Scores]) -> tuple:
    """Per cent inside of every training set (n_sets, 3), and standard errors of the mean (3,)."""
    count = np.concatenate([s.n_hidden for s in scores])[:, None]
    inside = np.concatenate([s.inside for s in scores])
    share = inside.sum(axis=0) / count.sum()
    # Ratio estimator over sequences; training sets add what they do not share.
    error = np.sqrt(np.sum((inside - share * count) ** 2, axis=0)) / count.sum()
    by_set = np.array([s.inside.sum(axis=0) / s.n_hidden.sum() for s in scores])
    if len(scores) > 1:
        error = np.maximum(error, np.std(by_set, axis=0, ddof=1) / np.sqrt(len(scores)))
    return 100.0 * by_set, 100.0 * error


def summary(scores: list[Scores]) -> list[str]:
    """Cells of the table from the scores of all training sets."""
    by_set, errors = coverage(scores)
    cells = []
    for values, asked, error in zip(by_set.T, ASKED, errors, strict=True):
        mean = np.mean(values)
        shown = f"**{mean:.1f}**" if abs(mean - asked) > MOST_OFF else f"{mean:.1f}"
        spread = f"{np.std(values, ddof=1):.1f}" if len(values) > 1 else "-"
        cells.append(f"{shown} ({spread}; {error:.1f})")
    count = np.concatenate([s.n_hidden for s in scores]).sum()
    density = -np.concatenate([s.log_density for s in scores]).sum() / count
    rms = np.sqrt(np.concatenate([s.squared_error for s in scores]).sum() / count)
    return [*cells, f"{density:.3f}", f"{rms:.3f}"]


def make_model(kind: str, size: tuple[int, int], told: dict):
    n_states, latent_dim = size
    if kind == "pooled":
        return PooledLDS(n_states)
    return MTLDSRegressor(n_states, latent_dim, random_state=0, **told)


def run(name: str, kind: str, n_train: int | None, args: argparse.Namespace) -> list[str]:
    """Lines of the table of one family."""
    make, options, size, told = CASES[name]
    results, seconds = {}, []
    for seed in args.seeds:
        count = {} if n_train is None else {"n_sequences": n_train}
        train = make(random_state=seed, **options, **count)
        new = make(random_state=10_000 + seed, **options, n_sequences=args.n_test)
        start = time.process_time()
        model = make_model(kind, size, told)
        model.fit(train.X, train.y, groups=train.groups, times=train.times)
        seconds.append(time.process_time() - start)
        for context in args.contexts:
            results.setdefault(context, []).append(measure(model, new, context))
            (values,), _ = coverage(results[context][-1:])
            print(f"  {name}, set {seed}, {context} known: {values.round(1)}", flush=True)
    sets = f"{len(args.seeds)} x {np.unique(train.groups).size}, {args.n_test}"
    return [
        _line([name, kind, sets, context, *summary(scores), f"{np.mean(seconds):.1f}",
               datetime.date.today()])
        for context, scores in results.items()
    ]  # fmt: skip


def _line(cells: list) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def write(lines: list[str], args: argparse.Namespace) -> None:
    """The report, with the rows that are there of other families."""
    new = {_key(line) for line in lines}
    old = args.output.read_text("utf-8").splitlines() if args.output.exists() else []
    old = [line for line in old if _key(line)[0] in CASES and _key(line) not in new]
    rows = sorted([*old, *lines], key=lambda line: list(CASES).index(_key(line)[0]))
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    head = (
        f"# Calibration\n\n{datetime.date.today()}; Python {platform.python_version()}, {versions}."
        f"\n\n    python benchmarks/calibration.py\n\n{__doc__.split(chr(10) * 2)[1]}\n\n"
        "Sets are so many training sets of so many sequences, and the test sequences of each;\n"
        "seconds are the processor's.\n\n"
    )
    table = [_line(COLUMNS), "| :--- | :--- |" + " ---: |" * (len(COLUMNS) - 2), *rows]
    args.output.write_text(head + "\n".join(table) + "\n", "utf-8")


def _key(line: str) -> tuple:
    """Family, model and the number of training sequences."""
    cells = [cell.strip() for cell in line.split("|")[1:]] + [""] * 3
    return cells[0], cells[1], cells[2].split(" x ")[-1].split(",")[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the training sets")
    add("--families", nargs="+", default=list(CASES), choices=list(CASES))
    add("--models", nargs="+", default=["multi-task"], choices=["multi-task", "pooled"])
    add("--contexts", type=int, nargs="+", default=[0, 5, 10, 20, 40])
    add("--n-train", type=int, nargs="+", default=[None], help="default: the family's own")
    add("--n-test", type=int, default=100, help="test sequences of each training set")
    add("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    for name in args.families:
        for n_train in args.n_train:
            for kind in args.models:
                lines = run(name, kind, n_train, args)
                print("\n".join(lines), flush=True)
                write(lines, args)


if __name__ == "__main__":
    main()
