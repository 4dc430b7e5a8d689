"""What is heard of learning: the log of a verbose fit, and scikit-learn's callbacks."""

import importlib.util
import logging
import re
import sys

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold
from toy_lds import make_toy

from mtds_sklearn import MTLDSRegressor, PooledLDS, SingleTaskLDS
from mtds_sklearn._progress import LOGGER, Iteration, Log, listening, report
from mtds_sklearn.estimators import _callbacks

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MODELS = [
    MTLDSRegressor(1, 1, n_init=1, disturbance="none", random_state=0),
    PooledLDS(1),
    SingleTaskLDS(1),
]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
LINE = (
    r"{who}, \d+ states, iteration \d+: bound -?[\d.e+]+ nats, noise [\d.e-]+(, [\d.e-]+)? of "
    r"sd\(y\), [\d.e-]+ s per iteration"
)


@pytest.fixture(scope="module")
def rows():
    X, y, groups, times = make_toy(5, 10)
    rows = {"X": X, "y": y, "groups": groups, "times": times}
    for model in MODELS:  # kernels are compiled here, where nobody listens
        clone(model).fit(**rows)
    return rows


@pytest.fixture
def unconfigure(monkeypatch):
    """A call that brings logging to the state of a program that never touched it."""

    def forget():  # pytest adds its handlers after the fixtures
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)

    return forget


# ------------------------------------------------------------------------------------------- log


@every_model
def test_a_verbose_fit_logs_iterations(model, rows, caplog):
    with caplog.at_level(logging.INFO, logger="mtds_sklearn"):
        clone(model).set_params(verbose=2).fit(**rows)
        n_all = len(caplog.records)
        assert {record.name for record in caplog.records} == {"mtds_sklearn"}
        for message in caplog.messages:
            assert re.fullmatch(LINE.format(who=type(model).__name__), message)
        caplog.clear()
        clone(model).set_params(verbose=1).fit(**rows)
        assert 0 < len(caplog.records) < n_all / 5
        assert all("0: bound" in message for message in caplog.messages)  # iterations 10, 20, ...
        caplog.clear()
        clone(model).fit(**rows)
        assert caplog.records == []


def test_the_log_says_what_learning_came_to(rows, caplog):
    with caplog.at_level(logging.INFO, logger="mtds_sklearn"):
        model = MTLDSRegressor(1, 1, n_init=1, random_state=0, disturbance="none", verbose=2)
        model.fit(**rows)
    last = caplog.messages[-1]
    assert f"{model.n_states_} states, iteration {model.n_iter_}: " in last
    assert f"bound {model.lower_bounds_[-1]:.6g} nats" in last
    assert f"noise {model.noise_std_[0] / np.std(rows['y']):.4g} of sd(y)" in last


@every_model
def test_verbose_is_seen_where_logging_is_not_configured(model, rows, unconfigure, capsys):
    unconfigure()
    clone(model).set_params(verbose=1).fit(**rows)
    assert "s per iteration" in capsys.readouterr().err
    assert LOGGER.handlers == []
    assert LOGGER.level == logging.NOTSET
    clone(model).fit(**rows)
    assert capsys.readouterr().err == ""


def test_what_a_user_configured_is_left_alone(rows, unconfigure, monkeypatch, capsys):
    unconfigure()
    heard = []
    handler = logging.Handler()
    handler.emit = heard.append
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    PooledLDS(1, verbose=1).fit(**rows)
    assert len(heard) > 0
    assert capsys.readouterr().err == ""  # not printed beside
    heard.clear()
    monkeypatch.setattr(LOGGER, "level", logging.ERROR)
    PooledLDS(1, verbose=1).fit(**rows)
    assert heard == []


@pytest.mark.slow
def test_other_processes_are_heard(rows, capfd):
    model = MTLDSRegressor(1, 1, n_init=2, n_jobs=2, random_state=0, verbose=1)
    model.fit(**rows)
    assert "s per iteration" in capfd.readouterr().err


def test_a_verbose_minibatch_is_logged(rows, caplog):
    model = MTLDSRegressor(1, 1, n_init=1, disturbance="none", random_state=0).fit(**rows)
    with caplog.at_level(logging.INFO, logger="mtds_sklearn"):
        model.set_params(verbose=1).partial_fit(**rows)
    (message,) = caplog.messages
    assert message == (
        f"MTLDSRegressor, 5 sequences more, 10 in all: {model.n_states_} states, noise "
        f"{model.noise_std_[0]:.4g}"
    )


def test_seconds_are_those_of_an_iteration(caplog, monkeypatch):
    clock = iter([0.0, 10.0, 30.0, 31.0])
    monkeypatch.setattr("mtds_sklearn._progress.time.perf_counter", lambda: next(clock))
    log = Log("Who", 1)
    with caplog.at_level(logging.INFO, logger="mtds_sklearn"):
        for stage in range(2):
            for number in range(1, 21 if stage == 0 else 11):
                log(Iteration(2, number, -3.0, np.array([0.5, 0.25])))
    assert caplog.messages == [
        "Who, 2 states, iteration 10: bound -3 nats, noise 0.5, 0.25 of sd(y), 1 s per iteration",
        "Who, 2 states, iteration 20: bound -3 nats, noise 0.5, 0.25 of sd(y), 2 s per iteration",
        "Who, 2 states, iteration 10: bound -3 nats, noise 0.5, 0.25 of sd(y), 0.1 s per iteration",
    ]


def test_nobody_listens_but_where_asked():
    seen = []
    assert report(1, [2.0], np.ones(1)) is False
    with listening(lambda iteration: seen.append(iteration) or True):
        assert report(1, [2.0, 3.0], np.ones(1)) is True
    assert report(1, [2.0], np.ones(1)) is False
    ((n_states, number, bound, _),) = seen
    assert (n_states, number, bound) == (1, 2, 3.0)


# ------------------------------------------------------------------------------------- callbacks


class Recorder:
    """A callback that writes down what it is told, and may ask for an end."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.events = []

    def setup(self, estimator, context):
        self.events.append(("setup", context.task_name))

    def teardown(self, estimator, context):
        self.events.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context):
        self.events.append(("end", context.task_name))
        return self.stop_after is not None and self.count("end") % self.stop_after == 0

    def count(self, event, task="iteration"):
        return self.events.count((event, task))


needs_callbacks = pytest.mark.skipif(
    not hasattr(_callbacks.CallbackSupportMixin, "set_callbacks"),
    reason="this scikit-learn has no callbacks",
)


@needs_callbacks
@every_model
def test_callbacks_hear_of_every_iteration(model, rows):
    recorder = Recorder()
    fitted = clone(model).set_callbacks(recorder).fit(**rows)
    assert recorder.events[:2] == [("setup", "fit"), ("begin", "fit")]
    assert recorder.events[-2:] == [("end", "fit"), ("teardown", "fit")]
    n = recorder.count("end")
    assert n == recorder.count("begin")
    assert n >= np.sum(fitted.n_iter_)
    if hasattr(fitted, "stages_"):
        assert n == sum(len(stage.bounds) for stage in fitted.stages_)
    plain = clone(model).fit(**rows)
    where = {name: rows[name] for name in ("X", "groups", "times")}
    assert_array_equal(fitted.predict(**where), plain.predict(**where))


@needs_callbacks
def test_a_callback_can_end_a_stage(rows):
    model = MTLDSRegressor(1, 1, n_init=1, disturbance="none", random_state=0)
    model.set_callbacks(Recorder(stop_after=3)).fit(**rows)
    assert {len(stage.bounds) for stage in model.stages_} == {3}
    assert not model.converged_


@needs_callbacks
def test_a_failing_fit_tears_down(rows):
    recorder = Recorder()
    model = PooledLDS(1).set_callbacks(recorder)
    model._fit_packed = None  # not callable
    with pytest.raises(TypeError):
        model.fit(**rows)
    assert recorder.events[-1] == ("teardown", "fit")


@needs_callbacks
def test_a_scoring_monitor_says_that_it_has_no_scores(rows):
    """It is handed no half-learned estimator, whose scores would need the labels."""
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring="r2")
    PooledLDS(1).set_callbacks(monitor).fit(**rows)
    with pytest.raises(ValueError, match="No scores were computed"):
        monitor.get_logs()


@needs_callbacks
def test_a_progress_bar_shows_a_search(rows, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            PooledLDS(), {"n_states": [1, 2]}, cv=GroupKFold(2), error_score="raise"
        )
        search.set_callbacks(ProgressBar())
        search.fit(rows["X"], rows["y"], groups=rows["groups"], times=rows["times"])
    assert "PooledLDS" in capsys.readouterr().out


def test_without_callbacks_in_scikit_learn_nothing_is_missed(monkeypatch, rows):
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)  # importing it fails
    spec = importlib.util.spec_from_file_location("old_callbacks", _callbacks.__file__)
    old = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(old)
    assert not hasattr(old.CallbackSupportMixin, "set_callbacks")
    assert old.with_callbacks(len) is len
    assert old.fit_with_progress(PooledLDS(), lambda: "learned", None, None) == "learned"
