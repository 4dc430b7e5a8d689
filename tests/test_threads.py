"""Work split over threads: everything is done once, and the numbers stay what they were."""

import threading

import numpy as np
import pytest
from small_families import make_family, make_rows

from mtds_sklearn import _threads
from mtds_sklearn._threads import n_threads, run_split
from mtds_sklearn.inference._modes import climb
from mtds_sklearn.model._likelihood import evaluations, squared_residuals, theta_quantities
from mtds_sklearn.model._task_map import natural_parameters


@pytest.fixture
def three_threads(monkeypatch):
    monkeypatch.setattr(_threads, "LEAST_WORK", 0)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_everything_is_done_once(three_threads, n):
    done, names = np.zeros(n), set()

    def run(part):
        done[part] += 1.0
        names.add(threading.current_thread().name)

    run_split(run, n, 1.0)
    np.testing.assert_array_equal(done, np.ones(n))
    assert len(names) == max(1, min(3, n))


def test_little_work_starts_no_thread(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    names = []
    run_split(lambda part: names.append(threading.current_thread()), 5, _threads.LEAST_WORK - 1)
    assert names == [threading.current_thread()]


def test_failures_reach_the_caller(three_threads):
    def run(part):
        if part.start > 0:
            raise ZeroDivisionError("in a thread")

    with pytest.raises(ZeroDivisionError, match="in a thread"):
        run_split(run, 6, 1.0)


def test_limits_of_the_environment_are_kept(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert n_threads() == 5
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    assert n_threads() == 2


def test_numbers_do_not_depend_on_threads(rng, monkeypatch):
    family = make_family(rng, (3, 1, 2), 2)
    sequences = make_rows(rng, (5, 9, 1, 7, 4), n_inputs=1, n_outputs=2, missing=0.2)
    run, z = evaluations(sequences, repeats=3), rng.standard_normal((15, 2))
    psi = natural_parameters(family, z)

    def numbers():
        return (
            squared_residuals(psi, run, family.chart),
            *theta_quantities(psi, run, family.chart, family.noise_std),
            *climb(z, run, family, 5),
        )

    alone = numbers()
    monkeypatch.setattr(_threads, "LEAST_WORK", 0)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "4")
    for together, expected in zip(numbers(), alone, strict=True):
        np.testing.assert_array_equal(together, expected)
