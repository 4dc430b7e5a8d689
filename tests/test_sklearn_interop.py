"""The public estimators inside the tools of scikit-learn, and under other containers."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from public_estimators import CASES, name_of
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from toy_lds import make_toy

from mtds_sklearn.model_selection import (
    ForecastScorer,
    PrefixSplit,
    forecast_scorers,
    mask_future,
)

# Small fits need neither converge nor be sure; what is tested here is what they are given.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*effective draws:UserWarning"),
]

every_estimator = pytest.mark.parametrize("case", CASES, ids=name_of)
ordered_estimators = pytest.mark.parametrize(
    "case", [case for case in CASES if case.is_ordered], ids=name_of
)


@pytest.fixture
def toy():
    X, y, groups, times = make_toy(n_sequences=8, length=10)
    y[7] = np.nan
    return X, y, groups, times


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def as_frame(X, groups, times):
    index = pd.MultiIndex.from_arrays([groups, times], names=["sequence", "time"])
    return pd.DataFrame(X, columns=["dose", "weight"], index=index)


def in_pipeline(case, scaler=None):
    """Return the estimator after a scaler, and the grid of its parameters there."""
    pipe = make_pipeline(scaler or StandardScaler(), clone(case.estimator))
    return pipe, {f"{name_of(case).lower()}__{key}": value for key, value in case.grid.items()}


# ------------------------------------------------------------------- pipelines and searches


@every_estimator
def test_a_pipeline_hands_on_everything(case, toy, routing):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    context = mask_future(y, groups, times, 4)
    pipe, _ = in_pipeline(case)
    pipe.fit(X, y, **rows)
    scaled = StandardScaler().fit_transform(X)
    alone = clone(case.estimator).fit(scaled, y, **rows)
    arguments = rows | {"y_context": context, "return_std": True, "quantiles": [0.3]}
    arguments["horizon"] = case.horizon
    pairs = zip(pipe.predict(X, **arguments), alone.predict(scaled, **arguments), strict=True)
    for part, expected in pairs:
        assert_allclose(part, expected)
    rows["y_context"] = context
    assert_allclose(pipe.score(X, y, **rows), alone.score(scaled, y, **rows))


@every_estimator
def test_routing_and_multiindex_give_the_same_scores(case, toy):
    X, y, groups, times = toy
    order = np.random.default_rng(5).permutation(len(X))
    X, y, groups, times = X[order], y[order], groups[order], times[order]
    scoring = forecast_scorers((0, 3, 0.5)) | {"crps": ForecastScorer(3, metric="crps")}
    # This scaler does not sum, which would depend on how the numbers lie in memory.
    pipe, _ = in_pipeline(case, MaxAbsScaler())
    with sklearn.config_context(enable_metadata_routing=True):
        routed = cross_validate(
            pipe,
            X,
            y,
            cv=GroupKFold(3),
            scoring=scoring,
            params={"groups": groups, "times": times},
            error_score="raise",
        )
    with sklearn.config_context(transform_output="pandas"):
        indexed = cross_validate(
            pipe,
            as_frame(X, groups, times),
            y,
            cv=list(GroupKFold(3).split(X, groups=groups)),
            scoring=scoring,
            error_score="raise",
        )
    for name in scoring:
        assert np.isfinite(routed[f"test_{name}"]).all()
        # row-wise regressors do sum over what pandas lays out in its own way
        rtol = 0.0 if case.is_ordered else 1e-12
        assert_allclose(routed[f"test_{name}"], indexed[f"test_{name}"], rtol=rtol)


@every_estimator
def test_a_grid_search_is_the_same_in_two_processes(case, toy, routing):
    X, y, groups, times = toy
    pipe, grid = in_pipeline(case)
    results = []
    for n_jobs in (1, 2):
        search = GridSearchCV(
            pipe,
            grid,
            cv=GroupKFold(2),
            scoring=ForecastScorer(3),
            n_jobs=n_jobs,
            error_score="raise",
        )
        results.append(search.fit(X, y, groups=groups, times=times))
    one, two = results
    scores = one.cv_results_["mean_test_score"]
    assert scores[0] != scores[1]
    assert_array_equal(scores, two.cv_results_["mean_test_score"])
    rows = {"groups": groups, "times": times}
    assert one.score(X, y, **rows) == two.score(X, y, **rows)
    assert one.score(X, y, **rows) == ForecastScorer(3)(one.best_estimator_, X, y, **rows)


@every_estimator
def test_nested_cross_validation(case, toy, routing):
    X, y, groups, times = toy
    pipe, grid = in_pipeline(case)
    scorer = ForecastScorer(3, metric="nll")
    search = GridSearchCV(pipe, grid, cv=GroupKFold(2), scoring=scorer, error_score="raise")
    scores = cross_val_score(
        search,
        X,
        y,
        cv=GroupKFold(2),
        scoring=scorer,
        params={"groups": groups, "times": times},
        error_score="raise",
    )
    assert np.isfinite(scores).all()


@every_estimator
def test_default_scoring_receives_the_labels(case, toy, routing):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    scores = cross_val_score(
        case.estimator, X, y, cv=GroupKFold(2), params=rows, error_score="raise"
    )
    for score, (train, test) in zip(scores, GroupKFold(2).split(X, y, groups), strict=True):
        fold = clone(case.estimator).fit(X[train], y[train], groups=groups[train])
        assert_allclose(score, fold.score(X[test], y[test], groups=groups[test]))


@every_estimator
def test_the_future_of_known_sequences(case, toy, routing):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    (score,) = cross_val_score(
        case.estimator,
        X,
        y,
        cv=PrefixSplit((0.5,)),
        scoring=ForecastScorer(0.5, metric="mae"),
        params=rows,
        error_score="raise",
    )
    past = times < 5
    fold = clone(case.estimator).fit(X[past], y[past], groups=groups[past], times=times[past])
    mean = fold.predict(X, y_context=np.where(past, y, np.nan), **rows)
    assert_allclose(score, -np.nanmean(np.abs(y - mean)[~past]))


@ordered_estimators
def test_tools_that_lose_the_labels_fail_loudly(case, toy, routing):
    X, y, groups, times = toy
    y = np.nan_to_num(y)  # string scorers refuse NaN
    rows = {"groups": groups, "times": times}
    arguments = {"cv": GroupKFold(2), "params": rows}
    with pytest.raises(ValueError, match="needs the label of every row"):
        cross_val_predict(case.estimator, X, y, **arguments)
    with pytest.raises(ValueError, match="needs the label of every row"):
        cross_val_score(
            case.estimator,
            X,
            y,
            scoring="neg_mean_squared_error",
            error_score="raise",
            **arguments,
        )
    search = GridSearchCV(case.estimator, {}, cv=GroupKFold(2)).fit(X, y, **rows)
    with pytest.raises(ValueError, match="needs the label of every row"):
        search.predict(X)


@every_estimator
def test_with_a_multiindex_no_tool_loses_the_labels(case, toy):
    X, y, groups, times = toy
    y = np.nan_to_num(y)
    frame = as_frame(X, groups, times)
    folds = list(GroupKFold(2).split(X, groups=groups))
    predictions = cross_val_predict(case.estimator, frame, y, cv=folds)
    scores = cross_val_score(
        case.estimator, frame, y, cv=folds, scoring="neg_mean_squared_error", error_score="raise"
    )
    search = GridSearchCV(case.estimator, {}, cv=folds).fit(frame, y)
    for score, (train, test) in zip(scores, folds, strict=True):
        fold = clone(case.estimator).fit(X[train], y[train], groups=groups[train])
        expected = fold.predict(X[test], groups=groups[test])
        assert_allclose(predictions[test], expected)
        assert_allclose(score, -np.mean((y[test] - expected) ** 2))
    model = clone(case.estimator).fit(frame, y)
    plain = frame.reset_index(drop=True)
    assert_allclose(search.predict(frame), model.predict(plain, groups=groups, times=times))


# ------------------------------------------------------------------------ copies and containers


@every_estimator
def test_clone_and_pickle(case, toy):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    model = clone(case.estimator).fit(X, y, **rows)
    revived = pickle.loads(pickle.dumps(model))
    assert_array_equal(
        revived.predict(X, y_context=y, **rows), model.predict(X, y_context=y, **rows)
    )
    copy = clone(model)
    assert str(copy.get_params()) == str(case.estimator.get_params())
    with pytest.raises(NotFittedError):
        copy.predict(X, **rows)
    assert_array_equal(copy.fit(X, y, **rows).predict(X, **rows), model.predict(X, **rows))


def as_read_only(array, folder):
    array = array.copy()
    array.flags.writeable = False
    return array


def as_memmap(array, folder):
    path = folder / f"{id(array)}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


CONTAINERS = {
    "read-only": as_read_only,
    "memmap": as_memmap,
    "float32": lambda array, folder: array.astype(np.float32),
    "Fortran": lambda array, folder: np.asfortranarray(array),
    "strided": lambda array, folder: np.repeat(array, 2, axis=0)[::2],
    "list": lambda array, folder: array.tolist(),
    "pandas": lambda array, folder: pd.DataFrame(array).set_index(np.arange(len(array)) + 7),
    "polars": lambda array, folder: pl.DataFrame(array),
}


@every_estimator
@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_do_not_matter(case, container, tmp_path):
    X, y, groups, times = make_toy(n_outputs=2)
    X, y = X.astype(np.float32).astype(float), y.astype(np.float32).astype(float)
    y[3] = np.nan
    rows = {"groups": groups, "times": times}
    model = clone(case.estimator).fit(X, y, **rows)
    convert = CONTAINERS[container]
    wrapped_X, wrapped_y = convert(X, tmp_path), convert(y, tmp_path)
    other = clone(case.estimator).fit(wrapped_X, wrapped_y, **rows)
    # float32 is the one container that may be computed in, by regressors that do so
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if container == "float32" else {"rtol": 1e-12}
    assert_allclose(
        other.predict(wrapped_X, y_context=wrapped_y, **rows),
        model.predict(X, y_context=y, **rows),
        **tolerance,
    )
    assert_allclose(other.score(wrapped_X, wrapped_y, **rows), model.score(X, y, **rows), rtol=1e-4)


@every_estimator
@pytest.mark.parametrize(
    "convert",
    [list, pd.Series, pl.Series, pd.Categorical, lambda labels: pd.Index(labels)],
    ids=["list", "pandas", "polars", "categorical", "index"],
)
def test_labels_come_in_many_containers(case, toy, convert):
    X, y, groups, times = toy
    names = [f"patient {i}" for i in groups]
    model = clone(case.estimator).fit(X, y, groups=names, times=times)
    other = clone(case.estimator).fit(X, y, groups=convert(names), times=pd.Series(times))
    assert_array_equal(
        other.predict(X, groups=convert(names), times=times.tolist()),
        model.predict(X, groups=names, times=times),
    )


@every_estimator
def test_names_of_inputs_are_checked(case, toy):
    X, y, groups, times = toy
    frame = as_frame(X, groups, times)
    model = clone(case.estimator).fit(frame, y)
    assert_array_equal(model.feature_names_in_, ["dose", "weight"])
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["weight", "dose"]])


@every_estimator
def test_names_of_outputs_are_checked(case):
    """Outputs in another order would be taken for each other without a word."""
    X, y, groups, times = make_toy(n_outputs=2)
    rows = {"groups": groups, "times": times}
    table = pd.DataFrame(y, columns=["pressure", "index"])
    model = clone(case.estimator).fit(X, table, **rows)
    expected = model.predict(X, y_context=y, **rows)
    assert_array_equal(model.predict(X, y_context=table, **rows), expected)
    other = pl.DataFrame(table.to_dict("list"))
    assert_array_equal(model.predict(X, y_context=other, **rows), expected)
    swapped, renamed = table[["index", "pressure"]], table.set_axis([0, 1], axis=1)
    message = r"in their order, \['pressure', 'index'\]; got \['index', 'pressure'\]"
    with pytest.raises(ValueError, match=f"{name_of(case)}: y_context .* {message}"):
        model.predict(X, y_context=swapped, **rows)
    with pytest.raises(ValueError, match=f"{name_of(case)}.score: y .* {message}"):
        model.score(X, swapped, **rows)
    assert_array_equal(model.predict(X, y_context=renamed, **rows), expected)  # no names to compare


# --------------------------------------------------------- what the checks cannot say about rows


@every_estimator
def test_times_make_the_order_of_rows_irrelevant(case, toy):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times, "y_context": mask_future(y, groups, times, 4)}
    model = clone(case.estimator).fit(X, y, groups=groups, times=times)
    # the order of first appearance stays, so that fits are the same to the last digit
    order = np.lexsort((np.random.default_rng(1).permutation(len(X)), groups))
    shuffled = {name: value[order] for name, value in rows.items()}
    other = clone(case.estimator).fit(X[order], y[order], groups=groups[order], times=times[order])
    assert_allclose(
        other.predict(X[order], **shuffled), model.predict(X, **rows)[order], rtol=1e-6, atol=1e-9
    )


@every_estimator
def test_sequences_are_forecast_independently(case, toy):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times, "y_context": mask_future(y, groups, times, 4)}
    model = clone(case.estimator).fit(X, y, groups=groups, times=times)
    together = model.predict(X, **rows)
    some = np.isin(groups, [1, 4])
    alone = model.predict(X[some], **{name: value[some] for name, value in rows.items()})
    assert_allclose(alone, together[some], rtol=1e-9, atol=1e-12)


@every_estimator
def test_rows_after_the_forecast_and_new_labels_change_nothing(case, toy):
    X, y, groups, times = toy
    context = mask_future(y, groups, times, 4)
    model = clone(case.estimator).fit(X, y, groups=groups, times=times)
    whole = model.predict(X, groups=groups, times=times, y_context=context)
    early = times < 7
    names = np.array(list("stuvwxyz"))[groups]
    cut = model.predict(X[early], groups=names[early], times=times[early], y_context=context[early])
    assert_allclose(cut, whole[early], rtol=1e-9, atol=1e-12)
