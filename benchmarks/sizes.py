"""Sizes that are found against the best of fixed ones, by the likelihood of held-out sequences.

Every training set is learned with each fixed pair of sizes (`n_states` is an upper limit), with
``latent_dim="auto"`` and each limit, and with both sizes "auto". The best fixed pair is chosen
*afterwards, by the test sequences*: nobody could, so it is a bar and not a rival. All without
disturbances, which none of these families has.

    python benchmarks/sizes.py
    python benchmarks/sizes.py --families "two oscillators" --seeds 7 8 --n-train 20

A line for each fit, then a table: nats per test sequence; what the found sizes lack (negative) or
gain against the best fixed pair, with the standard error of that difference over the sequences.
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


def compare(found: Fit, best: Fit) -> str:
    """Cell of the table: what one fit lacks against another."""
    gain = found.log_likelihood - best.log_likelihood
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    n_states, latent_dim = found.found
    return f"{gain.mean():+.3f} ± {error:.3f} ({n_states}, {latent_dim})"


def run(name: str, seed: int, n_train: int, n_test: int) -> str:
    """Fit every size to one training set; the row of the table."""
    make, options, limits, latents = CASES[name]
    train = make(n_train, random_state=seed, **options)
    test = make(n_test, random_state=10_000 + seed, **options)
    print(f"{name}, seed {seed}", flush=True)
    fixed = [learn((n, k), train, test) for n in limits for k in latents]
    best = max(fixed, key=lambda fit: fit.log_likelihood.mean())
    some = [compare(learn((n, "auto"), train, test), best) for n in limits]
    both = compare(learn(("auto", "auto"), train, test), best)
    top = f"{best.log_likelihood.mean():.2f} {best.asked}"
    given = "; ".join(f"{n}: {cell}" for n, cell in zip(limits, some, strict=True))
    return f"| {name} | {seed} | {top} | {given} | {both} |"


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
    rows = [run(name, s, args.n_train, args.n_test) for name in args.families for s in args.seeds]
    print("\n| family | seed | best fixed (n_states, latent_dim) | latent_dim found | both found |")
    print("| --- | --- | --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
