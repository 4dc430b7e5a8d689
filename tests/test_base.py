import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal, norm
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.utils import get_tags
from toy_lds import ToyLDS, make_toy

from mtds_sklearn.estimators._checks import check_horizon, check_levels, check_targets
from mtds_sklearn.model_selection import mask_future


@pytest.fixture
def toy():
    return make_toy()


@pytest.fixture
def fitted(toy):
    X, y, groups, times = toy
    return ToyLDS().fit(X, y, groups=groups, times=times)


def state(estimator):
    return {name: np.copy(value) for name, value in vars(estimator).items()}


def assert_same_state(estimator, before):
    assert set(vars(estimator)) == set(before)
    for name, value in vars(estimator).items():
        assert_array_equal(value, before[name])


# ---------------------------------------------------------------------------------------- fit


def test_fit_sets_what_describes_the_data(toy):
    X, y, groups, times = toy
    model = ToyLDS()
    assert model.fit(X, y, groups=groups[::-1], times=times[::-1]) is model
    assert model.n_features_in_ == 2
    assert model.n_outputs_ == 1
    assert_array_equal(model.labels_, [5, 4, 3, 2, 1, 0])  # in order of first appearance
    assert model.weights_.shape == (5, 1)


def test_fit_hands_packed_rows_in_the_units_of_the_user_to_the_hook(toy):
    X, y, groups, times = toy
    y[3] = np.nan
    seen = {}

    class Spy(ToyLDS):
        def _fit_packed(self, sequences, rng):
            seen.update(sequences=sequences, rng=rng)
            return super()._fit_packed(sequences, rng)

    order = np.random.default_rng(1).permutation(len(y))
    Spy(random_state=7).fit(X[order], y[order], groups=groups[order], times=times[order])
    packed = seen["sequences"]
    assert_array_equal(packed.inputs, X[order][packed.row_order])
    assert_array_equal(packed.outputs[:, 0], np.nan_to_num(y[order][packed.row_order]))
    assert_array_equal(packed.observed[:, 0], ~np.isnan(y[order][packed.row_order]))
    assert seen["rng"].randint(1000) == np.random.RandomState(7).randint(1000)


BAD_FITS = {
    "parameter": (
        {"decay": 1.5},
        {},
        r"'decay' parameter of ToyLDS must be a float in the range \[0.0, 1.0\). Got 1.5",
    ),
    "X has NaN": (
        {},
        {"X": [[1.0], [np.nan]], "y": [1.0, 2.0]},
        "ToyLDS: X must be complete .* 1 of 2 values are NaN",
    ),
    "X is 1-D": ({}, {"X": [1.0, 2.0], "y": [1.0, 2.0]}, "Expected 2D array, got 1D array"),
    "y is None": (
        {},
        {"X": [[1.0], [2.0]], "y": None},
        "ToyLDS estimator requires y to be passed, but the target y is None",
    ),
    "y is all NaN": (
        {},
        {"X": [[1.0], [2.0]], "y": [np.nan, np.nan]},
        "ToyLDS: y has no observed value; at least 1 of its 2",
    ),
    "y is infinite": (
        {},
        {"X": [[1.0], [2.0]], "y": [np.inf, 1.0]},
        "ToyLDS: y must be finite, or NaN.* got 1 infinite values out of 2",
    ),
    "y is short": (
        {},
        {"X": [[1.0], [2.0]], "y": [1.0]},
        "ToyLDS: y needs one row for each of the 2 rows of X, got 1",
    ),
    "groups are short": (
        {},
        {"X": [[1.0], [2.0]], "y": [1.0, 2.0], "groups": [1]},
        "ToyLDS: groups needs one value per row of X: X has 2 rows, groups has 1",
    ),
    "times repeat": (
        {},
        {"X": [[1.0], [2.0]], "y": [1.0, 2.0], "times": [3, 3]},
        "ToyLDS: the times of a sequence must differ",
    ),
}


@pytest.mark.parametrize("is_fitted", [False, True], ids=["unfitted", "fitted"])
@pytest.mark.parametrize("what", BAD_FITS)
def test_a_failed_fit_explains_itself_and_changes_nothing(what, is_fitted, toy):
    params, arguments, message = BAD_FITS[what]
    X, y, groups, times = toy
    frame = pd.DataFrame(X, columns=["a", "b"])
    model = ToyLDS()
    if is_fitted:
        model.fit(frame, y, groups=groups, times=times)
    model.set_params(**params)
    before = state(model)
    with pytest.raises(ValueError, match=message):
        model.fit(**({"X": X, "y": y} | arguments))
    assert_same_state(model, before)


def test_a_hook_that_fails_changes_nothing(fitted):
    before = state(fitted)

    def fail(sequences, rng):
        raise FloatingPointError

    fitted._fit_packed = fail
    with pytest.raises(FloatingPointError):
        fitted.fit(np.ones((4, 1)), np.ones(4))
    del fitted._fit_packed
    assert_same_state(fitted, before)


def test_refit_replaces_every_fitted_attribute(toy):
    X, y, groups, times = toy

    class Moody(ToyLDS):
        def _fit_packed(self, sequences, rng):
            extra = {"mood_": "good"} if len(sequences.labels) > 1 else {}
            return super()._fit_packed(sequences, rng) | extra

    model = Moody().fit(pd.DataFrame(X, columns=["a", "b"]), y, groups=groups, times=times)
    assert model.mood_ == "good"
    assert_array_equal(model.feature_names_in_, ["a", "b"])
    model.fit(X[:, :1], np.c_[y, y])
    fresh = Moody().fit(X[:, :1], np.c_[y, y])
    assert_same_state(model, state(fresh))
    assert model.n_features_in_ == 1


def test_refit_keeps_parameters_and_requests(toy):
    X, y, groups, _ = toy
    with sklearn.config_context(enable_metadata_routing=True):
        model = ToyLDS(decay=0.25).set_fit_request(groups="patient")
        model.fit(X, y, groups=groups).fit(X, y, groups=groups)
        assert model.decay == 0.25
        assert model.get_metadata_routing().fit.requests["groups"] == "patient"


def test_a_single_row_fits():
    model = ToyLDS().fit([[1.0]], [2.0])
    assert_allclose(model.predict([[1.0]]), [2.0])


def test_y_may_be_partly_missing_in_any_output():
    X, y, groups, times = make_toy(n_outputs=2)
    y[::3, 0] = np.nan
    y[1::3, 1] = np.nan
    rows = {"groups": groups, "times": times}
    both = ToyLDS().fit(X, y, **rows).predict(X, y_context=y, **rows)
    for j in range(2):  # the toy treats outputs separately
        alone = ToyLDS().fit(X, y[:, j], **rows).predict(X, y_context=y[:, j], **rows)
        assert_allclose(both[:, j], alone)


# ------------------------------------------------------------------------------------ predict


@pytest.mark.parametrize(("n_outputs", "shape"), [(1, ()), (1, (1,)), (3, (3,))])
def test_shapes_follow_y(n_outputs, shape):
    X, y, groups, times = make_toy(n_outputs=n_outputs)
    y = y.reshape(len(X), *shape)
    model = ToyLDS().fit(X, y, groups=groups, times=times)
    rows = {"groups": groups, "times": times}
    mean, std, quantiles = model.predict(X, return_std=True, quantiles=[0.9, 0.5], **rows)
    assert mean.shape == std.shape == y.shape
    assert quantiles.shape == (*y.shape, 2)
    assert_allclose(quantiles[..., 1], mean)
    assert_allclose(quantiles[..., 0], mean + norm.ppf(0.9) * std)
    assert_array_equal(model.predict(X, **rows), mean)
    assert_array_equal(model.predict(X, return_std=True, **rows)[1], std)
    assert_array_equal(model.predict(X, quantiles=[0.9, 0.5], **rows)[1], quantiles)
    assert model.forecast_log_density(X, y, **rows).shape == y.shape
    mean[:] = 0  # the caller owns what it gets


def test_forecasts_come_back_in_the_order_of_the_rows(fitted, toy):
    X, y, groups, times = toy
    context = mask_future(y, groups, times, 4)
    order = np.random.default_rng(1).permutation(len(y))
    arguments = {"return_std": True, "quantiles": [0.1]}
    rows = {"groups": groups, "times": times, "y_context": context}
    straight = fitted.predict(X, **rows, **arguments)
    shuffled_rows = {name: value[order] for name, value in rows.items()}
    shuffled = fitted.predict(X[order], **shuffled_rows, **arguments)
    for a, b in zip(straight, shuffled, strict=True):
        assert_allclose(a[order], b)
    assert_allclose(
        fitted.forecast_log_density(X, y, **rows)[order],
        fitted.forecast_log_density(X[order], y[order], **shuffled_rows),
    )


def test_what_is_known_of_a_sequence(fitted, toy):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    new_rows = {"groups": groups + 100, "times": times}
    prior = fitted.predict(X, **new_rows)
    stored = fitted.predict(X, **rows)
    assert_allclose(stored - prior, fitted.shifts_[groups, 0])
    # nothing revealed is the same as no context
    assert_array_equal(fitted.predict(X, y_context=np.full(len(y), np.nan), **rows), stored)
    # a finite context replaces what was stored, and a label does not matter then
    context = mask_future(y, groups, times, 3)
    informed = fitted.predict(X, y_context=context, **new_rows)
    assert not np.allclose(informed, prior)
    assert_array_equal(fitted.predict(X, y_context=context, **rows), informed)


def test_horizon_hides_what_is_too_recent(fitted, toy):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    forecast = fitted.predict(X, y_context=y, horizon=2, **rows)
    for t in (0, 1, 5):
        expected = fitted.predict(
            X,
            y_context=mask_future(y, groups, times, max(t - 1, 0)),
            groups=groups + 100,
            times=times,
        )
        assert_allclose(forecast[(times == t) & (t > 1)], expected[(times == t) & (t > 1)])
        if t <= 1:  # nothing is old enough
            unaware = fitted.predict(X, y_context=y * np.nan, groups=groups + 100, times=times)
            assert_allclose(expected[times == t], unaware[times == t])


@pytest.mark.parametrize("method", ["predict", "score", "sequence_log_likelihood"])
def test_labels_in_fit_are_needed_later(fitted, toy, method):
    X, y, _, _ = toy
    arguments = (X,) if method == "predict" else (X, y)
    with pytest.raises(ValueError, match=r"labels of 6 sequences.* got 72 rows without labels"):
        getattr(fitted, method)(*arguments)


def test_the_sequence_without_a_label_is_no_named_one(toy):
    X, y, _, _ = toy
    model = ToyLDS().fit(X, y + 5.0)
    assert_array_equal(model.labels_, [None])
    model.shifts_ = model.shifts_ + 7.0  # so that it shows where it is used
    remembered = model.predict(X)
    zero = model.predict(X, groups=np.zeros(len(X), dtype=int))
    assert_allclose(remembered - zero, model.shifts_[0, 0])


def test_a_row_multiindex_is_as_good_as_arguments(fitted, toy):
    X, y, groups, times = toy
    index = pd.MultiIndex.from_arrays([groups, times], names=["sequence", "time"])
    frame = pd.DataFrame(X, index=index)
    from_index = ToyLDS().fit(frame, y)
    rows = {"groups": groups, "times": times}
    assert_array_equal(from_index.predict(frame), fitted.predict(X, **rows))
    assert from_index.score(frame, y) == fitted.score(X, y, **rows)
    with pytest.raises(ValueError, match="needs the label of every row"):
        from_index.predict(X)


BAD_CONTEXTS = {
    "short": (np.zeros(3), "ToyLDS: y_context needs one row for each of the 72 rows of X, got 3"),
    "wide": (
        np.zeros((72, 2)),
        "ToyLDS: y_context needs the 1 outputs seen in fit, got 2 outputs",
    ),
    "infinite": (
        np.r_[np.zeros(70), np.inf, -np.inf],
        "ToyLDS: y_context must be finite, or NaN.* got 2 infinite values out of 72",
    ),
    "text": (np.full(72, "a"), "could not convert string to float"),
}


@pytest.mark.parametrize("what", BAD_CONTEXTS)
@pytest.mark.parametrize("method", ["predict", "score"])
def test_bad_contexts_are_refused(fitted, toy, what, method):
    X, y, groups, times = toy
    context, message = BAD_CONTEXTS[what]
    arguments = (X,) if method == "predict" else (X, y)
    with pytest.raises(ValueError, match=message):
        getattr(fitted, method)(*arguments, groups=groups, times=times, y_context=context)


def test_a_context_of_one_output_may_have_either_shape(fitted, toy):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    expected = fitted.predict(X, y_context=y, **rows)
    for context in (y[:, None], pd.Series(y), pl.Series(y), y.tolist()):
        assert_array_equal(fitted.predict(X, y_context=context, **rows), expected)


@pytest.mark.parametrize("levels", [[], 0.5, [0.0], [1.0], [0.5, 1.5], [np.nan], [[0.5]]])
def test_quantile_levels_lie_between_0_and_1(fitted, toy, levels):
    X, _, groups, _ = toy
    with pytest.raises(ValueError, match=r"ToyLDS: quantiles must be .*strictly between 0 and 1"):
        fitted.predict(X, groups=groups, quantiles=levels)
    assert check_levels(None, who="x").shape == (0,)
    assert_array_equal(check_levels((0.9, 0.1), who="x"), [0.9, 0.1])


@pytest.mark.parametrize("horizon", [0, -1, 1.0, "1", True])
def test_horizon_is_a_positive_integer(fitted, toy, horizon):
    X, y, groups, _ = toy
    message = "ToyLDS: horizon must be None or an integer >= 1, got "
    with pytest.raises(ValueError, match=message):
        fitted.predict(X, groups=groups, horizon=horizon)
    with pytest.raises(ValueError, match=message):
        fitted.forecast_log_density(X, y, groups=groups, horizon=horizon)
    assert check_horizon(np.int32(3), who="x") == 3


def test_inputs_must_fit_the_model(fitted, toy):
    X, _, groups, _ = toy
    with pytest.raises(ValueError, match="X has 1 features, but ToyLDS is expecting 2"):
        fitted.predict(X[:, :1], groups=groups)
    with pytest.raises(ValueError, match=r"X must be .* 144 of 144 values are NaN"):
        fitted.predict(X * np.nan, groups=groups)


@pytest.mark.parametrize(
    "method", ["predict", "score", "sequence_log_likelihood", "forecast_log_density"]
)
def test_nothing_works_before_fit(toy, method):
    X, y, _, _ = toy
    with pytest.raises(NotFittedError, match="ToyLDS"):
        getattr(ToyLDS(), method)(*((X,) if method == "predict" else (X, y)))


# -------------------------------------------------------------------------------------- score


def test_score_counts_what_is_observed_and_not_revealed():
    X, y, groups, times = make_toy(n_outputs=2)
    model = ToyLDS().fit(X, y, groups=groups, times=times)
    context = mask_future(y, groups, times, 5)
    context[:, 1] = np.nan  # only the first output is revealed
    truth = y.copy()
    truth[times == 7] = np.nan
    weight = np.random.default_rng(1).uniform(0.5, 2.0, 6)[groups]
    rows = {"groups": groups, "times": times, "y_context": context}
    mean = model.predict(X, **rows)
    parts = [(times >= 5) & (times != 7), times != 7]
    for w in (None, weight):
        expected = [
            r2_score(y[part, j], mean[part, j], sample_weight=None if w is None else weight[part])
            for j, part in enumerate(parts)
        ]
        score = model.score(X, truth, w, **rows)
        assert_allclose(score, np.mean(expected))
        assert isinstance(score, float)


def test_an_output_without_anything_to_score_is_left_out():
    X, y, groups, times = make_toy(n_outputs=2)
    model = ToyLDS().fit(X, y, groups=groups, times=times)
    truth = y.copy()
    truth[:, 1] = np.nan
    mean = model.predict(X, groups=groups)
    assert_allclose(model.score(X, truth, groups=groups), r2_score(y[:, 0], mean[:, 0]))


def test_score_needs_something_to_score(fitted, toy):
    X, y, groups, times = toy
    truth = np.where(times < 10, y, np.nan)
    message = (
        "ToyLDS.score needs at least one observed value .*: of 72 values 60 are observed and "
        "y_context reveals 60"
    )
    with pytest.raises(ValueError, match=message):
        fitted.score(X, truth, groups=groups, times=times, y_context=truth)
    with pytest.raises(ValueError, match="of 72 values 0 are observed and y_context reveals 0"):
        fitted.score(X, y * np.nan, groups=groups)


def test_score_refuses_what_does_not_fit(fitted, toy):
    X, y, groups, _ = toy
    with pytest.raises(ValueError, match="y needs one row for each of the 72 rows of X, got 3"):
        fitted.score(X, y[:3], groups=groups)
    match = "sample_weight needs one value per row of X: X has 72 rows, sample_weight has 3"
    with pytest.raises(ValueError, match=match):
        fitted.score(X, y, np.ones(3), groups=groups)
    with pytest.raises(ValueError, match="Input sample_weight contains NaN"):
        fitted.score(X, y, y * np.nan, groups=groups)


# -------------------------------------------------------------------------- likelihood and rest


def test_log_likelihood_is_one_number_for_each_sequence(fitted, toy):
    X, y, groups, times = toy
    y[4] = np.nan
    y = y + 0.3
    new_rows = {"groups": np.array(list("fedcba"))[groups], "times": times}
    mean = fitted.predict(X, **new_rows)
    expected = []
    for i in range(6):
        rows = (groups == i) & ~np.isnan(y)
        covariance = np.full((rows.sum(), rows.sum()), fitted.prior_std**2)
        covariance += np.eye(rows.sum()) * fitted.noise_std_**2
        expected.append(multivariate_normal.logpdf(y[rows], mean[rows], covariance))
    order = np.random.default_rng(2).permutation(len(y))
    shuffled = {name: value[order] for name, value in new_rows.items()}
    first_seen = list(dict.fromkeys(groups[order]))
    assert_allclose(fitted.sequence_log_likelihood(X, y, **new_rows), expected)
    assert_allclose(
        fitted.sequence_log_likelihood(X[order], y[order], **shuffled),
        np.array(expected)[first_seen],
    )
    with pytest.raises(ValueError, match="requires y to be passed"):
        fitted.sequence_log_likelihood(X, None, **new_rows)


def test_log_density_is_that_of_the_forecast(fitted, toy):
    X, y, groups, times = toy
    truth = y.copy()
    truth[8] = np.nan
    rows = {"groups": groups, "times": times, "y_context": y, "horizon": 1}
    mean, std = fitted.predict(X, return_std=True, **rows)
    assert_allclose(fitted.forecast_log_density(X, truth, **rows), norm.logpdf(truth, mean, std))


def test_requests_are_declared_for_every_method():
    routing = ToyLDS().get_metadata_routing()
    rows = {"groups": True, "times": True}
    weighted = rows | {"sample_weight": True}
    assert routing.fit.requests == weighted
    assert routing.score.requests == weighted | {"y_context": True}
    assert routing.predict.requests == rows | dict.fromkeys(
        ["y_context", "horizon", "return_std", "quantiles"], True
    )

    class Incremental(ToyLDS):
        def partial_fit(self, X, y, *, groups=None, times=None):
            """Only the signature matters."""

    assert Incremental().get_metadata_routing().partial_fit.requests == weighted


def test_tags_and_documentation_link(fitted, monkeypatch):
    tags = get_tags(fitted)
    assert tags.estimator_type == "regressor"
    assert tags.target_tags.multi_output
    assert tags.target_tags.required
    assert not tags.input_tags.allow_nan  # missing inputs are refused; missing outputs are not
    monkeypatch.setattr(ToyLDS, "__module__", "mtds_sklearn.estimators._toy")
    assert fitted._get_doc_link().endswith("/mtds_sklearn.estimators.ToyLDS.html")


def test_targets_may_come_in_many_containers():
    expected = np.array([1.0, np.nan, 3.0])
    for y in (
        [1, None, 3],
        pd.Series([1, None, 3], dtype="Float64"),
        pd.Series([1.0, np.nan, 3.0], index=[7, 8, 9]),
        pl.Series([1.0, None, 3.0]),
        np.array([1, np.nan, 3], dtype=np.float32),
    ):
        targets = check_targets(y, n_rows=3, who="x")
        assert targets.dtype == np.float64
        assert_array_equal(targets, expected)
    frame = pd.DataFrame({"a": expected})
    assert check_targets(frame, n_rows=3, who="x").shape == (3, 1)
