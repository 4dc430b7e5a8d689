"""Displays show what the estimators say: the data of every artist against the number it stands for.

How the figures look, no test can tell: whoever changes them looks at them.
"""

import sys
from copy import copy

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chi2
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch
from toy_lds import ToyLDS, make_toy

from mtds_sklearn import (
    ForecastScorer,
    MTLDSRegressor,
    RowWise,
    display,
    forecast_scorers,
    mask_future,
)
from mtds_sklearn.datasets import make_input_driven, make_oscillators
from mtds_sklearn.display import (
    ContextCurveDisplay,
    FamilyDisplay,
    ForecastDisplay,
    LatentSpaceDisplay,
    LowerBoundDisplay,
    RelevanceDisplay,
)
from mtds_sklearn.display._drawing import latent_directions
from mtds_sklearn.learning._gain import with_noise_states

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def no_screen():
    """Draw in memory, and leave no figure open."""
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def train():
    return make_oscillators(12, 30, n_oscillators=1, random_state=0)


@pytest.fixture(scope="module")
def model(train):
    model = MTLDSRegressor(2, 3, specific_variances=False, n_init=1, random_state=0)
    return model.fit(train.X, train.y, groups=train.groups, times=train.times)


@pytest.fixture(scope="module")
def driven():
    """A family with an input and a learned response to it."""
    data = make_input_driven(12, 30, random_state=0)
    model = MTLDSRegressor(2, 1, n_init=1, disturbance="none", max_iter=200, random_state=0)
    return model.fit(data.X, data.y, groups=data.groups, times=data.times), data


@pytest.fixture(scope="module")
def new():
    data = make_oscillators(5, 30, n_oscillators=1, random_state=1)
    data.groups += 100
    return data


# ------------------------------------------------------------------------------- all the displays


def draw_each(model, new) -> dict:
    """Every display as a function of the axes; the names are those of the classes."""
    X = np.zeros((30, 1))
    rows = {"groups": new.groups, "times": new.times}
    return {
        "ForecastDisplay": lambda ax: ForecastDisplay.from_estimator(
            model, new.X, new.y, 5, sequences=[100], ax=ax, **rows
        ),
        "ContextCurveDisplay": lambda ax: ContextCurveDisplay.from_estimator(
            model, new.X, new.y, (2, 5), ax=ax, **rows
        ),
        "FamilyDisplay": lambda ax: FamilyDisplay.from_estimator(model, X, n_directions=1, ax=ax),
        "LatentSpaceDisplay": lambda ax: LatentSpaceDisplay.from_estimator(model, ax=ax),
        "LowerBoundDisplay": lambda ax: LowerBoundDisplay.from_estimator(model, ax=ax),
        "RelevanceDisplay": lambda ax: RelevanceDisplay.from_estimator(model, ax=ax),
    }


NAMES = display.__all__
NO_ROWS = Bunch(groups=None, times=None)


@pytest.mark.parametrize("name", NAMES)
def test_given_axes_are_drawn_on_and_nothing_else(name, model, new):
    figure, axes = plt.subplots(1, 2)
    given = axes if name == "FamilyDisplay" else axes[0]
    shown = draw_each(model, new)[name](given)
    assert shown.figure_ is figure
    drawn = shown.axes_.ravel() if hasattr(shown, "axes_") else [shown.ax_]
    assert drawn[0] is axes[0]
    assert plt.get_fignums() == [figure.number]
    assert figure.legends == []


@pytest.mark.parametrize("name", NAMES)
def test_axes_are_labelled(name, model, new):
    shown = draw_each(model, new)[name](None)
    drawn = shown.axes_.ravel() if hasattr(shown, "axes_") else [shown.ax_]
    for ax in drawn:
        assert ax.get_xlabel()
        # Bars have names instead.
        assert ax.get_ylabel() or name == "RelevanceDisplay"
    shown.figure_.canvas.draw()  # with warnings as errors


@pytest.mark.parametrize("n_models", [1, 4, 9])
def test_legends_stay_inside_the_figure(n_models):
    scores = {f"a rather long name {i}": [0.0, 1.0] for i in range(n_models)}
    shown = ContextCurveDisplay((0, 5), scores).plot()
    shown.figure_.canvas.draw()
    box = shown.figure_.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= shown.figure_.bbox.width


@pytest.mark.parametrize("name", NAMES)
def test_without_matplotlib_the_message_says_what_to_install(name, model, new, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=rf"{name} needs matplotlib.*mtds-sklearn\[plot\]"):
        draw_each(model, new)[name](None)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_number_of_axes_is_refused(name, model, new):
    _, axes = plt.subplots(1, 5)
    with pytest.raises(ValueError, match=rf"{name}: ax needs . Axes .*got 5"):
        draw_each(model, new)[name](axes)


@pytest.mark.parametrize(
    "name", ["FamilyDisplay", "LatentSpaceDisplay", "LowerBoundDisplay", "RelevanceDisplay"]
)
def test_what_was_not_learned_cannot_be_shown(name):
    X, y, groups, times = make_toy()
    other = ToyLDS().fit(X, y, groups=groups, times=times)
    with pytest.raises(ValueError, match=f"{name} .*needs a fitted MTLDSRegressor.*got ToyLDS"):
        draw_each(other, NO_ROWS)[name](None)


@pytest.mark.parametrize("with_names", [False, True])
def test_pipelines_and_searches_are_seen_through(with_names):
    """Without a word: nothing warns of names that X had before."""
    X, y, groups, times = make_toy()
    X = pd.DataFrame(X, columns=["dose", "weight"]) if with_names else X
    rows = {"y": y, "groups": groups, "times": times}
    model = MTLDSRegressor(1, 2, n_init=1, disturbance="none", tol=1e-3, random_state=0)
    pipe = Pipeline([("scale", FunctionTransformer(np.negative)), ("model", model)])
    pipe.fit(X, y, model__groups=groups, model__times=times)
    search = GridSearchCV(pipe, {}, cv=2)
    search.best_estimator_ = pipe
    for estimator in (pipe, search):
        shown = FamilyDisplay.from_estimator(estimator, X[:12])
        alone = FamilyDisplay.from_estimator(model, -X[:12])
        assert_array_equal(shown.curves, alone.curves)
        assert_array_equal(shown.responses, alone.responses)
        mean = LatentSpaceDisplay.from_estimator(estimator, X, **rows).mean
        assert_array_equal(mean, LatentSpaceDisplay.from_estimator(model, -X, **rows).mean)
        relevance = RelevanceDisplay.from_estimator(estimator).relevance
        assert_array_equal(relevance, model.relevance_)
        assert LowerBoundDisplay.from_estimator(estimator).stages is model.stages_
        shown = ForecastDisplay.from_estimator(estimator, X, context=5, n_paths=2, **rows)
        alone = ForecastDisplay.from_estimator(model, -X, context=5, n_paths=2, **rows)
        assert_array_equal(shown.paths, alone.paths)


# ------------------------------------------------------------------------------- ForecastDisplay


def test_forecast_is_what_predict_says(model, new):
    shown = ForecastDisplay.from_estimator(
        model, new.X, new.y, 5, groups=new.groups, times=new.times, sequences=[103, 101], level=0.8
    )
    known = mask_future(new.y, new.groups, new.times, 5)
    mean, band = model.predict(
        new.X, groups=new.groups, times=new.times, y_context=known, quantiles=[0.1, 0.9]
    )
    assert shown.axes_.shape == (1, 2)
    for column, label in enumerate([103, 101]):
        own = np.flatnonzero(new.groups == label)
        line = shown.lines_[0, column]
        assert_array_equal(line.get_xdata(), np.arange(5, 30))
        assert_allclose(line.get_ydata(), mean[own[5:]])
        known_line, hidden_line = shown.known_[0, column], shown.to_come_[0, column]
        assert_array_equal(known_line.get_ydata()[:5], new.y[own[:5]])
        assert np.isnan(known_line.get_ydata()[5:]).all()
        assert np.isnan(hidden_line.get_ydata()[:5]).all()
        assert_array_equal(hidden_line.get_ydata()[5:], new.y[own[5:]])
        corners = shown.bands_[0, column].get_paths()[0].vertices
        for j, edge in enumerate((np.min, np.max)):
            drawn = [edge(corners[corners[:, 0] == t, 1]) for t in range(5, 30)]
            assert_allclose(drawn, band[own[5:], j])
        assert str(label) in shown.axes_[0, column].get_title()
    labels = {text.get_text() for text in shown.figure_.legends[0].get_texts()}
    assert labels == {"known", "to come", "forecast", "80 % band"}


def test_sample_paths_are_those_of_the_estimator(model, new):
    own = new.groups == 100
    X, y, times = new.X[own], new.y[own], new.times[own]
    shown = ForecastDisplay.from_estimator(
        model, X, y, 5, groups=new.groups[own], times=times, n_paths=3
    )
    expected = model.sample_y(
        X, 3, groups=new.groups[own], times=times, random_state=0,
        y_context=mask_future(y, None, times, 5),
    )  # fmt: skip
    drawn = np.transpose([line.get_ydata() for line in shown.paths_])
    assert_allclose(drawn, expected[5:])


def test_rows_may_come_in_any_order_with_names_and_dates():
    X, y, groups, times = make_toy(n_outputs=2)
    y[3, 0] = np.nan
    fitted = ToyLDS().fit(X, y, groups=groups, times=times)
    dates = np.datetime64("2024-01-01") + times
    order = np.random.default_rng(0).permutation(len(X))
    table = pd.DataFrame(y[order], columns=["speed", "depth"])
    shown = ForecastDisplay.from_estimator(
        fitted, X[order], table, 2, groups=groups[order], times=dates[order]
    )
    assert [ax.get_ylabel() for ax in shown.axes_[:, 0]] == ["speed", "depth"]
    first = groups == groups[order][0]
    known = mask_future(y, groups, times, 2)
    mean = fitted.predict(X, groups=groups, times=times, y_context=known)
    assert_array_equal(shown.lines_[1, 0].get_xdata(orig=False), mdates(dates[first][2:]))
    assert_allclose(shown.lines_[1, 0].get_ydata(), mean[first, 1][2:])


def mdates(dates):
    from matplotlib.dates import date2num

    return date2num(dates)


def test_from_predictions_draws_what_it_is_given():
    y, known = np.arange(6.0), np.r_[0.0, 1.0, np.full(4, np.nan)]
    band = np.stack([y - 1, y + 1], axis=1)
    shown = ForecastDisplay.from_predictions(y, y + 0.5, band=band, y_context=known)
    assert_array_equal(shown.lines_[0, 0].get_xdata(), [2, 3, 4, 5])
    assert_array_equal(shown.lines_[0, 0].get_ydata(), [2.5, 3.5, 4.5, 5.5])
    assert shown.axes_[0, 0].get_title() == ""
    # Where no row follows the known ones, the fit to all rows is shown.
    shown = ForecastDisplay.from_predictions(y, y + 0.5, y_context=y)
    assert_array_equal(shown.lines_[0, 0].get_xdata(), np.arange(6))
    assert shown.bands_[0, 0] is None


def test_as_many_sequences_as_are_asked_for(model, new):
    labels = [104, 103, 102, 101, 100]
    shown = ForecastDisplay.from_estimator(
        model, new.X, new.y, 5, groups=new.groups, times=new.times, sequences=labels
    )
    titles = [ax.get_title() for ax in shown.axes_[0]]
    assert titles == [f"sequence {label}" for label in labels]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": np.zeros((2, 6))}, "mean needs one row for each of the 6 rows"),
        ({"band": np.zeros((6, 2))}, r"band needs shape \(6, 2, 2\), got \(6, 2\)"),
        ({"paths": np.zeros((2, 6, 5))}, r"paths needs shape \(6, 2, 'any'\), got \(2, 6, 5\)"),
        ({"y_context": np.zeros((6, 1))}, "y_context needs the 2 outputs"),
    ],
)
def test_forecasts_of_another_shape_are_refused(arguments, message):
    y = np.zeros((6, 2))
    with pytest.raises(ValueError, match=f"ForecastDisplay: {message}"):
        ForecastDisplay(y, **({"mean": y} | arguments))


def test_unknown_sequences_are_refused(model, new):
    with pytest.raises(ValueError, match=r"among those of the 5 sequences.*got \[7\]"):
        ForecastDisplay.from_estimator(
            model, new.X, new.y, 5, groups=new.groups, times=new.times, sequences=[100, 7]
        )


# --------------------------------------------------------------------------- ContextCurveDisplay


@pytest.mark.parametrize(("metric", "sign"), [("rmse", -1), ("nll", 1), ("coverage", 1)])
def test_context_curve_is_what_the_scorer_says(metric, sign, model, new):
    baseline = RowWise(LinearRegression()).fit(new.X, new.y)
    shown = ContextCurveDisplay.from_estimator(
        {"rows": baseline, "family": model}, new.X, new.y, (0, 4, 10),
        groups=new.groups, times=new.times, metric=metric, colors={"rows": "0.5"},
    )  # fmt: skip
    assert list(shown.lines_) == ["rows", "family"]
    assert shown.lines_["rows"].get_color() == "0.5"
    for name, fitted in (("rows", baseline), ("family", model)):
        expected = [
            sign * ForecastScorer(c, metric)(fitted, new.X, new.y, groups=new.groups)
            for c in (0, 4, 10)
        ]
        assert_allclose(shown.lines_[name].get_ydata(), expected)
    assert shown.bands_ == {}


def test_context_curve_of_cross_validation(new):
    index = pd.MultiIndex.from_arrays([new.groups, new.times])
    X = pd.DataFrame(new.X, index=index)
    results = cross_validate(
        RowWise(LinearRegression()), X, new.y, groups=new.groups, cv=GroupKFold(2),
        scoring=forecast_scorers((10, 2), metric="mae"),
    )  # fmt: skip
    shown = ContextCurveDisplay.from_cv_results({"rows": results}, metric="mae")
    line = shown.lines_["rows"]
    assert_array_equal(line.get_xdata(), [2, 10])
    folds = -np.array([results["test_context_2"], results["test_context_10"]])
    assert_allclose(line.get_ydata(), folds.mean(axis=1))
    corners = shown.bands_["rows"].get_paths()[0].vertices
    assert_allclose(corners[:, 1].max(), np.max(folds.mean(axis=1) + folds.std(axis=1)))
    with pytest.raises(ValueError, match="same entries test_context_"):
        ContextCurveDisplay.from_cv_results({"rows": results, "other": {"test_score": [1.0]}})
    with pytest.raises(ValueError, match="'a' needs a score for each of the 2 contexts, got 1"):
        ContextCurveDisplay((1, 2), {"a": [1.0]})


# --------------------------------------------------------------- FamilyDisplay, LatentSpaceDisplay


def test_directions_are_orthonormal_and_the_strongest_come_first(model):
    directions = latent_directions(model)
    assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
    effects = []
    for direction in directions.T:
        ends = [
            model.sample_sequences(np.zeros((30, 1)), z=model.posterior_mean_ + step * direction)[0]
            for step in (-1e-3, 1e-3)
        ]
        effects.append(np.sum((ends[1] - ends[0]) ** 2))
    assert effects[0] > 2 * effects[1] > 4 * effects[2]


def test_family_moves_along_one_direction_only(model):
    X = np.zeros((20, 1))
    shown = FamilyDisplay.from_estimator(model, X, n_directions=2, levels=(0.2, 0.5, 0.8))
    directions = latent_directions(model)
    coordinates = model.posterior_mean_ @ directions
    z = np.tile(np.median(coordinates, axis=0), (3, 1))
    z[:, 1] = np.quantile(coordinates[:, 1], (0.2, 0.5, 0.8))
    y, _ = model.sample_sequences(X, z=z @ directions.T)
    assert_allclose([line.get_ydata() for line in shown.curves_[1]], y)
    assert shown.responses_ is None
    assert shown.axes_.shape == (2, 2)
    # Without noise a free response of two states obeys the recursion of its two poles.
    family, scaling = model.task_map_, model._units_.scaling
    theta = family.loadings @ directions @ z[0] + family.bias
    offset = theta[model.theta_names_.index("offset[0]")]
    own = y[0] - scaling.output_mean - offset * scaling.output_scale
    (pole,) = shown.poles_[1, 0].get_xydata() @ np.array([1, 1j])
    assert pole.imag > 0  # of a pair
    predicted = 2 * pole.real * own[1:-1] - abs(pole) ** 2 * own[:-2]
    assert_allclose(own[2:], predicted, atol=1e-9)


def test_poles_of_coloured_noise_are_not_those_of_the_family(model):
    family = model.task_map_
    noisy = copy(model)
    noisy.task_map_ = with_noise_states(family)
    X = np.zeros((20, 1))
    with_noise = FamilyDisplay.from_estimator(noisy, X)
    assert_allclose(with_noise.poles, FamilyDisplay.from_estimator(model, X).poles)
    assert with_noise.poles.shape[-1] == 2


def test_a_family_without_states_has_no_poles(rng):
    """Constant levels: nothing moves."""
    groups = np.repeat(np.arange(20), 10)
    y = rng.standard_normal(20)[groups] + 0.1 * rng.standard_normal(200)
    X = np.zeros((200, 1))
    still = MTLDSRegressor(2, 1, n_init=1, random_state=0).fit(X, y, groups=groups)
    assert still.n_states_ == 0
    assert FamilyDisplay.from_estimator(still, X[:10], n_directions=1).poles.shape[-1] == 0


def test_responses_are_to_one_unit_of_the_input(driven):
    model, _ = driven
    X = np.zeros((10, 1))
    shown = FamilyDisplay.from_estimator(model, X, n_directions=1, levels=(0.1, 0.9))
    assert shown.axes_.shape == (1, 3)
    directions = latent_directions(model)
    coordinates = model.posterior_mean_ @ directions
    z = np.median(coordinates, axis=0)
    z[0] = np.quantile(coordinates[:, 0], 0.9)
    impulse = np.eye(10)[:, :1]
    still, _ = model.sample_sequences(X, z=[directions @ z])
    moved, _ = model.sample_sequences(3.0 * impulse, z=[directions @ z])
    assert_allclose(shown.responses_[0, 1].get_ydata(), (moved - still)[0] / 3.0, atol=1e-12)
    assert np.abs(shown.responses_[0, 1].get_ydata()).max() > 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_directions": 4}, "n_directions must lie between 1 and 3, got 4"),
        ({"n_directions": 0}, "n_directions must lie between 1 and 3, got 0"),
        ({"output": 1}, "output must lie between 0 and 0, got 1"),
        ({"levels": (0.0, 0.5)}, "levels strictly between 0 and 1"),
    ],
)
def test_family_display_refuses(arguments, message, model):
    with pytest.raises(ValueError, match=message):
        FamilyDisplay.from_estimator(model, np.zeros((5, 1)), **arguments)


def test_latent_space_of_the_training_sequences(model, train):
    values = pd.Series(train.parameters["frequency"][:, 0], name="frequency")
    shown = LatentSpaceDisplay.from_estimator(model, values=values, coordinates=(1, 0), level=0.7)
    plane = latent_directions(model)[:, [1, 0]]
    means = model.posterior_mean_ @ plane
    assert_allclose(shown.points_.get_offsets(), means)
    assert_allclose(shown.points_.get_array(), values)
    assert shown.colorbar_.ax.get_ylabel() == "frequency"
    assert shown.ax_.get_xlabel() == "latent coordinate 2"
    covs = plane.T @ model.posterior_cov_ @ plane
    for path, mean, cov in zip(shown.ellipses_.get_paths(), means, covs, strict=True):
        off = path.vertices - mean
        distance = np.einsum("ij,jk,ik->i", off, np.linalg.inv(cov), off)
        assert_allclose(distance, chi2.ppf(0.7, 2))


def test_latent_space_of_new_sequences(model, new):
    rows = {"groups": new.groups, "times": new.times}
    shown = LatentSpaceDisplay.from_estimator(model, new.X, new.y, **rows)
    posteriors = model.sequence_posterior(new.X, new.y, **rows).values()
    means = np.array([p.mean for p in posteriors]) @ latent_directions(model)[:, :2]
    assert_allclose(shown.points_.get_offsets(), means)
    assert shown.colorbar_ is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coordinates": (0, 3)}, "two different numbers from 0 to 2"),
        ({"coordinates": (1, 1)}, "two different numbers"),
        ({"level": 1.0}, r"level must lie in \(0, 1\), got 1.0"),
        ({"values": [1.0]}, "one number for each of the 12 sequences, got 1"),
    ],
)
def test_latent_space_display_refuses(arguments, message, model):
    with pytest.raises(ValueError, match=message):
        LatentSpaceDisplay.from_estimator(model, **arguments)


# -------------------------------------------------------------- RelevanceDisplay, LowerBoundDisplay


def test_bars_are_the_relevance(model):
    shown = RelevanceDisplay.from_estimator(model)
    assert_array_equal([bar.get_width() for bar in shown.bars_], model.relevance_)
    ticks = shown.ax_.get_yticklabels()
    assert [text.get_text() for text in ticks] == model.theta_names_
    grey = np.array([text.get_color() == "0.6" for text in ticks])
    assert_array_equal(grey, model.relevance_ == 0)
    assert grey.any()
    assert not grey.all()


def test_bound_is_that_of_the_stages_one_after_the_other(model):
    shown = LowerBoundDisplay.from_estimator(model)
    drawn = np.concatenate([line.get_ydata() for line in shown.lines_])
    assert_array_equal(drawn, np.concatenate([stage.bounds for stage in model.stages_]))
    steps = np.concatenate([line.get_xdata() for line in shown.lines_])
    assert_array_equal(steps, np.arange(1, len(drawn) + 1))
    assert_array_equal(shown.lines_[-1].get_ydata(), model.lower_bounds_)
    grey = [line.get_color() == "0.6" for line in shown.lines_]
    assert grey == [not stage.kept for stage in model.stages_]
    widths = [shade.get_width() for shade in shown.annealing_]
    assert widths == [stage.n_annealed for stage in model.stages_ if stage.n_annealed]
