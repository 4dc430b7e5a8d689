"""How exact the posteriors of new sequences are, for each number of known observations.

Sequences of the two-oscillator family under a model learned from 40 others; the default draws
against eight times as many, drawn from other numbers.

    python benchmarks/inference_quality.py
"""

import argparse
import datetime

import numpy as np

import mtds_sklearn
from mtds_sklearn import MTLDSRegressor, mask_future
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.estimators._fitting import one_blas_thread, standardize
from mtds_sklearn.inference._adaptive_is import infer
from mtds_sklearn.inference._draws import N_DRAWS, make_draws

CONTEXTS = (0, 1, 2, 5, 10, 20, 40, 80)


def compare(model, new, context: int, factor: int) -> list[float]:
    """Effective sample sizes, and errors of log evidence, mean and covariance."""
    known = mask_future(new.y, new.groups, new.times, context)
    packed = model._pack_known(new.X, known, new.groups + 1000, new.times, name="y_context")
    scaled = standardize(packed, model._units_)
    k = model.posterior_mean_.shape[1]
    with one_blas_thread():
        ours = infer(scaled, model.task_map_, make_draws(k, model._seed_))
        reference = infer(scaled, model.task_map_, make_draws(k, 1, factor * N_DRAWS))
    std = np.sqrt(np.einsum("nii->ni", reference.cov))
    evidence = np.abs(ours.log_evidence - reference.log_evidence)
    mean = np.abs(ours.mean - reference.mean) / std
    cov = np.abs(ours.cov - reference.cov) / (std[:, :, None] * std[:, None, :])
    return [
        ours.ess.min(), np.quantile(ours.ess, 0.01), np.median(ours.ess),
        np.sqrt(np.mean(evidence**2)), evidence.max(), np.sqrt(np.mean(mean**2)),
        np.sqrt(np.mean(cov**2)),
    ]  # fmt: skip


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
    print("Errors of mean and covariance are in posterior standard deviations, root mean square.\n")
    print("| known | ESS least | 1 % | median | evidence rms | most | mean | covariance |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for context in CONTEXTS:
        cells = compare(model, new, context, args.factor)
        print(f"| {context} | " + " | ".join(f"{cell:.3g}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
