"""Warnings show a line that the user wrote, not one of this package or of scikit-learn."""

import pytest
from message_makers import (
    ROWS,
    family,
    known_rows,
    pooled,
    posterior,
    rows,
    strange_sequences,
)
from sklearn.model_selection import GridSearchCV

from mtds_sklearn import MTLDSRegressor, PooledLDS, SingleTaskLDS
from mtds_sklearn._warnings import warn_caller
from mtds_sklearn.estimators import _sequence_posterior

SHORT = {"max_iter": 1, "n_states": 1}


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: PooledLDS(**SHORT).fit(**rows()), "did not converge"),
        (lambda: SingleTaskLDS(**SHORT).fit(**rows()), "did not converge"),
        (lambda: MTLDSRegressor(latent_dim=1, **SHORT).fit(**rows()), "did not converge"),
        (lambda: SingleTaskLDS(**SHORT).fit(**rows()).partial_fit(**rows()), "did not converge"),
        (lambda: pooled().predict(**known_rows(), y_context=1e6 + ROWS), "in the units of y"),
        (lambda: search().fit(rows()["X"], rows()["y"]), "got 1 sequence"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_shows_the_line_of_the_user(act, message):
    with pytest.warns(UserWarning, match=message) as caught:
        act()
    told = [warning for warning in caught if message in str(warning.message)]
    assert {warning.filename for warning in told} == {__file__}
    assert {warning.lineno for warning in told} <= {act.__code__.co_firstlineno}


def search():
    model = MTLDSRegressor(1, 1, n_init=1, disturbance="none", random_state=0)
    return GridSearchCV(model, {}, cv=2, error_score="raise")


def test_a_stream_shows_the_line_that_feeds_it():
    with pytest.warns(UserWarning, match="squared residuals") as caught:
        strange_sequences()
    assert caught[0].filename.endswith("message_makers.py")


def test_few_effective_draws_are_told_where_rows_arrive(monkeypatch):
    before = posterior()
    monkeypatch.setattr(_sequence_posterior, "LEAST_ESS", 1e6)
    monkeypatch.setattr("mtds_sklearn.estimators._known_family.LEAST_ESS", 1e6)
    with pytest.warns(UserWarning, match="posterior of 1 of 1 sequences rests on fewer") as caught:
        before.update([0.0, 0.0], 1.0)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="posterior of 4 of 4 sequences rests") as caught:
        family().predict(rows()["X"], groups=rows()["groups"], y_context=rows()["y"])
    assert caught[0].filename == __file__


def test_without_a_user_it_is_still_told():
    """As in a worker process, where every line is a tool's."""
    scope = {"__name__": "joblib.worker", "warn_caller": warn_caller}
    with pytest.warns(RuntimeWarning, match="nobody"):
        exec("warn_caller('nobody', RuntimeWarning)", scope)
