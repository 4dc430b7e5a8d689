"""Everyday mistakes with sequences in scikit-learn's tools: each an error, a warning or right.

Without metadata routing
    labels reach the splitter alone          test_labels_that_reach_the_splitter_alone_are_missed
    labels reach fit, not predict or score   test_labels_that_fit_had_are_asked_for
    a row MultiIndex loses nothing           test_sklearn_interop: with_a_multiindex_no_tool_...

With metadata routing
    string scorers, `GridSearchCV.predict`, cross_val_predict drop labels
                                             test_sklearn_interop: tools_that_lose_the_labels_...
    make_scorer and plain functions drop them  test_scorers_that_do_not_hand_labels_on_fail
    the default scorer receives them         test_sklearn_interop: default_scoring_receives_...
    nobody has to set requests               test_base: requests_are_declared_for_every_method
    a misspelt argument                      test_a_misspelt_argument_is_refused
    scikit-learn's older `groups=`           test_a_misspelt_argument_is_refused
    Pipeline.score passes sample_weight=None   test_sklearn_interop: a_pipeline_hands_on_everything
    return_std, quantiles, horizon in a Pipeline   the same test
    a splitter is asked with metadata        test_model_selection: prefix_split_trains_on_...
    another regressor in the same grid       test_one_grid_holds_all_models
    predict of a search takes X alone        test_predict_of_a_search_takes_nothing_else
    permutation_importance drops labels      test_importances_by_permutation_need_the_multiindex
    importing switches nothing on            test_importing_configures_nothing

Rows
    a tool that draws rows makes gaps        test_tools_that_draw_rows_make_gaps_that_are_refused
    bags draw rows with replacement          test_bags_of_rows_are_refused
    a learning curve takes the first rows    test_a_learning_curve_cuts_at_most_the_end_of_...
    lags run across sequences                test_lags_stay_within_sequences_by_the_row_index
    KFold cuts sequences in two              test_sequences_cut_in_two_are_refused
    a known label whose rows begin elsewhere   the same test
    new sequences under known labels         test_mtlds: seen_labels_use_..., a_context_replaces_...
    labels missing in predict                test_labels_that_fit_had_are_asked_for
    row order                                test_sklearn_interop: times_make_the_order_...
    containers, read-only and memory-mapped arrays, float32   test_sklearn_interop: containers_...
    a one-column y                           test_base: y comes back in its own shape
    outputs in another order                 test_sklearn_interop: names_of_outputs_are_checked
    a row index the wrong way round          test_messages, with its levels
    labels passed as weights                 test_messages, with the first of them

Targets
    NaN in y of a string scorer              test_metrics_of_scikit_learn_refuse_missing_outputs
    NaN in y of TransformedTargetRegressor   test_a_transformed_target_refuses_missing_outputs
    y_context there is not transformed       test_a_context_in_other_units_is_told
    NaN or infinity in X                     test_bad_input, with counts
    cold-start scores cannot choose          test_cold_starts_cannot_choose_and_contexts_can

Weights                                      test_weights
Callbacks and progress                       test_progress, ScoringMonitor included
"""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import Ridge
from sklearn.metrics import make_scorer, mean_squared_error
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    ShuffleSplit,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from toy_lds import ToyLDS, make_toy

from mtds_sklearn import (
    ForecastScorer,
    MTLDSRegressor,
    PooledLDS,
    RowWise,
    SingleTaskLDS,
    mask_future,
)
from mtds_sklearn.datasets import make_oscillators

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*effective draws:UserWarning"),
]

MODELS = [
    MTLDSRegressor(1, 1, n_init=1, disturbance="none", random_state=0),
    PooledLDS(1),
    SingleTaskLDS(1),
]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)


@pytest.fixture(scope="module")
def toy():
    return make_toy(6, 12)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


# --------------------------------------------------------------------------------- lost labels


def test_labels_that_reach_the_splitter_alone_are_missed(toy):
    X, y, groups, _ = toy
    search = GridSearchCV(MODELS[0], {}, cv=GroupKFold(2), error_score="raise")
    with pytest.warns(UserWarning, match="got 1 sequence; pass groups, or a DataFrame X"):
        search.fit(X, y, groups=groups)


@every_model
def test_labels_that_fit_had_are_asked_for(model, toy):
    X, y, groups, times = toy
    name = type(model).__name__.lower()
    pipe = make_pipeline(StandardScaler(), clone(model))
    pipe.fit(X, y, **{f"{name}__groups": groups, f"{name}__times": times})
    message = "was fitted with the labels of 6 sequences, .* got 72 rows without labels"
    with pytest.raises(ValueError, match=message):
        pipe.predict(X)
    with pytest.raises(ValueError, match=message):
        pipe.score(X, y)
    with pytest.raises(ValueError, match=message):  # Pipeline.score drops them
        pipe.score(X, y, groups=groups, times=times)
    assert pipe.predict(X, groups=groups, times=times).shape == (72,)


@every_model
def test_scorers_that_do_not_hand_labels_on_fail(model, toy, routing):
    X, y, groups, times = toy

    def own(estimator, X, y, groups=None):
        return -mean_squared_error(y, estimator.predict(X))

    def metric(y, mean, groups=None):
        return -mean_squared_error(y, mean)

    for scorer in (own, make_scorer(metric).set_score_request(groups=True)):
        with pytest.raises(ValueError, match="needs the label of every row"):
            cross_val_score(
                model, X, y, cv=GroupKFold(2), scoring=scorer, error_score="raise",
                params={"groups": groups, "times": times},
            )  # fmt: skip


@every_model
def test_a_misspelt_argument_is_refused(model, toy, routing):
    X, y, groups, times = toy
    with pytest.raises(TypeError, match="time"):
        GridSearchCV(model, {}, cv=GroupKFold(2)).fit(X, y, groups=groups, time=times)
    with pytest.raises(TypeError):
        clone(model).fit(X, y, group=groups)
    with pytest.raises(ValueError, match="pass `groups` alongside other metadata"):
        cross_validate(model, X, y, cv=GroupKFold(2), groups=groups)


def test_predict_of_a_search_takes_nothing_else(toy, routing):
    X, y, groups, times = toy
    search = GridSearchCV(PooledLDS(1), {}, cv=GroupKFold(2)).fit(X, y, groups=groups, times=times)
    with pytest.raises(TypeError, match="groups"):
        search.predict(X, groups=groups)
    with sklearn.config_context(enable_metadata_routing=False):
        with pytest.raises(ValueError, match="enable_metadata_routing=True"):
            search.score(X, y, groups=groups)
    assert search.best_estimator_.predict(X, groups=groups, times=times).shape == (72,)


def test_importances_by_permutation_need_the_multiindex(toy, routing):
    X, y, groups, times = toy
    model = PooledLDS(1).fit(X, y, groups=groups, times=times)
    with pytest.raises(ValueError, match="needs the label of every row"):
        permutation_importance(model, X, y, n_repeats=1)
    frame = pd.DataFrame(X, index=pd.MultiIndex.from_arrays([groups, times]))
    found = permutation_importance(model, frame, y, n_repeats=2, random_state=0)
    assert (found.importances_mean > 0.1).all()  # both inputs drive this family


def test_importing_configures_nothing():
    assert sklearn.get_config()["enable_metadata_routing"] is False


# ------------------------------------------------------------------------------------ torn rows


@every_model
def test_tools_that_draw_rows_make_gaps_that_are_refused(model, toy, routing):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    message = "the times of a sequence must rise in steps of 1; sequence .* jumps from time"
    with pytest.raises(ValueError, match=message):
        cross_val_score(
            model, X, y, cv=ShuffleSplit(1, random_state=0), params=rows, error_score="raise"
        )
    grid = {"tol": [1e-3, 1e-2, 1e-1]}
    by_rows = HalvingGridSearchCV(
        model, grid, cv=GroupKFold(2), min_resources=24, random_state=0, error_score="raise"
    )
    with pytest.raises(ValueError, match=message):
        by_rows.fit(X, y, **rows)


@every_model
def test_bags_of_rows_are_refused(model, toy, routing):
    """How often a row was drawn arrives as its weight, and those of a sequence differ."""
    X, y, groups, times = toy
    bag = BaggingRegressor(clone(model), n_estimators=1, random_state=0)
    with pytest.raises(ValueError, match="sample_weight must be the same for all rows"):
        bag.fit(X, y, groups=groups, times=times)


def test_lags_stay_within_sequences_by_the_row_index(toy):
    """A transformer sees no groups, and takes the row above for the row before."""
    X, y, groups, times = toy
    frame = pd.DataFrame(
        X, columns=["dose", "weight"], index=pd.MultiIndex.from_arrays([groups, times])
    )

    def with_lag(table):
        return table.join(table.groupby(level=0).shift(fill_value=0.0).add_suffix(" before"))

    pipe = make_pipeline(FunctionTransformer(with_lag), PooledLDS(1)).fit(frame, y)
    above = np.roll(X, 1, axis=0)
    within, across = np.where(times[:, None] == 0, 0.0, above), above
    rows = {"groups": groups, "times": times}
    expected = PooledLDS(1).fit(np.hstack([X, within]), y, **rows)
    np.testing.assert_allclose(
        pipe.predict(frame), expected.predict(np.hstack([X, within]), **rows), rtol=1e-6
    )
    assert not np.allclose(
        pipe.predict(frame), expected.predict(np.hstack([X, across]), **rows), rtol=1e-3
    )


def test_a_learning_curve_cuts_at_most_the_end_of_a_sequence(toy, routing):
    """A training set of 30 rows is two sequences of 12 and the first 6 rows of a third."""
    X, y, groups, times = toy
    _, _, scores = learning_curve(
        PooledLDS(1), X, y, train_sizes=[30], cv=GroupKFold(2), scoring=ForecastScorer(4),
        error_score="raise", params={"groups": groups, "times": times},
    )  # fmt: skip
    for score, (train, test) in zip(scores[0], GroupKFold(2).split(X, groups=groups), strict=True):
        first = train[:30]
        assert np.bincount(times[first]).tolist() == [3] * 6 + [2] * 6
        model = PooledLDS(1).fit(X[first], y[first], groups=groups[first], times=times[first])
        where = {"groups": groups[test], "times": times[test]}
        assert score == pytest.approx(ForecastScorer(4)(model, X[test], y[test], **where))


@every_model
def test_halving_by_iterations_keeps_sequences_whole(model, toy, routing):
    X, y, groups, times = toy
    search = HalvingGridSearchCV(
        model, {"tol": [1e-3, 1e-2, 1e-1]}, resource="max_iter", min_resources=3, max_resources=30,
        cv=GroupKFold(2), scoring=ForecastScorer(4), random_state=0, error_score="raise",
    )  # fmt: skip
    search.fit(X, y, groups=groups, times=times)
    assert search.n_resources_ == [3, 9]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@every_model
def test_sequences_cut_in_two_are_refused(model, toy, routing):
    X, y, groups, times = toy
    message = (
        rf"{type(model).__name__} needs each sequence from its first row; sequence \d began at "
        r"time (6|0) when it was learned and begins at (6|0) here \(1 of 1 known sequences differ"
    )
    cut = KFold(4)  # the first fold is one sequence and a half
    with pytest.raises(ValueError, match=message):
        cross_val_score(
            model, X, y, cv=cut, params={"groups": groups, "times": times}, error_score="raise"
        )
    frame = pd.DataFrame(X, index=pd.MultiIndex.from_arrays([groups, times]))
    with pytest.raises(ValueError, match=message):
        cross_val_score(model, frame, y, cv=cut, error_score="raise")


def test_where_a_sequence_begins_is_known_of_dates_and_after_partial_fit(toy):
    X, y, groups, times = toy
    days = np.datetime64("2020-01-01") + times
    model = PooledLDS(1).fit(X, y, groups=groups, times=days)
    late = times >= 2
    message = r"began at time 2020-01-01 when it was learned and begins at 2020-01-03 here \(6 of 6"
    with pytest.raises(ValueError, match=message):
        model.predict(X[late], groups=groups[late], times=days[late])
    stamps = pd.Series(days.astype("datetime64[ns]"))
    assert model.predict(X, groups=groups, times=stamps).shape == (72,)
    model.predict(X[late], groups=groups[late] + 100, times=days[late])  # other sequences
    model.predict(X[late], groups=groups[late])  # without times nobody can tell
    model.partial_fit(X, y, groups=groups + 10, times=days + 5)
    with pytest.raises(ValueError, match=r"began at time 2020-01-06 .* begins at 2020-01-01"):
        model.predict(X, groups=groups + 10, times=days)
    with pytest.raises(ValueError, match=r"began at time 2020-01-06 .* begins at 2020-01-08"):
        model.partial_fit(X[late], y[late], groups=groups[late] + 10, times=days[late] + 5)


# --------------------------------------------------------------------------------------- targets


@every_model
def test_metrics_of_scikit_learn_refuse_missing_outputs(model, toy):
    X, y, groups, times = toy
    y = np.where(times == 3, np.nan, y)
    frame = pd.DataFrame(X, index=pd.MultiIndex.from_arrays([groups, times]))
    folds = list(GroupKFold(2).split(X, groups=groups))
    with pytest.raises(ValueError, match="Input contains NaN"):
        cross_val_score(model, frame, y, cv=folds, scoring="r2", error_score="raise")
    assert np.isfinite(cross_val_score(model, frame, y, cv=folds, error_score="raise")).all()


@every_model
def test_a_transformed_target_refuses_missing_outputs(model, toy, routing):
    X, y, groups, times = toy
    transformed = TransformedTargetRegressor(clone(model), func=np.sinh, inverse_func=np.arcsinh)
    with pytest.raises(ValueError, match="contains NaN"):
        transformed.fit(X, np.where(times == 3, np.nan, y), groups=groups, times=times)


@every_model
def test_a_transformed_target_is_right_without_context(model, toy, routing):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    transformed = TransformedTargetRegressor(clone(model), func=np.sinh, inverse_func=np.arcsinh)
    inner = clone(model).fit(X, np.sinh(y), **rows)
    found = transformed.fit(X, y, **rows).predict(X, **rows)
    np.testing.assert_allclose(found, np.arcsinh(inner.predict(X, **rows)))
    scorer = ForecastScorer(0)
    expected = -np.sqrt(np.mean((y - found) ** 2))
    assert scorer(transformed, X, y, **rows) == pytest.approx(expected)


@every_model
def test_a_context_in_other_units_is_told(model, toy, routing):
    """scikit-learn hands y_context to the inner regressor as it is."""
    X, y, groups, times = toy
    y = 1000.0 + 10.0 * y
    rows = {"groups": groups, "times": times}
    transformed = TransformedTargetRegressor(clone(model), transformer=StandardScaler())
    transformed.fit(X, y, **rows)
    context = mask_future(y, groups, times, 4)
    message = (
        rf"{type(model).__name__}: half of the 24 values of y_context \(output 0\) lie at least "
        r"\d+ standard deviations from the mean of y in fit, .*TransformedTargetRegressor"
    )
    with pytest.warns(UserWarning, match=message):
        transformed.predict(X, y_context=context, **rows)
    scorer = ForecastScorer(4)
    message = r"ForecastScorer: TransformedTargetRegressor transforms y but .* so that "
    with pytest.raises(ValueError, match=message + type(model).__name__):
        scorer(transformed, X, y, **rows)
    search = GridSearchCV(transformed, {}, cv=GroupKFold(2), scoring=scorer, error_score="raise")
    with pytest.raises(ValueError, match=message):
        search.fit(X, y, **rows)


# ---------------------------------------------------------------------------------- comparisons


def test_one_grid_holds_all_models(toy, routing):
    X, y, groups, times = toy
    pipe = make_pipeline(StandardScaler(), ToyLDS())
    steps = [ToyLDS(), *MODELS, RowWise(Ridge())]
    search = GridSearchCV(
        pipe, {"toylds": steps}, cv=GroupKFold(2), scoring=ForecastScorer(4), error_score="raise"
    )
    search.fit(X, y, groups=groups, times=times)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    search.set_params(param_grid={"toylds": [Ridge()]})
    with pytest.raises((TypeError, ValueError)):  # a bare regressor cannot take labels
        search.fit(X, y, groups=groups, times=times)


@pytest.mark.slow
def test_cold_starts_cannot_choose_and_contexts_can(routing):
    """The true latent_dim is 2 (frequency and decay)."""
    data = make_oscillators(24, 40, n_oscillators=1, random_state=0)
    scorers = {"cold": ForecastScorer(0), "warm": ForecastScorer(12)}
    search = GridSearchCV(
        MTLDSRegressor(2, n_init=1, random_state=0), {"latent_dim": [1, 2]}, cv=GroupKFold(3),
        scoring=scorers, refit="warm", error_score="raise",
    )  # fmt: skip
    search.fit(data.X, data.y, groups=data.groups, times=data.times)
    cold = -search.cv_results_["mean_test_cold"]
    warm = -search.cv_results_["mean_test_warm"]
    assert abs(cold[0] / cold[1] - 1.0) < 0.05
    assert warm[0] > 1.3 * warm[1]
    assert search.best_params_ == {"latent_dim": 2}
