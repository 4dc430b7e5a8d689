"""Weights of sequences: like repetition and omission, constant within one, or an error."""

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import KNeighborsRegressor
from small_families import make_family, make_rows
from toy_lds import make_toy

from mtds_sklearn import MTLDSRegressor, PooledLDS, RowWise, SingleTaskLDS
from mtds_sklearn._sequences import select_sequences
from mtds_sklearn.learning._em import run_em
from mtds_sklearn.learning._posterior import prior_posterior

N_SEQUENCES, LENGTH = 8, 12
MODELS = [
    MTLDSRegressor(1, 1, n_init=1, disturbance="none", random_state=0),
    PooledLDS(1),
    SingleTaskLDS(1),
]
WEIGHTS = np.array([2.0, 1.0, 0.0, 3.0, 1.0, 1.0, 0.0, 2.0])

# Small fits need not converge.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)


@pytest.fixture(scope="module")
def rows():
    X, y, groups, times = make_toy(N_SEQUENCES, LENGTH, noise_std=0.3)
    return {"X": X, "y": y, "groups": groups, "times": times}


def repeated(rows):
    """The rows with every sequence as often as its weight says, copies under other labels."""
    parts = []
    for label, weight in enumerate(WEIGHTS):
        own = rows["groups"] == label
        for copy in range(int(weight)):
            part = {name: values[own] for name, values in rows.items()}
            parts.append(part | {"groups": np.full(LENGTH, 100 * copy + label)})
    return {name: np.concatenate([part[name] for part in parts]) for name in rows}


def forecast_strangers(model, rows):
    return model.predict(rows["X"], groups=rows["groups"] + 1000, times=rows["times"])


@pytest.mark.parametrize("model", MODELS[:2], ids=lambda model: type(model).__name__)
def test_a_weight_is_like_repetition(model, rows):
    # The scale of y, which sets the weak priors, counts every sequence once.
    model = clone(model).set_params(tol=1e-9, max_iter=400)
    weighted = clone(model).fit(**rows, sample_weight=WEIGHTS[rows["groups"]])
    twice = clone(model).fit(**repeated(rows))
    plain = clone(model).fit(**rows)
    assert_allclose(weighted.noise_std_, twice.noise_std_, rtol=0.005)
    found, expected = forecast_strangers(weighted, rows), forecast_strangers(twice, rows)
    assert_allclose(found, expected, atol=0.02)
    assert np.abs(found - forecast_strangers(plain, rows)).max() > 0.05


@every_model
def test_a_weight_of_zero_is_like_omission(model, rows):
    weight = np.where(rows["groups"] == 2, 0.0, 1.0)
    kept = rows["groups"] != 2
    weighted = clone(model).fit(**rows, sample_weight=weight)
    without = clone(model).fit(**{name: values[kept] for name, values in rows.items()})
    assert_array_equal(weighted.labels_, without.labels_)
    assert_allclose(forecast_strangers(weighted, rows), forecast_strangers(without, rows))
    where = {name: rows[name] for name in ("X", "groups", "times")}
    assert_allclose(weighted.predict(**where), without.predict(**where))


@every_model
def test_equal_weights_of_one_change_nothing(model, rows):
    ones = np.ones(len(rows["y"]))
    assert_allclose(
        forecast_strangers(clone(model).fit(**rows, sample_weight=ones), rows),
        forecast_strangers(clone(model).fit(**rows), rows),
        rtol=1e-9,
    )


def test_a_sequence_alone_has_nothing_to_outweigh(rows):
    weighted = SingleTaskLDS(1).fit(**rows, sample_weight=1.0 + rows["groups"])
    plain = SingleTaskLDS(1).fit(**rows)
    assert_allclose(weighted.noise_std_, plain.noise_std_)
    # What is said of strangers is what one system for all says, and that is weighted.
    pooled = PooledLDS(1, initial_state="shared").fit(**rows, sample_weight=1.0 + rows["groups"])
    assert_allclose(forecast_strangers(weighted, rows), forecast_strangers(pooled, rows), rtol=1e-6)


@every_model
def test_bad_weights_are_refused_with_numbers(model, rows):
    who = type(model).__name__
    mixed = np.ones(len(rows["y"]))
    mixed[LENGTH + 3], mixed[5 * LENGTH] = 3.5, 0.0
    cases = [
        (
            mixed,
            f"{who}: sample_weight must be the same for all rows of a sequence; it differs in 2 of "
            "8 sequences, the first is 1 with weights from 1 to 3.5",
        ),
        (
            np.where(rows["groups"] == 4, -0.5, 1.0),
            f"{who}: sample_weight must be at least 0; 12 of 96 weights are negative, the smallest "
            "is -0.5",
        ),
        (
            np.zeros(len(rows["y"])),
            f"{who}: y has no observed value in a sequence that counts; sample_weight is zero in 8 "
            "of 8 sequences",
        ),
        (np.ones((len(rows["y"]), 1)), r"so 1 dimension; it has shape \(96, 1\)"),
        (np.ones(7), f"{who}: .* X has 96 rows, sample_weight has 7"),
        (np.where(rows["groups"] == 1, np.nan, 1.0), "Input sample_weight contains NaN"),
    ]
    for weight, message in cases:
        with pytest.raises(ValueError, match=message):
            clone(model).fit(**rows, sample_weight=weight)
    fitted = clone(model).fit(**rows)
    with pytest.raises(
        ValueError, match=rf"{who}\.score: sample_weight must be the same .* 2 of 8"
    ):
        fitted.score(**rows, sample_weight=mixed)


@every_model
def test_score_weighs_sequences(model, rows):
    fitted = clone(model).fit(**rows)
    weight = WEIGHTS[rows["groups"]]
    where = {name: rows[name] for name in ("X", "groups", "times")}
    expected = r2_score(rows["y"], fitted.predict(**where), sample_weight=weight)
    assert fitted.score(**rows, sample_weight=weight) == pytest.approx(expected)


@every_model
def test_a_search_routes_weights_to_fit_and_score(model, rows):
    weight = np.where(rows["groups"] % 3 == 1, 0.0, 1.0)
    data = {name: rows[name] for name in ("groups", "times")} | {"sample_weight": weight}
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(model, {}, cv=GroupKFold(2), error_score="raise")
        search.fit(rows["X"], rows["y"], **data)
    scores = []
    for train, test in GroupKFold(2).split(rows["X"], groups=rows["groups"]):
        fold = clone(model).fit(**{name: v[train] for name, v in rows.items()},
                                sample_weight=weight[train])  # fmt: skip
        scores.append(fold.score(**{name: v[test] for name, v in rows.items()},
                                 sample_weight=weight[test]))  # fmt: skip
    assert search.cv_results_["mean_test_score"][0] == pytest.approx(np.mean(scores))


def test_rows_have_weights_of_their_own_where_rows_stand_alone(rows):
    weight = np.random.default_rng(0).uniform(0.0, 2.0, len(rows["y"]))
    model = RowWise(Ridge()).fit(**rows, sample_weight=weight)
    inner = Ridge().fit(rows["X"], rows["y"], sample_weight=weight)
    assert_allclose(model.predict(rows["X"]), inner.predict(rows["X"]))
    squares = (rows["y"] - inner.predict(rows["X"])) ** 2
    assert model.residual_std_[0] == pytest.approx(np.sqrt(np.average(squares, weights=weight)))
    assert model.score(rows["X"], rows["y"], weight) == pytest.approx(
        inner.score(rows["X"], rows["y"], weight)
    )


def test_a_regressor_that_knows_no_weights_is_named(rows):
    with pytest.raises(
        ValueError, match=r"RowWise: sample_weight was given, and KNeighborsRegressor\.fit does not"
    ):
        RowWise(KNeighborsRegressor()).fit(**rows, sample_weight=np.ones(len(rows["y"])))


def test_learning_counts_a_sequence_as_often_as_its_weight_says(rng):
    """Iteration by iteration, to rounding."""
    sequences = make_rows(rng, (7, 9, 12, 8), n_inputs=1, n_outputs=2, missing=0.1)
    family = make_family(rng, (2, 1, 2), 2)
    index = np.repeat(np.arange(4), [2, 1, 3, 1])
    weighted = sequences._replace(weights=np.array([2.0, 1.0, 3.0, 1.0]))
    points = rng.standard_normal((32, 2))
    options = {"max_iter": 8, "tol": 0.0}
    found = run_em(weighted, family, prior_posterior(4, 2), points, **options)
    expected = run_em(
        select_sequences(sequences, index), family, prior_posterior(7, 2), points, **options
    )
    assert_allclose(found.bounds, expected.bounds, rtol=1e-8)
    assert_allclose(found.family.loadings, expected.family.loadings, rtol=1e-6, atol=1e-8)
    assert_allclose(found.posterior.mean[index], expected.posterior.mean, rtol=1e-6, atol=1e-8)
    plain = run_em(sequences, family, prior_posterior(4, 2), points, **options)
    assert abs(found.bounds[-1] - plain.bounds[-1]) > 1.0
