"""Ray, through its backend for joblib: the same numbers."""

import os

import joblib
import pytest
from numpy.testing import assert_array_equal

from mtds_sklearn import MTLDSRegressor, SingleTaskLDS
from mtds_sklearn.datasets import make_oscillators

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # Ray's own
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

DATA = make_oscillators(600, 12, n_oscillators=1, random_state=0)  # three chunks


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    register_ray()
    with joblib.parallel_config(backend="ray", n_jobs=2):
        jobs = joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(2))
        assert os.getpid() not in jobs
        yield
    ray.shutdown()


def fit_family(n_jobs=None):
    model = MTLDSRegressor(
        2, 2, n_init=1, max_iter=3, disturbance="none", random_state=0, n_jobs=n_jobs
    )
    return model.fit(DATA.X, DATA.y, groups=DATA.groups)


def fit_each(n_jobs=None):
    keep = DATA.groups < 3
    model = SingleTaskLDS(1, n_jobs=n_jobs)
    return model.fit(DATA.X[keep], DATA.y[keep], groups=DATA.groups[keep])


def test_a_family_is_the_same(cluster):
    alone, there = fit_family(n_jobs=1), fit_family()
    assert_array_equal(there.posterior_mean_, alone.posterior_mean_)
    assert_array_equal(there.task_map_.loadings, alone.task_map_.loadings)


def test_single_sequences_are_the_same(cluster):
    assert_array_equal(fit_each().noise_std_, fit_each(n_jobs=1).noise_std_)
