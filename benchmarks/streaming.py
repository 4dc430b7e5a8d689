"""Learning from a stream: how close minibatches come to a fit, and what a long stream costs.

    python benchmarks/streaming.py passes --seeds 0 1 2
    python benchmarks/streaming.py long --n-sequences 20000

`passes`: the family of the yardstick, 40 sequences in minibatches of 10, several times. Columns:
nats per held-out sequence (100 of them) minus the oracle's, for `fit` on all 40, for the first
minibatch alone, and after each pass.

`long`: sequences of the same family that are drawn minibatch by minibatch and never kept. Columns:
sequences seen, seconds per 1000 sequences since the row before (drawing them included), memory of
the process in MB (largest so far, Python and compiled kernels included), size of the pickled
estimator in kB, noise, nats per held-out sequence minus the oracle's.
"""

import argparse
import pickle
import resource
import time

import numpy as np
from oracle import oracle_log_marginal
from sklearn.base import clone

from mtds_sklearn import MTLDSRegressor
from mtds_sklearn.datasets import make_oscillators

N_STEPS = 80
# Labels of test sequences that no training set uses: a seen label would stand for its posterior.
FIRST_TEST_LABEL = 10_000_000


class Judge:
    """What a model gives held-out sequences, minus what the oracle gives them."""

    def __init__(self, n_test: int):
        self.test = make_oscillators(n_test, random_state=10_000)
        self.oracle = oracle_log_marginal(self.test.y.reshape(-1, N_STEPS)).mean()

    def __call__(self, model) -> float:
        test = self.test
        rows = {"groups": test.groups + FIRST_TEST_LABEL, "times": test.times}
        return model.sequence_log_likelihood(test.X, test.y, **rows).mean() - self.oracle


def learn(model, data, labels, shift: int = 0) -> None:
    own = np.isin(data.groups, labels)
    rows = {"groups": data.groups[own] + shift, "times": data.times[own]}
    model.partial_fit(data.X[own], data.y[own], **rows)


def measure_passes(args, model, judge: Judge) -> None:
    names = ["seed", "fit", "first minibatch", *(f"pass {i + 1}" for i in range(args.passes))]
    print("| " + " | ".join(names) + " |\n|" + " ---: |" * len(names))
    for seed in args.seeds:
        train = make_oscillators(40, random_state=seed)
        whole = clone(model).fit(train.X, train.y, groups=train.groups, times=train.times)
        stream, cells = clone(model), [judge(whole)]
        for _ in range(args.passes):
            for first in range(0, 40, args.minibatch):
                learn(stream, train, np.arange(first, first + args.minibatch))
                if len(cells) == 1:
                    cells.append(judge(stream))
            cells.append(judge(stream))
        print(f"| {seed} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)


def measure_long(args, model, judge: Judge) -> None:
    names = ["sequences", "s per 1000", "MB", "pickle kB", "noise", "- oracle"]
    print("| " + " | ".join(names) + " |\n|" + " ---: |" * len(names))
    start, shown = time.perf_counter(), 0
    for i in range(args.n_sequences // args.minibatch):
        data = make_oscillators(args.minibatch, random_state=i)
        learn(model, data, np.arange(args.minibatch), shift=i * args.minibatch)
        seen = (i + 1) * args.minibatch
        if i == 0 or seen % (args.n_sequences // args.rows) == 0:
            pace = 1000.0 * (time.perf_counter() - start) / (seen - shown)
            size = len(pickle.dumps(model)) / 1e3
            print(
                f"| {seen} | {pace:.1f} | {peak_memory():.0f} | {size:.0f} | "
                f"{model.noise_std_[0]:.4f} | {judge(model):.2f} |",
                flush=True,
            )
            start, shown = time.perf_counter(), seen


def peak_memory() -> float:
    """Largest memory of this process so far, in MB (Linux counts in kB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("what", choices=["passes", "long"])
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--passes", type=int, default=3)
    add("--minibatch", type=int, help="default: 10 for passes, 20 for a long stream")
    add("--n-sequences", type=int, default=20_000)
    add("--rows", type=int, default=10, help="of the table of a long stream")
    add("--n-test", type=int, default=100)
    add("--n-states", type=int, default=4)
    add("--latent-dim", type=int, default=4)
    args = parser.parse_args()
    args.minibatch = args.minibatch or {"passes": 10, "long": 20}[args.what]
    model = MTLDSRegressor(args.n_states, args.latent_dim, random_state=0)
    measure = {"passes": measure_passes, "long": measure_long}[args.what]
    measure(args, model, Judge(args.n_test))


if __name__ == "__main__":
    main()
