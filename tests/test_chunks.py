"""Sequences worked on in chunks: what comes out does not depend on where, or on who did it."""

import pickle

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_families import ALL_KINDS, make_family, make_posterior, make_rows

from mtds_sklearn import MTLDSRegressor, SingleTaskLDS
from mtds_sklearn._sequences import select_sequences
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.estimators._crew import JobCrew
from mtds_sklearn.learning import _chunks, _em, _growth
from mtds_sklearn.learning._chunks import fetched, map_by_chunk, slice_sequences, working
from mtds_sklearn.learning._e_step import e_step
from mtds_sklearn.learning._em import run_em
from mtds_sklearn.learning._m_step import curvature, expected_squares
from mtds_sklearn.learning._posterior import prior_posterior
from mtds_sklearn.model._noise import Growth

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LENGTHS = (7, 1, 12, 5, 3, 8, 4)


@pytest.fixture
def chunks_of_three(monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK", 3)


# ---------------------------------------------------------------------------------------- chunks


def test_a_slice_is_a_selection_without_copies(rng):
    rows = make_rows(rng, LENGTHS, n_inputs=2, n_outputs=2, missing=0.2)
    rows = rows._replace(weights=np.arange(7.0), precision=rows.observed * 0.5)
    part, same = slice_sequences(rows, slice(2, 5)), select_sequences(rows, [2, 3, 4])
    for name, one, other in zip(part._fields, part, same, strict=True):
        assert_array_equal(one, other, err_msg=name)
    assert np.shares_memory(part.outputs, rows.outputs)
    assert not part.inputs.flags.writeable


def label_and(sequences, own, shared):
    return [(label, value, shared) for label, value in zip(sequences.labels, own, strict=True)]


def test_every_sequence_meets_what_belongs_to_it(rng, chunks_of_three):
    rows = make_rows(rng, LENGTHS)
    parts = map_by_chunk(label_and, rows, (10.0 * np.arange(7),), ("shared",)).parts
    assert [len(part) for part in parts] == [3, 3, 1]
    expected = [(i, 10.0 * i, "shared") for i in range(7)]
    assert [item for part in parts for item in part] == expected


@pytest.mark.parametrize("search", [False, True])
def test_chunks_do_not_change_an_iteration(rng, search, monkeypatch):
    rows = make_rows(rng, LENGTHS, n_inputs=1, missing=0.1)._replace(weights=np.arange(1.0, 8.0))
    family, posterior = make_family(rng, (3, 1, 1), 2), make_posterior(rng, 7, 2)
    draws = rng.standard_normal((64, 2)) if search else None

    def iterate():
        found = e_step(rows, family, posterior, draws)
        last = curvature(found, rows, family)
        return (*found, *last, expected_squares(found, rows, family))

    whole = iterate()
    monkeypatch.setattr(_chunks, "CHUNK", 3)
    for one, other in zip(iterate(), whole, strict=True):
        assert_allclose(one, other, rtol=1e-9, atol=1e-9 * np.max(np.abs(other)))


class Handle:
    """Stands for a result that stays with a crew."""

    def __init__(self, result):
        self.result = result


class Listener:
    """A crew of one, which keeps what it is told to and notes what is sent to and fro."""

    def __init__(self):
        self.heard, self.sent, self.returned = [], [], []

    def work(self, function, sequences, parts, arguments):
        self.heard.append((sequences, parts))
        self.sent += [arg for rest in arguments for arg in rest if not isinstance(arg, Handle)]
        return [
            Handle(
                function(
                    slice_sequences(sequences, part),
                    *(arg.result if isinstance(arg, Handle) else arg for arg in rest),
                )
            )
            for part, rest in zip(parts, arguments, strict=True)
        ]

    def fetch(self, handles):
        self.returned += [handle.result for handle in handles]
        return [handle.result for handle in handles]


def test_a_crew_gets_every_chunk_and_is_dismissed(rng, chunks_of_three):
    rows = make_rows(rng, LENGTHS)
    crew = Listener()
    with working(crew):
        found = map_by_chunk(label_and, rows, (np.arange(7),), (None,))
        again = map_by_chunk(pass_on, rows, (found,))
        assert crew.returned == []  # what was found has stayed there
        assert [len(part) for part in fetched(again)] == [3, 3, 1]
    map_by_chunk(label_and, rows, (np.arange(7),), (None,))
    assert len(crew.heard) == 2
    for sequences, parts in crew.heard:
        assert sequences is rows
        assert parts == [slice(0, 3), slice(3, 6), slice(6, 7)]


def pass_on(sequences, own):
    return own


def sizes_of_messages(monkeypatch, n_sequences, kinds, growth):
    """How many bytes were sent at a time, and came back, in iterations 2 to 8 of EM."""
    monkeypatch.setattr(_chunks, "CHUNK", n_sequences // 2)
    rng, counts, crew = np.random.default_rng(0), [], Listener()
    rows = make_rows(rng, (6,) * n_sequences, n_outputs=2)
    rows = rows._replace(precision=1.0 * rows.observed)
    family = make_family(rng, (2, 0, 2), 2, free=kinds, varying=kinds)._replace(growth=growth)
    monkeypatch.setattr(
        _em, "report", lambda *_: counts.append((len(crew.sent), len(crew.returned)))
    )
    with working(crew):
        posterior = prior_posterior(n_sequences, 2)
        run_em(rows, family, posterior, np.zeros((8, 2)), max_iter=8, tol=0.0)
    (sent, returned), (sent_last, returned_last) = counts[0], counts[-1]
    assert len(counts) == 8
    return [
        {len(pickle.dumps(one)) for one in messages}
        for messages in (crew.sent[sent:sent_last], crew.returned[returned:returned_last])
    ]


GROWTH = Growth(np.zeros(2), np.ones(2), np.ones(2))


@pytest.mark.parametrize(
    ("kinds", "growth"),
    [(ALL_KINDS, None), ((*ALL_KINDS, "noise"), None), (ALL_KINDS, GROWTH)],
    ids=["plain", "levels", "growing noise"],
)
def test_nothing_travels_between_iterations_but_the_family_and_sums(kinds, growth, monkeypatch):
    few, many = (sizes_of_messages(monkeypatch, n, kinds, growth) for n in (6, 96))
    assert few == many


# ------------------------------------------------------------------------------------------ jobs


@pytest.fixture
def few_iterations(monkeypatch):
    monkeypatch.setattr(_growth, "ANNEALING_STEPS", 2)
    monkeypatch.setattr(_growth, "DECIDING_ITERATIONS", 2)


DATA = make_oscillators(7, 12, n_oscillators=1, random_state=0)


def fit(**parameters):
    model = MTLDSRegressor(1, 1, n_init=1, max_iter=3, random_state=0, **parameters)
    return model.fit(DATA.X, DATA.y, groups=DATA.groups)


def single_task(**parameters):
    keep = DATA.groups < 3
    return SingleTaskLDS(1, **parameters).fit(DATA.X[keep], DATA.y[keep], groups=DATA.groups[keep])


def numbers(model) -> list:
    return [*model.task_map_[1:4], model.posterior_mean_, model.posterior_cov_, model.evidence_]


def assert_same_numbers(one, other):
    for a, b in zip(numbers(one), numbers(other), strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("backend", "disturbance"), [("loky", "none"), ("threading", "innovations")]
)
def test_numbers_do_not_depend_on_jobs(
    backend, disturbance, chunks_of_three, few_iterations, monkeypatch
):
    alone, calls = fit(disturbance=disturbance), []
    run = JobCrew._run
    monkeypatch.setattr(JobCrew, "_run", lambda *args: calls.append(args) or run(*args))
    with joblib.parallel_config(backend=backend):
        assert_same_numbers(fit(disturbance=disturbance, n_jobs=2), alone)
    assert len(calls) > 10


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


def test_a_cluster_learns_the_same_family(cluster, chunks_of_three, few_iterations, monkeypatch):
    scattered = []
    scatter = cluster.scatter
    monkeypatch.setattr(
        cluster, "scatter", lambda data, **how: scattered.append(data) or scatter(data, **how)
    )
    with joblib.parallel_config(backend="dask", client=cluster):
        there = fit(disturbance="none")
    assert_same_numbers(there, fit(disturbance="none"))
    (chunks,) = scattered  # the data went out once
    assert [len(chunk.labels) for chunk in chunks] == [3, 3, 1]


def test_a_cluster_learns_each_sequence_and_each_start(cluster):
    here, alone = fit(disturbance="none").set_params(n_init=2), single_task()
    here.fit(DATA.X, DATA.y, groups=DATA.groups)
    with joblib.parallel_config(backend="dask", client=cluster):
        there = fit(disturbance="none").set_params(n_init=2)
        there.fit(DATA.X, DATA.y, groups=DATA.groups)
        assert_array_equal(single_task().noise_std_, alone.noise_std_)
    assert_same_numbers(there, here)
