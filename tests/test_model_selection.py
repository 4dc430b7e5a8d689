import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import GridSearchCV, check_cv
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from toy_lds import ToyLDS, make_toy

from mtds_sklearn._scores import crps_of_gaussian, crps_of_quantiles
from mtds_sklearn.model_selection import (
    ForecastScorer,
    PrefixSplit,
    forecast_scorers,
    mask_future,
    stack_sequences,
    unstack,
)

METRICS = ["rmse", "mae", "r2", "nll", "crps", "coverage"]


@pytest.fixture
def toy():
    """Two outputs, missing values, rows in no order."""
    X, y, groups, times = make_toy(n_outputs=2)
    y[::5, 0] = np.nan
    order = np.random.default_rng(3).permutation(len(X))
    return X[order], y[order], groups[order], times[order] + 30


@pytest.fixture
def fitted(toy):
    X, y, groups, times = toy
    return ToyLDS().fit(X, y, groups=groups, times=times)


class GaussianOnly(RegressorMixin, BaseEstimator):
    """Knows a standard deviation but neither quantiles nor densities."""

    def __init__(self, inner):
        self.inner = inner

    def fit(self, X, y, **rows):
        self.inner_ = clone(self.inner).fit(X, y, **rows)
        return self

    def predict(self, X, groups=None, times=None, y_context=None, return_std=False):
        return self.inner_.predict(
            X, groups=groups, times=times, y_context=y_context, return_std=return_std
        )


# ------------------------------------------------------------------------------ ForecastScorer


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_those_of_the_rows_after_the_context(fitted, toy, metric):
    X, y, groups, times = toy
    rows = {"groups": groups + 100, "times": times}
    fitted.noise_std_ = fitted.noise_std_ / 3  # so that values lie inside and outside intervals
    context = np.where((times < 34)[:, None], y, np.nan)
    mean, std = fitted.predict(X, y_context=context, return_std=True, **rows)
    expected = []
    for j in range(2):
        part = (times >= 34) & ~np.isnan(y[:, j])
        truth, m, s = y[part, j], mean[part, j], std[part, j]
        expected.append(
            {
                "rmse": -root_mean_squared_error(truth, m),
                "mae": -mean_absolute_error(truth, m),
                "r2": r2_score(truth, m),
                "nll": np.mean(norm.logpdf(truth, m, s)),
                "crps": -np.mean(crps_of_gaussian(truth, m, s)),
                "coverage": np.mean(np.abs(truth - m) < norm.ppf(0.95) * s),
            }[metric]
        )
    score = ForecastScorer(4, metric)(fitted, X, y, **rows)
    assert isinstance(score, float)
    assert_allclose(score, np.mean(expected), rtol=0.01 if metric == "crps" else 1e-12)


@pytest.mark.parametrize("metric", ["nll", "crps", "coverage"])
def test_an_estimator_with_std_only_is_taken_as_gaussian(fitted, toy, metric):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    gaussian = GaussianOnly(ToyLDS()).fit(X, y, **rows)
    assert_allclose(
        ForecastScorer(4, metric)(gaussian, X, y, **rows),
        ForecastScorer(4, metric)(fitted, X, y, **rows),
        rtol=0.01 if metric == "crps" else 1e-12,
    )


def test_an_estimator_without_std_is_refused_by_name(toy):
    X, y, groups, times = toy
    plain = LinearRegression().fit(X, np.nan_to_num(y))
    with pytest.raises(ValueError, match=r"predict takes return_std .*, got LinearRegression"):
        ForecastScorer(4, "nll")(plain, X, y, groups=groups, times=times)


def test_own_densities_come_first(toy):
    X, y, groups, times = toy

    class Constant(ToyLDS):
        def forecast_log_density(self, X, y, **known):
            assert set(known) == {"groups", "times", "y_context"}
            return np.full(y.shape, -3.5)

    rows = {"groups": groups, "times": times}
    assert ForecastScorer(4, "nll")(Constant().fit(X, y, **rows), X, y, **rows) == -3.5


@pytest.mark.parametrize("metric", METRICS)
def test_pipelines_and_searches_are_seen_through(toy, metric):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    scorer = ForecastScorer(4, metric)
    expected = scorer(ToyLDS().fit(scaled, y, **rows), scaled, y, **rows)
    pipe = make_pipeline(StandardScaler(), make_pipeline(ToyLDS()))
    fit_rows = {f"pipeline__toylds__{name}": value for name, value in rows.items()}
    assert_allclose(scorer(pipe.fit(X, y, **fit_rows), X, y, **rows), expected)
    search = GridSearchCV(pipe, {}, cv=[(np.arange(72), np.arange(72))], scoring=scorer)
    search.best_estimator_ = pipe
    assert_allclose(scorer(search, X, y, **rows), expected)


def test_labels_of_a_multiindex_survive_a_step_that_drops_it(toy):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    pipe = make_pipeline(StandardScaler(), ToyLDS())
    pipe.fit(X, y, **{f"toylds__{name}": value for name, value in rows.items()})
    frame = pd.DataFrame(X, index=pd.MultiIndex.from_arrays([groups, times]))
    for metric in ("rmse", "nll"):
        scorer = ForecastScorer(4, metric)
        assert_allclose(scorer(pipe, frame, y), scorer(pipe, X, y, **rows))


@pytest.mark.parametrize("metric", ["rmse", "r2"])
def test_an_output_without_anything_to_score_is_left_out(fitted, toy, metric):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    y[times >= 34, 1] = np.nan
    mean = fitted.predict(X, y_context=np.where((times < 34)[:, None], y, np.nan), **rows)
    part = (times >= 34) & ~np.isnan(y[:, 0])
    r2 = r2_score(y[part, 0], mean[part, 0])
    rmse = root_mean_squared_error(y[part, 0], mean[part, 0])
    score = ForecastScorer(4, metric)(fitted, X, y, **rows)
    assert_allclose(score, r2 if metric == "r2" else -rmse)


def test_a_share_counts_rows_of_each_sequence_and_rounds_down():
    groups = np.repeat([0, 1], [7, 10])
    context = mask_future(np.arange(17.0), groups, None, 0.5)
    assert_array_equal(np.flatnonzero(~np.isnan(context)), [0, 1, 2, 7, 8, 9, 10, 11])
    many = mask_future(np.zeros(100), None, None, 0.29)  # 0.29 * 100 < 29 in floating point
    assert np.count_nonzero(~np.isnan(many)) == 29


def test_horizon_forecasts_from_everything_old_enough(fitted, toy):
    X, y, groups, times = toy
    rows = {"groups": groups, "times": times}
    mean = fitted.predict(X, y_context=y, horizon=2, **rows)
    expected = []
    for j in range(2):
        part = (times >= 34) & ~np.isnan(y[:, j])
        expected.append(root_mean_squared_error(y[part, j], mean[part, j]))
    scorer = ForecastScorer(4, horizon=2)
    assert_allclose(scorer(fitted, X, y, **rows), -np.mean(expected))


def test_context_zero_is_a_cold_start(fitted, toy):
    X, y, groups, times = toy
    rows = {"groups": groups + 100, "times": times}
    assert_allclose(ForecastScorer(0, "r2")(fitted, X, y, **rows), fitted.score(X, y, **rows))


@pytest.mark.parametrize("context", [-1, 0.0, 1.0, 1.5, True, "5", None, np.nan])
def test_bad_contexts_are_refused(fitted, toy, context):
    X, y, groups, times = toy
    with pytest.raises(ValueError, match="ForecastScorer: context must be an integer >= 0"):
        ForecastScorer(context)(fitted, X, y, groups=groups, times=times)


def test_other_bad_parameters_are_refused(fitted, toy):
    X, y, groups, _ = toy
    with pytest.raises(ValueError, match=r"metric must be one of .*'crps'.*, got 'mse'"):
        ForecastScorer(3, "mse")(fitted, X, y, groups=groups)
    with pytest.raises(
        ValueError, match="ForecastScorer: horizon must be None or an integer >= 1, got 0"
    ):
        ForecastScorer(3, horizon=0)(fitted, X, y, groups=groups)
    with pytest.raises(ValueError, match="y needs one row for each of the 72 rows of X, got 71"):
        ForecastScorer(3)(fitted, X, y[1:], groups=groups)


def test_nothing_left_to_score_is_told_with_numbers(fitted, toy):
    X, y, groups, times = toy
    message = "nothing is left to score with context=12: 0 of 72 rows .* 129 of 144 values"
    with pytest.raises(ValueError, match=message):
        ForecastScorer(12)(fitted, X, y, groups=groups, times=times)


def test_a_scorer_is_a_well_behaved_object():
    scorer = ForecastScorer(12, metric="crps")
    assert repr(scorer) == "ForecastScorer(context=12, metric='crps')"
    assert clone(scorer).get_params() == {"context": 12, "metric": "crps", "horizon": None}
    assert scorer.get_metadata_routing().score.requests == {"groups": True, "times": True}
    search = GridSearchCV(ToyLDS(), {}, scoring=scorer)
    assert search.get_params()["scoring__context"] == 12


def test_forecast_scorers_make_one_for_each_context():
    scorers = forecast_scorers([0, 8, 0.5], metric="nll", horizon=1)
    assert list(scorers) == ["context_0", "context_8", "context_0.5"]
    assert scorers["context_8"].get_params() == {"context": 8, "metric": "nll", "horizon": 1}
    assert list(forecast_scorers()) == ["context_0", "context_8", "context_32"]


# ------------------------------------------------------------------------------------- formulas


def test_crps_is_the_integral_of_the_squared_difference_of_distributions():
    for y, mean, std in [(0.3, 0.0, 1.0), (-4.0, 1.0, 0.5), (2.0, 2.0, 3.0)]:
        below = quad(lambda x, m=mean, s=std: norm.cdf(x, m, s) ** 2, -50, y, points=[mean])[0]
        above = quad(lambda x, m=mean, s=std: norm.sf(x, m, s) ** 2, y, 50, points=[mean])[0]
        exact = below + above
        gaussian = crps_of_gaussian(np.array(y), np.array(mean), np.array(std))
        assert_allclose(gaussian, exact, rtol=1e-6)
        levels = (np.arange(64) + 0.5) / 64
        quantiles = norm.ppf(levels, mean, std)
        assert abs(crps_of_quantiles(np.array(y), quantiles, levels) - exact) < 0.01 * std


def test_crps_without_spread_is_the_absolute_error():
    y, mean = np.array([1.0, 2.0, -300.0]), np.array([1.0, 5.0, 1e4])
    assert_allclose(crps_of_gaussian(y, mean, np.zeros(3)), np.abs(y - mean), atol=1e-300)


# ---------------------------------------------------------------------------------- PrefixSplit


def test_prefix_split_trains_on_what_comes_first(toy):
    X, y, groups, times = toy
    cv = PrefixSplit(fractions=(0.25, 0.7))
    splits = list(cv.split(X, y, groups=groups, times=times))
    assert len(splits) == cv.get_n_splits(X, y, groups=groups, times=times) == 2
    for (train, test), n_rows in zip(splits, [3, 8], strict=True):
        assert_array_equal(train, np.flatnonzero(times < 30 + n_rows))
        assert_array_equal(test, np.arange(len(X)))
    assert check_cv(cv) is cv
    assert cv.get_metadata_routing().split.requests == {"groups": True, "times": True}
    assert repr(PrefixSplit((0.5,))) == "PrefixSplit(fractions=(0.5,))"


def test_prefix_split_reads_a_row_multiindex(toy):
    X, _, groups, times = toy
    frame = pd.DataFrame(X, index=pd.MultiIndex.from_arrays([groups, times]))
    ((train, _),) = PrefixSplit().split(frame)
    assert_array_equal(train, np.flatnonzero(times < 36))


def test_no_training_row_is_scored_with_the_same_share():
    groups = np.repeat([0, 1, 2], [1, 7, 10])
    y = np.arange(18.0)
    ((train, _),) = PrefixSplit((0.3,)).split(y[:, None], groups=groups)
    assert_array_equal(train, np.flatnonzero(~np.isnan(mask_future(y, groups, None, 0.3))))


@pytest.mark.parametrize("fraction", [0, 1, 1.0, -0.5])
def test_fractions_lie_between_0_and_1(fraction):
    with pytest.raises(ValueError, match=r"PrefixSplit: .* between 0 and 1"):
        next(PrefixSplit((fraction,)).split(np.zeros((4, 1))))


def test_prefix_split_needs_a_row_to_train_on():
    with pytest.raises(ValueError, match=r"a fraction of 0.1 leaves no row of 4 to train on"):
        next(PrefixSplit((0.1,)).split(np.zeros((4, 1))))


# --------------------------------------------------------------------------------------- tables


def test_mask_future_hides_rows_in_time_order(toy):
    _, y, groups, times = toy
    context = mask_future(y, groups, times, 2)
    assert_array_equal(context, np.where((times < 32)[:, None], y, np.nan))
    assert_array_equal(mask_future(y[:, 1], groups, times, 2), context[:, 1])
    assert_array_equal(mask_future(y[:, 1].tolist(), None, None, 5)[:5], y[:5, 1])
    with pytest.raises(ValueError, match="mask_future: context must be"):
        mask_future(y, groups, times, 1.0)


def test_lists_of_sequences_become_a_table_and_back():
    inputs = [np.arange(6.0).reshape(3, 2), np.ones((1, 2)), np.zeros((2, 2))]
    outputs = [[1.0, 2.0, np.nan], [3.0], [4.0, 5.0]]
    X, y, groups, times = stack_sequences(inputs, outputs)
    assert_array_equal(X, np.concatenate(inputs))
    assert_array_equal(y, [1, 2, np.nan, 3, 4, 5])
    assert_array_equal(groups, [0, 0, 0, 1, 2, 2])
    assert_array_equal(times, [0, 1, 2, 0, 0, 1])
    for back, original in zip(unstack(y, groups), outputs, strict=True):
        assert_array_equal(back, original)


def test_stacking_without_inputs_and_with_several_outputs():
    X, y, groups, _ = stack_sequences(None, [np.ones((2, 3)), np.zeros((1, 3))])
    assert_array_equal(X, np.zeros((3, 1)))
    assert y.shape == (3, 3)
    X, _, _, _ = stack_sequences([[1.0, 2.0], [3.0]], [np.ones((2, 3)), np.zeros((1, 3))])
    assert_array_equal(X, [[1.0], [2.0], [3.0]])
    assert_array_equal(groups, [0, 0, 1])


def test_stacking_refuses_what_does_not_match():
    with pytest.raises(
        ValueError, match=r"got 2 inputs of \[2, 1\] rows and 2 outputs of \[2, 2\]"
    ):
        stack_sequences([[1.0, 2.0], [3.0]], [[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match="needs at least one sequence"):
        stack_sequences(None, [])


def test_unstacking_keeps_the_order_of_first_appearance():
    parts = unstack(np.arange(10).reshape(5, 2), ["b", "a", "b", "c", "a"])
    assert [part[:, 0].tolist() for part in parts] == [[0, 4], [2, 8], [6]]
    with pytest.raises(ValueError, match="one label for each of the 5 rows, got 2"):
        unstack(np.arange(5), [0, 1])
