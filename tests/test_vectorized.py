"""No loop of Python goes over sequences where numbers are worked out.

Lines of the package that one call of a function runs are counted for few sequences and for
several copies of the same ones: a loop over sequences runs its lines once for every copy. Chunks,
which keep memory in bounds, are made large enough to hold all.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

import mtds_sklearn
from mtds_sklearn import MTLDSRegressor, mask_future
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.inference import _adaptive_is, _forecast, _horizon
from mtds_sklearn.learning import _shapes

PACKAGE = str(Path(mtds_sklearn.__file__).parent)
N_SEQUENCES, N_COPIES, N_STEPS = 4, 8, 12
# They go through labels, not through what belongs to them.
OF_LABELS = {
    "_known_family.py:family_particles",
    "_memory_of_rows.py:warn_if_mistyped",
    "_streaming.py:Remembered.with_latest",
    "_streaming.py:StreamingMixin.partial_fit",
}


def rows_of(n_copies):
    data = make_oscillators(
        n_oscillators=1, n_sequences=N_SEQUENCES, n_steps=N_STEPS, random_state=0
    )
    copies = np.repeat(np.arange(n_copies), len(data.y))
    groups = np.tile(data.groups, n_copies) + N_SEQUENCES * copies
    parts = {"X": np.zeros((len(groups), 1)), "y": np.tile(data.y, n_copies)}
    return parts | {"groups": groups, "times": np.tile(data.times, n_copies)}


def lines_run(function) -> dict:
    """The most lines that each function of the package runs in one call."""
    most = {}

    def on_call(frame, event, argument):
        code, count = frame.f_code, 0
        if not code.co_filename.startswith(PACKAGE):
            return None

        def on_line(frame, event, argument):
            nonlocal count
            if event == "line":
                count += 1
                most[code] = max(most.get(code, 0), count)
            return on_line

        return on_line

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        function()
    finally:
        sys.settrace(before)
    return {f"{Path(c.co_filename).name}:{c.co_qualname}": n for c, n in most.items()}


def loops_over_sequences(few: dict, many: dict) -> list:
    """Functions that run several times the lines for many sequences."""
    return sorted(
        f"{name}: {few[name]} lines, {count} for {N_COPIES} times the sequences"
        for name, count in many.items()
        if count > 3 * few.get(name, count) and name.split(".<")[0] not in OF_LABELS
    )


@pytest.fixture(scope="module")
def model():
    model = estimator(max_iter=50)
    data = make_oscillators(n_oscillators=1, n_sequences=10, n_steps=20, random_state=1)
    return model.fit(data.X, data.y, groups=data.groups, times=data.times)


def forecasts(model, rows):
    X, y, rest = rows["X"], rows["y"], {"times": rows["times"]}
    rest["groups"] = rows["groups"] + 1000
    known = mask_future(y, rest["groups"], rest["times"], 5)
    model.predict(X, y_context=known, return_std=True, quantiles=[0.1], **rest)
    model.predict(X, y_context=y, horizon=2, **rest)
    model.forecast_log_density(X, y, y_context=known, **rest)
    model.score(X, y, **rest)


def test_forecasts(model, monkeypatch):
    for module in (_forecast, _horizon):
        monkeypatch.setattr(module, "CHUNK_VALUES", 10**9)
    monkeypatch.setattr(_adaptive_is, "CHUNK_SEQUENCES", 10**9)
    few, many = (lines_run(lambda n=n: forecasts(model, rows_of(n))) for n in (1, N_COPIES))
    assert loops_over_sequences(few, many) == []


def estimator(**options):
    options = {"n_init": 1, "disturbance": "none", "y_transform": None, "max_iter": 5} | options
    return MTLDSRegressor(2, 2, random_state=0, **options)


def streamed(rows):
    model = estimator()
    model.partial_fit(**rows)
    model.partial_fit(**rows | {"groups": rows["groups"] + 1000})


@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "fit",
    [
        lambda rows: estimator().fit(**rows),
        lambda rows: estimator(disturbance="auto").fit(**rows),
        lambda rows: estimator(sequence_noise=True).fit(**rows),
        streamed,
        pytest.param(
            lambda rows: estimator(y_transform="auto").fit(**rows | {"y": np.exp(rows["y"])}),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["plain", "disturbance", "noise levels", "stream", "transform"],
)
def test_fits(fit, monkeypatch):
    monkeypatch.setattr(_shapes, "MOST_VALUES", 10**9)
    few, many = (lines_run(lambda n=n: fit(rows_of(n))) for n in (4, 4 * N_COPIES))
    assert loops_over_sequences(few, many) == []
