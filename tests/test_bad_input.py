"""What the estimators refuse, in words and with numbers; and what is odd but must work."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from toy_lds import make_toy

from mtds_sklearn import MTLDSRegressor, PooledLDS, SingleTaskLDS

ESTIMATORS = [
    MTLDSRegressor(1, 1, n_init=1, random_state=0),
    PooledLDS(1),
    SingleTaskLDS(1),
]
N_SEQUENCES, LENGTH = 4, 12
N_ROWS = N_SEQUENCES * LENGTH


def name_of(estimator):
    return type(estimator).__name__


every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)


def make_rows():
    X, y, groups, times = make_toy(N_SEQUENCES, LENGTH)
    return {"X": X, "y": y, "groups": groups, "times": times}


@pytest.fixture(scope="module")
def fits():
    return {name_of(e): clone(e).fit(**make_rows()) for e in ESTIMATORS}


@pytest.fixture
def fitted(fits, estimator):
    return fits[name_of(estimator)]


def changed(name, position, value):
    """The rows of `make_rows` with one value of one argument changed."""
    values = np.array(make_rows()[name], dtype=float)
    values[position] = value
    return {name: values}


# --------------------------------------------------------------------------------- refused by fit

BAD_ROWS = {
    "y of another length": (
        {"y": np.ones(47)},
        "{who}: y needs one row for each of the 48 rows of X, got 47",
    ),
    "groups of another length": (
        {"groups": np.zeros(5)},
        "{who}: groups needs one value per row of X: X has 48 rows, groups has 5",
    ),
    "times of another length": (
        {"times": np.arange(49)},
        "{who}: times needs one value per row of X: X has 48 rows, times has 49",
    ),
    "a time twice": (
        changed("times", 14, 1),
        "{who}: the times of a sequence must differ; sequence 1 has time 1.0 twice, in rows 13 "
        r"and 14 of X \(1 repeats",
    ),
    "a time that is no integer": (
        changed("times", 14, 2.5),
        "{who}: times must be integers.*1 of 48 rows have something else, the first is row 14 "
        "with time 2.5",
    ),
    "a gap": (
        changed("times", 23, 20),
        "{who}: the times of a sequence must rise in steps of 1; sequence 1 jumps from time 10.0 "
        "to time 20.0, in rows 22 and 23",
    ),
    "an infinite output": (
        changed("y", 3, np.inf),
        "{who}: y must be finite, or NaN .* got 1 infinite values out of 48",
    ),
    "no output at all": (
        {"y": np.full(48, np.nan)},
        "{who}: y has no observed value; at least 1 of its 48",
    ),
    "an infinite input": (
        changed("X", (3, 1), np.inf),
        "{who}: X must be complete and finite; 0 of 96 values are NaN and 1 are infinite, the "
        "first in row 3, column 1",
    ),
    "missing inputs": (
        changed("X", ([9, 3], [0, 1]), np.nan),
        "{who}: X must be complete and finite; 2 of 96 values are NaN and 0 are infinite, the "
        "first in row 3, column 1",
    ),
}

BAD_PARAMETERS = {
    "transition": (
        {"transition": "foo"},
        "The 'transition' parameter of {who} must be a str among .* Got 'foo'",
    ),
    "initial_state": (
        {"initial_state": "foo"},
        "The 'initial_state' parameter of {who} must be a str among .* Got 'foo'",
    ),
    "n_states": (
        {"n_states": 0},
        r"The 'n_states' parameter of {who} must be a str among {'auto'} or an int in the range "
        r"\[1, inf\). Got 0",
    ),
    "max_iter": ({"max_iter": 0}, "The 'max_iter' parameter of {who} must .* Got 0"),
    "tol": ({"tol": -1.0}, "The 'tol' parameter of {who} must .* Got -1.0"),
}

BAD_OWN_PARAMETERS = {
    "an unknown kind varies": (
        MTLDSRegressor(varying=("Z",)),
        r"MTLDSRegressor: varying must be 'all' or a tuple of names among .* got \('Z',\) with the "
        r"unknown \['Z'\]",
    ),
    "latent_dim is larger than theta": (
        MTLDSRegressor(1, 8),
        "MTLDSRegressor: latent_dim must be at most 7, .* with n_states=1, 2 inputs and 1 outputs; "
        "got latent_dim=8",
    ),
    "no latents": (
        MTLDSRegressor(1, 0),
        r"'latent_dim' parameter of MTLDSRegressor must .* an int in the range \[1, inf\). Got 0",
    ),
    "no starts": (MTLDSRegressor(n_init=0), "The 'n_init' parameter of MTLDSRegressor .* Got 0"),
    "an initial state that varies": (
        PooledLDS(initial_state="varying"),
        "The 'initial_state' parameter of PooledLDS .* Got 'varying'",
    ),
    "an initial state that is shared": (
        SingleTaskLDS(initial_state="shared"),
        "The 'initial_state' parameter of SingleTaskLDS .* Got 'shared'",
    ),
    "unseen": (
        SingleTaskLDS(unseen="foo"),
        "The 'unseen' parameter of SingleTaskLDS must be a str among .* Got 'foo'",
    ),
}


def snapshot(estimator):
    """Every attribute: the object itself, and a copy of the numbers it holds."""
    return {name: (value, leaves(value)) for name, value in vars(estimator).items()}


def leaves(value):
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return [np.copy(value)]


def assert_unchanged(estimator, before):
    assert list(vars(estimator)) == list(before)
    for name, value in vars(estimator).items():
        same, numbers = before[name]
        assert value is same, name
        for actual, expected in zip(leaves(value), numbers, strict=True):
            assert_array_equal(actual, expected)


def refuses(model, message, **rows):
    before = snapshot(model)
    with pytest.raises(ValueError, match=message.replace("{who}", name_of(model))):
        model.fit(**(make_rows() | rows))
    assert_unchanged(model, before)


@every_estimator
@pytest.mark.parametrize("what", BAD_ROWS)
def test_bad_rows_are_refused_and_nothing_changes(estimator, fitted, what):
    rows, message = BAD_ROWS[what]
    unfitted = clone(estimator)
    refuses(unfitted, message, **rows)
    with pytest.raises(NotFittedError):
        unfitted.predict(make_rows()["X"])
    refuses(fitted, message, **rows)


@every_estimator
@pytest.mark.parametrize("what", BAD_PARAMETERS)
def test_bad_parameters_are_refused_and_nothing_changes(estimator, fitted, what):
    parameters, message = BAD_PARAMETERS[what]
    refuses(clone(estimator).set_params(**parameters), message)
    before = fitted.get_params()
    try:
        refuses(fitted.set_params(**parameters), message)
    finally:
        fitted.set_params(**before)


@pytest.mark.parametrize("what", BAD_OWN_PARAMETERS)
def test_bad_parameters_of_one_estimator_are_refused(what):
    refuses(*BAD_OWN_PARAMETERS[what])


# ------------------------------------------------------------------------- refused after the fit

BAD_FORECASTS = {
    "no labels": (
        {"groups": None},
        "{who} was fitted with the labels of 4 sequences, .* got 48 rows without labels",
    ),
    "another number of inputs": (
        {"X": np.ones((48, 3))},
        "X has 3 features, but {who} is expecting 2 features as input",
    ),
    "an infinite input": (
        changed("X", (3, 0), -np.inf),
        "{who}: X must be .* 0 of 96 values are NaN and 1 are infinite, the first in row 3",
    ),
    "a missing input": (
        changed("X", (3, 0), np.nan),
        "{who}: X must be .* 1 of 96 values are NaN and 0 are infinite, the first in row 3",
    ),
    "groups of another length": (
        {"groups": np.zeros(5)},
        "{who}: groups needs one value per row of X: X has 48 rows, groups has 5",
    ),
    "a time twice": (changed("times", 14, 1), "{who}: the times of a sequence must differ"),
    "a context of another length": (
        {"y_context": np.ones(47)},
        "{who}: y_context needs one row for each of the 48 rows of X, got 47",
    ),
    "a context of two outputs": (
        {"y_context": np.ones((48, 2))},
        "{who}: y_context needs the 1 outputs seen in fit, got 2 outputs",
    ),
    "an infinite context": (
        {"y_context": np.full(48, np.inf)},
        "{who}: y_context must be finite, .* got 48 infinite values out of 48",
    ),
    "horizon 0": ({"horizon": 0}, "{who}: horizon must be None or an integer >= 1, got 0"),
    "horizon 1.5": ({"horizon": 1.5}, "{who}: horizon must be .* got 1.5"),
    "level 0": ({"quantiles": [0.0, 0.5]}, r"{who}: quantiles .* got \[0.0, 0.5\]"),
    "level 1": ({"quantiles": [1.0]}, r"{who}: quantiles .* between 0 and 1, got \[1.0\]"),
    "level 50": ({"quantiles": [50]}, r"{who}: quantiles .* between 0 and 1, got \[50\]"),
}


@every_estimator
@pytest.mark.parametrize("what", BAD_FORECASTS)
def test_bad_forecasts_are_refused(estimator, fitted, what):
    arguments, message = BAD_FORECASTS[what]
    rows = make_rows()
    del rows["y"]
    before = snapshot(fitted)
    with pytest.raises(ValueError, match=message.replace("{who}", name_of(fitted))):
        fitted.predict(**(rows | arguments))
    assert_unchanged(fitted, before)


@every_estimator
@pytest.mark.parametrize("method", ["score", "sequence_log_likelihood", "forecast_log_density"])
def test_targets_must_fit(estimator, fitted, method):
    rows = make_rows()
    for y, numbers in ((np.ones(47), "48 rows of X, got 47"), (np.ones((48, 2)), "got 2 outputs")):
        with pytest.raises(ValueError, match=f"{name_of(fitted)}.*: y needs .*{numbers}"):
            getattr(fitted, method)(**(rows | {"y": y}))


@every_estimator
def test_nothing_works_before_fit(estimator):
    model, rows = clone(estimator), make_rows()
    with pytest.raises(NotFittedError, match=name_of(model)):
        model.predict(rows["X"])
    methods = ["score", "sequence_log_likelihood", "forecast_log_density", "sequence_posterior"]
    for method in methods:
        if hasattr(model, method):
            with pytest.raises(NotFittedError, match=name_of(model)):
                getattr(model, method)(rows["X"], rows["y"])
    for method in ("sample_y", "sample_sequences"):
        if hasattr(model, method):
            with pytest.raises(NotFittedError, match=name_of(model)):
                getattr(model, method)(rows["X"])


@pytest.mark.parametrize("shape", [(1,), (3, 2), (2, 1, 1)])
def test_latents_must_have_the_dimension_of_the_family(fits, shape):
    X = make_rows()["X"][:LENGTH]
    message = r"MTLDSRegressor.sample_sequences: z needs shape \(n_sequences, 1\)( or .*)?, got \("
    with pytest.raises(ValueError, match=message + str(shape)[1:-1]):
        fits["MTLDSRegressor"].sample_sequences(X, z=np.ones(shape))


@pytest.mark.parametrize(
    ("u", "y", "message"),
    [
        (np.ones(3), 1.0, r"update: inputs need shape \(n_rows, 2\), got \(3,\)"),
        (np.ones((2, 3)), np.ones(2), r"update: inputs need shape \(n_rows, 2\), got \(2, 3\)"),
        (1.0, 1.0, r"update: inputs need shape \(n_rows, 2\), got \(\)"),
        (np.ones((2, 2)), 1.0, r"update: y needs 2 rows of 1 outputs, got shape \(\)"),
        (np.ones((2, 2)), np.ones(3), r"update: y needs 2 rows of 1 outputs, got shape \(3,\)"),
        (np.ones(2), np.ones(2), r"update: y needs 1 rows of 1 outputs, got shape \(2,\)"),
        (np.ones(2), np.inf, "update: y must be finite, or NaN.* 1 of 1 values are not"),
        (np.full(2, np.nan), 1.0, "update: X must be finite; 2 of 2 values are not"),
    ],
)
def test_new_rows_of_a_posterior_must_fit(fits, u, y, message):
    rows = make_rows()
    posterior = fits["MTLDSRegressor"].sequence_posterior(**rows)[2]
    with pytest.raises(ValueError, match="SequencePosterior." + message):
        posterior.update(u, y)
    with pytest.raises(ValueError, match=r"predict: inputs need shape \(n_rows, 2\), got \(4, 3\)"):
        posterior.predict(np.ones((4, 3)))
    assert posterior.n_rows == LENGTH


# ----------------------------------------------------------------------------- odd, but must work


def constant(rows):
    return rows | {"y": np.full(N_ROWS, 3.0)}


def constant_sequences(rows):
    return rows | {"y": rows["groups"].astype(float)}


def one_sequence(rows):
    return {name: values[:LENGTH] for name, values in rows.items()}


def sequences_of_one_row(rows):
    return one_sequence(rows) | {"groups": np.arange(LENGTH), "times": np.zeros(LENGTH)}


def one_row(rows):
    return {name: values[:1] for name, values in rows.items()}


def one_value(rows):
    return rows | {"y": np.where(np.arange(N_ROWS) == 5, rows["y"], np.nan)}


def an_empty_sequence(rows):
    return rows | {"y": np.where(rows["groups"] == 2, np.nan, rows["y"])}


def an_empty_output(rows):
    return rows | {"y": np.stack([rows["y"], np.full(N_ROWS, np.nan)], axis=1)}


def tiny(rows):
    return rows | {"y": 1e-12 * rows["y"]}


def huge(rows):
    return rows | {"y": 1e12 * rows["y"]}


def far_from_zero(rows):
    return rows | {"y": 1e6 + rows["y"]}


def collinear_inputs(rows):
    return rows | {"X": np.hstack([rows["X"], 2.0 * rows["X"], np.ones((N_ROWS, 1))])}


def constant_inputs(rows):
    return rows | {"X": np.full((N_ROWS, 2), 7.0)}


def huge_inputs(rows):
    return rows | {"X": 1e12 * rows["X"]}


def mostly_missing(rows):
    hidden = np.random.default_rng(0).uniform(size=N_ROWS) < 0.9
    return rows | {"y": np.where(hidden, np.nan, rows["y"])}


ODD = [
    constant,
    constant_sequences,
    one_sequence,
    sequences_of_one_row,
    one_row,
    one_value,
    an_empty_sequence,
    an_empty_output,
    tiny,
    huge,
    far_from_zero,
    collinear_inputs,
    constant_inputs,
    huge_inputs,
    mostly_missing,
]


def odd_cases():
    for estimator in ESTIMATORS:
        for odd in ODD:
            yield pytest.param(estimator, odd, id=f"{odd.__name__}-{name_of(estimator)}")


def assert_finite_forecasts(model, rows, **context):
    where = {name: rows[name] for name in ("X", "groups", "times")}
    mean, std, quantiles = model.predict(**where, return_std=True, quantiles=[0.1, 0.9], **context)
    assert mean.shape == std.shape == quantiles.shape[:-1] == rows["y"].shape
    for values in (mean, std, quantiles):
        assert np.isfinite(values).all()
    assert (std > 0.0).all()
    assert (quantiles[..., 0] < quantiles[..., 1]).all()


@pytest.mark.parametrize(("estimator", "odd"), list(odd_cases()))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_odd_rows_give_finite_numbers(estimator, odd):
    """Warnings of what is odd are welcome; RuntimeWarnings, which mean an accident, are errors."""
    rows = odd(make_rows())
    model = clone(estimator).fit(**rows)
    assert_finite_forecasts(model, rows)
    assert_finite_forecasts(model, rows, y_context=rows["y"])
    strangers = rows | {"groups": rows["groups"] + 100}
    assert_finite_forecasts(model, strangers)
    assert np.isfinite(model.sequence_log_likelihood(**rows)).all()
    observed = ~np.isnan(rows["y"])
    assert np.isfinite(model.forecast_log_density(**rows)[observed]).all()


@every_estimator
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_forecasts_scale_with_y(estimator, fitted, scale):
    rows = make_rows()
    model = clone(estimator).fit(**(rows | {"y": scale * rows["y"]}))
    where = {name: rows[name] for name in ("X", "groups", "times")}
    options = {"return_std": True, "quantiles": [0.1, 0.5]}
    for context in (None, np.where(rows["times"] < 5, rows["y"], np.nan)):
        scaled = None if context is None else scale * context
        expected = fitted.predict(**where, y_context=context, **options)
        actual = model.predict(**where, y_context=scaled, **options)
        for one, other in zip(actual, expected, strict=True):
            assert_allclose(one / scale, other, rtol=1e-6, atol=1e-6 * np.std(rows["y"]))


@every_estimator
def test_what_was_fitted_does_not_follow_later_changes_of_the_rows(estimator):
    """Rows in order are handed on as views, so that nothing which is kept may be one."""
    X, y, groups, times = make_toy(N_SEQUENCES, LENGTH)
    order = np.lexsort((times, groups))
    X, y, groups = X[order], y[order], groups[order]
    model = clone(estimator).fit(X, y, groups=groups)
    inputs, context = X.copy(), y.copy()
    known = model.predict(inputs, groups=groups)
    inferred = model.predict(inputs, groups=groups, y_context=context)
    X[:], y[:] = 7.0, -3.0
    assert_array_equal(model.predict(inputs, groups=groups), known)
    assert_array_equal(model.predict(inputs, groups=groups, y_context=context), inferred)
