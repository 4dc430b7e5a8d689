"""Sizes that are found against the best of fixed ones, by the likelihood of held-out sequences.

Every training set is learned with each fixed pair of sizes (`n_states` is an upper limit), with
``latent_dim="auto"`` and each limit, and with both sizes "auto". The best fixed pair of a family is
chosen *afterwards, by the test sequences* of all training sets: nobody could, so it is a bar and
not a rival. The best of each training set by itself is a higher bar still: of several fits, which
end in different optima even for one size, the luckiest counts. All without disturbances, which
none of these families has.

    python benchmarks/sizes.py
    python benchmarks/sizes.py --families "two oscillators" --seeds 7 8 --n-train 20

A line for each fit, then a table for each family: nats per test sequence; what found sizes gain
(negative: lack) against the best fixed pair of the family, with the standard error over test
sequences, and against the best of each training set; what was found in each.
"""

import argparse
import datetime
import time
import warnings
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

import mtds_sklearn
from mtds_sklearn import MTLDSRegressor
from mtds_sklearn import datasets as families

# Maker, its options, and the fixed limits of states and numbers of latents to try.
CASES = {
    "one oscillator": (families.make_oscillators, {"n_oscillators": 1}, (2, 4), (1, 2, 4)),
    "two oscillators": (families.make_oscillators, {"n_oscillators": 2}, (4, 8), (2, 4, 6)),
    "drug response": (families.make_drug_response, {}, (4, 8), (4, 6, 8, 10)),
    "input-driven": (families.make_input_driven, {}, (4, 8), (2, 4, 6, 8)),
    "stores": (families.make_stores, {}, (4, 8, 12), (4, 6, 8, 10)),
}
# Labels of test sequences that no training set uses: a seen label would stand for its posterior.
FIRST_TEST_LABEL = 1_000_000


class Fit(NamedTuple):
    """What was asked for and found, and the log likelihood of every test sequence (n,)."""

    asked: tuple
    found: tuple
    log_likelihood: np.ndarray


def learn(asked: tuple, train, test) -> Fit:
    """Fit sizes `asked` (n_states, latent_dim) and measure them on test sequences."""
    model = MTLDSRegressor(*asked, disturbance="none", random_state=0)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train.X, train.y, groups=train.groups, times=train.times)
    seconds = time.perf_counter() - start
    rows = {"groups": test.groups + FIRST_TEST_LABEL, "times": test.times}
    log_likelihood = model.sequence_log_likelihood(test.X, test.y, **rows)
    found = (model.n_states_, model.latent_dim_)
    print(
        f"    {asked} found {found}: {log_likelihood.mean():.3f}, evidence {model.evidence_:.1f}, "
        f"{seconds:.1f} s",
        flush=True,
    )
    return Fit(asked, found, log_likelihood)


def run(name: str, seeds: list[int], n_train: int, n_test: int) -> dict[tuple, list[Fit]]:
    """Fit every size to every training set; one fit for each seed."""
    make, options, limits, latents = CASES[name]
    fixed = [(n, k) for n in limits for k in latents]
    found = [*((n, "auto") for n in limits), ("auto", "auto")]
    fits = {asked: [] for asked in fixed + found}
    for seed in seeds:
        print(f"{name}, seed {seed}", flush=True)
        train = make(n_train, random_state=seed, **options)
        test = make(n_test, random_state=10_000 + seed, **options)
        for asked, several in fits.items():
            several.append(learn(asked, train, test))
    return fits


def table(name: str, fits: dict[tuple, list[Fit]]) -> str:
    """Markdown rows, one for each way to find sizes."""
    fixed = {asked: _joined(some) for asked, some in fits.items() if "auto" not in asked}
    best = max(fixed, key=lambda asked: fixed[asked].mean())
    of_each = np.mean(
        [max(fit.log_likelihood.mean() for fit in some) for some in _by_set(fits, fixed)]
    )
    rows = []
    for asked, some in fits.items():
        if asked in fixed:
            continue
        gain = _joined(some) - fixed[best]
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        sizes = ", ".join(str(fit.found) for fit in some)
        rows.append(
            f"| {name} | {fixed[best].mean():.2f} {best} | {asked[0]}, {asked[1]} | "
            f"{gain.mean():+.3f} ± {error:.3f} | {_joined(some).mean() - of_each:+.3f} | {sizes} |"
        )
    return "\n".join(rows)


def _joined(fits: list[Fit]) -> np.ndarray:
    """Log likelihoods of the test sequences of all training sets."""
    return np.concatenate([fit.log_likelihood for fit in fits])


def _by_set(fits: dict[tuple, list[Fit]], some) -> list[tuple[Fit, ...]]:
    return list(zip(*(fits[asked] for asked in some), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the training sets")
    add("--families", nargs="+", default=list(CASES)[:3], choices=list(CASES))
    add("--n-train", type=int, default=40, help="training sequences")
    add("--n-test", type=int, default=100, help="test sequences of each training set")
    args = parser.parse_args()
    print(f"{datetime.date.today()}, mtds_sklearn {mtds_sklearn.__version__}")
    print(f"{args.n_train} training and {args.n_test} test sequences\n")
    fits = {name: run(name, args.seeds, args.n_train, args.n_test) for name in args.families}
    print("\n| family | best fixed | asked (n_states, latent_dim) | gain | by set | found |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(table(name, some) for name, some in fits.items()))


if __name__ == "__main__":
    main()
