"""One fit, many tools: labels by metadata routing and by row MultiIndex give the same numbers."""

import pickle
import re
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from public_estimators import CASES, expected_failed_checks, name_of
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.utils.estimator_checks import check_estimator
from toy_lds import ToyLDS, make_toy

from mtds_sklearn import ForecastScorer, MTLDSRegressor, PooledLDS, forecast_scorers

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*effective draws:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*they may show:UserWarning"),
]

SCORER = ForecastScorer(3)
MODELS = [ToyLDS(), MTLDSRegressor(1, 1, n_init=1, disturbance="none", random_state=0)]
every_case = pytest.mark.parametrize("case", CASES, ids=name_of)


@pytest.fixture(scope="module")
def toy():
    X, y, groups, times = make_toy(8, 10)
    y[7] = np.nan
    return X, y, groups, times


class Rows:
    """The same rows for a tool: arrays with metadata, or a DataFrame with everything in it."""

    def __init__(self, toy, routed):
        X, self.y, groups, times = toy
        names = ["dose", "weight"]
        self.folds = list(GroupKFold(2).split(X, groups=groups))
        if routed:
            # ColumnTransformer picks columns by number as well.
            self.X, self.metadata, self.cv = X, {"groups": groups, "times": times}, GroupKFold(2)
        else:
            index = pd.MultiIndex.from_arrays([groups, times], names=["sequence", "time"])
            self.X = pd.DataFrame(X, columns=names, index=index)
            self.metadata, self.cv = {}, self.folds

    @property
    def params(self):
        return {"params": self.metadata} if self.metadata else {}


def in_pipeline(model):
    """A pipeline with a transformer for some of the columns; no sums, whose rounding may differ."""
    scale = ColumnTransformer([("scale", MaxAbsScaler(), [0])], remainder="passthrough")
    return Pipeline([("scale", scale), ("model", clone(model))])


def parameter_of(model):
    if isinstance(model, ToyLDS):
        return "model__prior_std", [0.1, 3.0]
    return "model__tol", [1, 1e-3]


def by_grid(pipe, rows, name, values):
    search = GridSearchCV(pipe, {name: values}, cv=rows.cv, scoring=SCORER, error_score="raise")
    search.fit(rows.X, rows.y, **rows.metadata)
    best = search.best_estimator_.predict(rows.X, **rows.metadata)
    return search.cv_results_["mean_test_score"], best


def by_random_search(pipe, rows, name, values):
    search = RandomizedSearchCV(
        pipe, {name: loguniform(1e-3, 1.0)}, n_iter=2, cv=rows.cv, scoring=SCORER, random_state=0,
        error_score="raise",
    )  # fmt: skip
    return search.fit(rows.X, rows.y, **rows.metadata).cv_results_["mean_test_score"]


def by_cross_validate(pipe, rows, name, values):
    scoring = forecast_scorers((0, 3, 0.5))
    scores = cross_validate(
        pipe, rows.X, rows.y, cv=rows.cv, scoring=scoring, error_score="raise", **rows.params
    )
    return np.array([scores[f"test_{key}"] for key in scoring])


def by_default_score(pipe, rows, name, values):
    return cross_val_score(pipe, rows.X, rows.y, cv=rows.cv, error_score="raise", **rows.params)


def by_learning_curve(pipe, rows, name, values):
    curve = learning_curve(
        pipe, rows.X, rows.y, train_sizes=[20, 40], cv=rows.cv, scoring=SCORER,
        error_score="raise", **rows.params,
    )  # fmt: skip
    return curve[2]


def by_validation_curve(pipe, rows, name, values):
    return validation_curve(
        pipe, rows.X, rows.y, param_name=name, param_range=values, cv=rows.cv, scoring=SCORER,
        error_score="raise", **rows.params,
    )[1]  # fmt: skip


def by_nested_search(pipe, rows, name, values):
    inner = GridSearchCV(pipe, {name: values}, cv=2, scoring=SCORER, error_score="raise")
    if rows.metadata:
        inner.set_params(cv=GroupKFold(2))
        return cross_val_score(
            inner, rows.X, rows.y, cv=rows.cv, scoring=SCORER, error_score="raise", **rows.params
        )
    scores = []
    for train, test in rows.folds:  # folds of folds by the index, which the tools do not know
        X, y = rows.X.iloc[train], rows.y[train]
        labels = X.index.get_level_values(0)
        inner.set_params(cv=list(GroupKFold(2).split(X, groups=labels)))
        scores.append(SCORER(inner.fit(X, y), rows.X.iloc[test], rows.y[test]))
    return np.array(scores)


def by_transformed_target(pipe, rows, name, values):
    y = np.nan_to_num(rows.y)  # it refuses NaN
    target = TransformedTargetRegressor(pipe, func=np.sinh, inverse_func=np.arcsinh)
    return cross_val_score(
        target, rows.X, y, cv=rows.cv, scoring=ForecastScorer(0), error_score="raise", **rows.params
    )


TOOLS = [
    by_grid,
    by_random_search,
    by_cross_validate,
    by_default_score,
    by_learning_curve,
    by_validation_curve,
    by_nested_search,
    by_transformed_target,
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("tool", TOOLS)
def test_routing_and_multiindex_agree_in_every_tool(tool, model, toy):
    pipe, (name, values) = in_pipeline(model), parameter_of(model)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = tool(pipe, Rows(toy, routed=True), name, values)
    with sklearn.config_context(transform_output="pandas"):
        indexed = tool(pipe, Rows(toy, routed=False), name, values)
    for one, other in zip(routed, indexed, strict=True):
        assert np.isfinite(one).all()
        assert_allclose(one, other, rtol=1e-9)


def test_predictions_across_folds_need_the_multiindex(toy):
    pipe, rows = in_pipeline(MODELS[1]), Rows(toy, routed=False)
    with sklearn.config_context(transform_output="pandas"):
        found = cross_val_predict(pipe, rows.X, rows.y, cv=rows.cv)
        for train, test in rows.folds:
            fold = clone(pipe).fit(rows.X.iloc[train], rows.y[train])
            assert_allclose(found[test], fold.predict(rows.X.iloc[test]))
    routed = Rows(toy, routed=True)
    with (
        sklearn.config_context(enable_metadata_routing=True),
        pytest.raises(ValueError, match="needs the label of every row"),
    ):
        cross_val_predict(pipe, routed.X, routed.y, cv=routed.cv, **routed.params)


def test_halving_by_iterations_agrees_with_its_own_rounds(toy):
    rows = Rows(toy, routed=True)
    with sklearn.config_context(enable_metadata_routing=True):
        search = HalvingGridSearchCV(
            in_pipeline(MODELS[1]), {"model__initial_state": ["varying", "shared", "zero"]},
            resource="model__max_iter", min_resources=4, max_resources=12, cv=rows.cv,
            scoring=SCORER, random_state=0, error_score="raise",
        )  # fmt: skip
        search.fit(rows.X, rows.y, **rows.metadata)
        plain = in_pipeline(MODELS[1]).set_params(**search.best_params_)
        expected = cross_val_score(
            plain, rows.X, rows.y, cv=rows.cv, scoring=SCORER, **rows.params
        ).mean()
    assert search.n_resources_ == [4, 12]
    assert search.best_params_["model__max_iter"] == 12
    assert search.best_score_ == pytest.approx(expected)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_threads_and_processes_agree(model, toy):
    rows = Rows(toy, routed=True)
    with sklearn.config_context(enable_metadata_routing=True):
        scores = [
            cross_val_score(
                in_pipeline(model), rows.X, rows.y, cv=rows.cv, scoring=SCORER, n_jobs=n_jobs,
                error_score="raise", **rows.params,
            )
            for n_jobs in (1, 2)
        ]  # fmt: skip
        with joblib.parallel_config(backend="threading"):
            scores.append(
                cross_val_score(
                    in_pipeline(model), rows.X, rows.y, cv=rows.cv, scoring=SCORER, n_jobs=2,
                    error_score="raise", **rows.params,
                )
            )  # fmt: skip
    assert_array_equal(scores[0], scores[1])
    assert_array_equal(scores[0], scores[2])


def test_shuffled_labels_tell_nothing_new(toy):
    """A permutation test shuffles whole sequences of outputs within groups."""
    rows = Rows(toy, routed=True)
    with sklearn.config_context(enable_metadata_routing=True):
        score, others, _ = permutation_test_score(
            PooledLDS(1), rows.X, rows.y, cv=rows.cv, scoring=SCORER, n_permutations=2,
            random_state=0, params=rows.metadata,
        )  # fmt: skip
    assert score > others.max()


# -------------------------------------------------------------------------------- to other places


def fitted(case, toy):
    X, y, groups, times = toy
    model = clone(case.estimator).fit(X, y, groups=groups, times=times)
    return model, model.predict(X, groups=groups, times=times, y_context=y)


def predict_pickled(text, X, y, groups, times):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return pickle.loads(text).predict(X, groups=groups, times=times, y_context=y)


@every_case
def test_a_pickle_works_in_another_process(case, toy):
    model, expected = fitted(case, toy)
    (found,) = joblib.Parallel(n_jobs=2)(
        joblib.delayed(predict_pickled)(pickle.dumps(model), *toy) for _ in range(1)
    )
    assert_array_equal(found, expected)


@every_case
def test_a_round_trip_through_skops(case, toy):
    skops = pytest.importorskip("skops.io")
    model, expected = fitted(case, toy)
    text = skops.dumps(model)
    unknown = skops.get_untrusted_types(data=text)
    assert all(name.startswith(("mtds_sklearn.", "toy_lds.")) for name in unknown)
    X, y, groups, times = toy
    revived = skops.loads(text, trusted=unknown)
    assert_array_equal(revived.predict(X, groups=groups, times=times, y_context=y), expected)


@every_case
def test_parameters_can_be_set_and_cloned(case):
    for name, values in case.grid.items():
        model = clone(case.estimator).set_params(**{name: values[1]})
        assert clone(model).get_params()[name] == values[1]
    with pytest.raises(ValueError, match="Invalid parameter 'n_stats' for estimator"):
        clone(case.estimator).set_params(n_stats=3)


@every_case
def test_the_html_repr_links_to_the_documentation(case, toy):
    model, _ = fitted(case, toy)
    html = model._repr_html_()
    if not isinstance(model, ToyLDS):
        assert re.search(rf"https://mtds-sklearn\.[^\"]*{type(model).__name__}\.html", html)
    assert "Fitted" in html


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@every_case
def test_the_other_entry_to_the_checks(case):
    results = check_estimator(
        clone(case.estimator),
        expected_failed_checks=expected_failed_checks(case.estimator),
        on_fail="raise",
        on_skip=None,
    )
    failed = {result["check_name"] for result in results if result["status"] == "xfail"}
    assert failed == set(case.failed_checks)
