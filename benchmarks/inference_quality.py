"""How exact the posteriors of new sequences are, for each number of known observations.

Sequences of the two-oscillator family under a model learned from 40 others: evidence by the default
draws against eight times as many from other numbers, moments against the average of three others.
For a family that is known exactly, see `oracle_posteriors.py`.

    python benchmarks/inference_quality.py
"""

import argparse
import datetime

import numpy as np

import mtds_sklearn
from mtds_sklearn import MTLDSRegressor, mask_future
from mtds_sklearn._sequences import select_sequences
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.estimators._fitting import one_blas_thread, standardize
from mtds_sklearn.inference._adaptive_is import infer
from mtds_sklearn.inference._draws import N_DRAWS, make_draws
from mtds_sklearn.inference._moments import accurate_moments

CONTEXTS = (0, 1, 2, 5, 10, 20, 40, 80)


def compare(model, new, context: int, factor: int) -> list[float]:
    """Effective sample sizes, and errors of log evidence, mean and covariance."""
    known = mask_future(new.y, new.groups, new.times, context)
    packed = model._pack_known(new.X, known, new.groups + 1000, new.times, name="y_context")
    scaled = standardize(packed, model._units_)
    k, family = model.posterior_mean_.shape[1], model.task_map_
    with one_blas_thread():
        ours = infer(scaled, family, make_draws(k, model._seed_))
        many = infer(scaled, family, make_draws(k, 1, factor * N_DRAWS))
        found = moments(scaled, family, model._seed_, ours)
        # The same by other numbers, averaged: what two of them differ by is their error.
        others = [moments(scaled, family, 1000 * seed, many) for seed in (1, 2, 3)]
    std = np.sqrt(np.mean([np.einsum("nii->ni", cov) for _, cov in others], axis=0))
    evidence = np.abs(ours.log_evidence - many.log_evidence)
    mean = np.abs(found[0] - np.mean([part[0] for part in others], axis=0)) / std
    cov = np.abs(found[1] - np.mean([part[1] for part in others], axis=0))
    cov /= std[:, :, None] * std[:, None, :]
    return [
        ours.ess.min(), np.quantile(ours.ess, 0.01), np.median(ours.ess),
        *(part for error in (evidence, mean, cov) for part in (np.sqrt(np.mean(error**2)),
                                                               error.max())),
    ]  # fmt: skip


def moments(scaled, family, seed: int, posterior) -> tuple:
    """Means (n_sequences, k) and covariances as a `SequencePosterior` tells them."""
    found = [
        accurate_moments(select_sequences(scaled, [i]), family, seed, near)
        for i, near in enumerate(zip(posterior.z, posterior.log_weights, strict=True))
    ]
    return np.stack([part.mean for part in found]), np.stack([part.cov for part in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-test", type=int, default=100)
    parser.add_argument("--factor", type=int, default=8)
    args = parser.parse_args()
    train = make_oscillators(n_oscillators=2, random_state=0)
    new = make_oscillators(n_oscillators=2, n_sequences=args.n_test, random_state=10_000)
    model = MTLDSRegressor(n_states=4, latent_dim=4, random_state=0)
    model.fit(train.X, train.y, groups=train.groups, times=train.times)
    print(f"{datetime.date.today()}, mtds_sklearn {mtds_sklearn.__version__}")
    print("Errors, root mean square and most; mean and covariance in posterior deviations.\n")
    print(
        "| known | ESS least | 1 % | median | evidence | most | mean | most | covariance | most |"
    )
    print("| ---: |" + " ---: |" * 9)
    for context in CONTEXTS:
        cells = compare(model, new, context, args.factor)
        print(f"| {context} | " + " | ".join(f"{cell:.3g}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
