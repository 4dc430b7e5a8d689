import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVR
from sklearn.utils import get_tags
from toy_lds import make_toy

from mtds_sklearn.estimators._row_wise import RowWise


@pytest.mark.parametrize(("n_outputs", "shape"), [(1, ()), (1, (1,)), (3, (3,))])
def test_it_is_the_inner_regressor_on_the_complete_rows(n_outputs, shape):
    X, y, groups, times = make_toy(n_outputs=n_outputs)
    y = y.reshape(len(X), *shape)
    y[5] = np.nan
    y.reshape(len(X), -1)[7, -1] = np.nan
    kept = np.setdiff1d(np.arange(len(X)), [5, 7])
    model = RowWise(Ridge(alpha=2.0)).fit(X, y, groups=groups, times=times)
    alone = Ridge(alpha=2.0).fit(X[kept], y[kept])
    mean, std, quantiles = model.predict(
        X, groups=groups, times=times, return_std=True, quantiles=[0.1, 0.5]
    )
    assert mean.shape == std.shape == y.shape
    assert_allclose(mean, alone.predict(X).reshape(y.shape))
    residual_std = np.sqrt(np.mean((y[kept] - mean[kept]) ** 2, axis=0))
    assert_allclose(std, np.broadcast_to(residual_std, y.shape))
    assert quantiles.shape == (*y.shape, 2)
    assert_allclose(quantiles[..., 0], mean + norm.ppf(0.1) * std)
    assert_allclose(quantiles[..., 1], mean)
    std[:] = 0  # the caller owns what it gets


def test_what_it_cannot_use_changes_nothing():
    X, y, groups, times = make_toy()
    model = RowWise(Ridge()).fit(X, y, groups=groups, times=times)
    plain = model.predict(X)  # labels are no use here, so they are not demanded either
    assert_array_equal(model.predict(X, groups=groups, times=times, y_context=y, horizon=1), plain)


def test_what_it_cannot_use_is_checked_all_the_same():
    X, y, groups, _ = make_toy()
    model = RowWise(Ridge()).fit(X, y)
    with pytest.raises(ValueError, match="RowWise: y_context needs one row for each of the 72"):
        model.predict(X, y_context=y[:3])
    with pytest.raises(ValueError, match="RowWise: horizon must be None or an integer >= 1"):
        model.predict(X, horizon=0)
    with pytest.raises(ValueError, match="RowWise: quantiles must be"):
        model.predict(X, quantiles=[1.0])
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[72, 3\]"):
        model.predict(X, groups=groups[:3])
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[72, 3\]"):
        RowWise(Ridge()).fit(X, y, groups=groups[:3])


def test_it_clones_and_has_nested_parameters():
    X, y, _, _ = make_toy()
    inner = Ridge(alpha=3.0)
    model = RowWise(inner).fit(X, y)
    assert not hasattr(inner, "coef_")
    assert model.get_params()["estimator__alpha"] == 3.0
    assert model.set_params(estimator__alpha=5.0).estimator.alpha == 5.0
    with pytest.raises(NotFittedError, match="RowWise"):
        RowWise(inner).predict(X)


def test_a_failed_fit_changes_nothing():
    X, y, _, _ = make_toy()
    model = RowWise(Ridge()).fit(pd.DataFrame(X, columns=["a", "b"]), y)
    before = dict(vars(model))
    with pytest.raises(
        ValueError, match="no observed value in a complete row; at least 1 of its 72"
    ):
        model.fit(X[:, :1], y * np.nan)
    with pytest.raises(ValueError, match="72 of 144 values are NaN"):
        model.fit(X[:, :1], np.where(np.arange(144).reshape(72, 2) % 2, y[:, None], np.nan))
    with pytest.raises(ValueError, match="got 72 infinite values out of 72"):
        model.fit(X[:, :1], np.full(72, np.inf))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.fit(X[:, :1] * np.nan, y)
    assert vars(model) == before
    model.fit(X[:, :1], y)
    assert model.n_features_in_ == 1
    assert not hasattr(model, "feature_names_in_")


def test_the_inner_estimator_must_be_one():
    with pytest.raises(ValueError, match="'estimator' parameter of RowWise must be an object"):
        RowWise("ridge").fit([[1.0]], [1.0])


def test_inputs_are_handed_on_as_they_are():
    frame = pd.DataFrame({"kind": list("abcabc"), "u": np.arange(6.0)})
    y = np.array([1.0, 2.0, 3.0, 1.0, np.nan, 3.0])
    one_hot = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
    model = RowWise(make_pipeline(one_hot, Ridge(alpha=1e-9))).fit(frame, y)
    assert_allclose(model.predict(frame), [1, 2, 3, 1, 2, 3], atol=1e-6)
    assert_array_equal(model.feature_names_in_, ["kind", "u"])


def test_tags_are_those_of_the_inner_regressor():
    assert get_tags(RowWise(HistGradientBoostingRegressor())).input_tags.allow_nan
    assert not get_tags(RowWise(Ridge())).input_tags.allow_nan
    assert get_tags(RowWise(Ridge())).target_tags.multi_output
    assert not get_tags(RowWise(SVR())).target_tags.multi_output
    assert get_tags(RowWise(DummyRegressor())).regressor_tags.poor_score
    assert get_tags(RowWise(Ridge())).estimator_type == "regressor"


def test_score_knows_what_is_revealed():
    X, y, _, times = make_toy()
    y[3] = np.nan
    model = RowWise(LinearRegression()).fit(X, y)
    rows = (times >= 4) & ~np.isnan(y)
    context = np.where(times < 4, y, np.nan)
    expected = LinearRegression.score(model.estimator_, X[rows], y[rows])
    assert_allclose(model.score(X, y, y_context=context), expected)
