"""What must not change the answers of an estimator, or must change them in a known way."""

from typing import NamedTuple

import numpy as np
import pytest

from mtds_sklearn import MTLDSRegressor, PooledLDS, SingleTaskLDS

LEVELS = (0.1, 0.5, 0.9)
N_SEQUENCES, LENGTH = 8, 25
ESTIMATORS = {
    "mtlds": MTLDSRegressor(n_states=2, latent_dim=2, n_init=1, random_state=0),
    "pooled": PooledLDS(n_states=2),
    "single": SingleTaskLDS(n_states=2),
}


class Rows(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    times: np.ndarray

    def take(self, rows):
        return Rows(*(column[rows] for column in self))


def make_rows(seed, first_label, n_outputs=1, n_inputs=1):
    """Damped oscillations of different frequency that also answer an input."""
    rng = np.random.default_rng(seed)
    t = np.arange(LENGTH)
    X = rng.standard_normal((N_SEQUENCES, LENGTH, n_inputs))
    frequency = rng.uniform(0.2, 0.6, (N_SEQUENCES, 1))
    y = 0.95**t * np.sin(frequency * t)
    for k in range(LENGTH * (n_inputs > 0)):
        y[:, k:] += 0.3 * 0.9**k * np.cos(frequency * k) * X[:, : LENGTH - k, 0]
    y = np.stack([y, 0.5 * y + 1.0], axis=2)[:, :, :n_outputs]
    y += 0.05 * rng.standard_normal(y.shape)
    y[rng.uniform(size=y.shape[:2]) < 0.1] = np.nan
    y = y.reshape(-1, n_outputs)
    return Rows(
        X.reshape(-1, n_inputs) if n_inputs else np.zeros((len(y), 1)),
        y[:, 0] if n_outputs == 1 else y,
        np.repeat(first_label + np.arange(N_SEQUENCES), LENGTH),
        np.tile(t, N_SEQUENCES),
    )


TRAIN, NEW = make_rows(0, 0), make_rows(1, 100)


def fitted(name, rows=TRAIN, **parameters):
    estimator = ESTIMATORS[name].__class__(**(ESTIMATORS[name].get_params() | parameters))
    return estimator.fit(rows.X, rows.y, groups=rows.groups, times=rows.times)


def context_of(rows, n_steps=10):
    """The outputs of the first rows of every sequence."""
    hidden = rows.times - first_times(rows) >= n_steps
    y = rows.y.copy()
    y[hidden] = np.nan
    return y


def first_times(rows):
    first = {g: rows.times[rows.groups == g].min() for g in set(rows.groups.tolist())}
    return np.array([first[g] for g in rows.groups.tolist()])


def answers(estimator, rows, context=None, **options):
    """Mean, standard deviation and quantiles of every row."""
    options = {"return_std": True, "quantiles": LEVELS} | options
    return estimator.predict(
        rows.X, groups=rows.groups, times=rows.times, y_context=context, **options
    )


def log_likelihoods(estimator, rows):
    return estimator.sequence_log_likelihood(rows.X, rows.y, groups=rows.groups, times=rows.times)


def everything(estimator, train=TRAIN, new=NEW):
    """What is asked of a fit: known sequences, new ones, new ones after a context, likelihoods."""
    return [
        *answers(estimator, train),
        *answers(estimator, new),
        *answers(estimator, new, context_of(new)),
        log_likelihoods(estimator, new),
    ]


@pytest.fixture(scope="module", params=ESTIMATORS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def expected(name):
    return everything(fitted(name))


def assert_same(found, expected, tolerance=2e-4):
    """Equal up to the rounding that EM has magnified, in units of y (whose size is one).

    Quantiles come from resampled particles, of which rounding may change one.
    """
    for a, b in zip(found, expected, strict=True):
        margin = 10.0 * tolerance if np.shape(a)[-1] == len(LEVELS) else tolerance
        np.testing.assert_allclose(a, b, rtol=margin, atol=margin)


def test_the_answers_say_something(expected):
    """So that comparisons compare something."""
    mean, std, quantiles = expected[:3]
    assert mean.std() > 0.05
    assert np.all(std > 0.0)
    assert np.all(np.diff(quantiles, axis=1) > 0.0)


# ----------------------------------------------------------------------------- rows and sequences


def test_the_order_of_sequences_and_rows_does_not_matter(name, expected):
    """Rows of all sequences shuffled together: groups and times put them right."""
    rng = np.random.default_rng(2)
    shuffle, other = rng.permutation(len(TRAIN.y)), rng.permutation(len(NEW.y))
    estimator = fitted(name, TRAIN.take(shuffle))
    train, new = TRAIN.take(shuffle), NEW.take(other)
    found = everything(estimator, train, new)
    back, forth = np.argsort(shuffle), np.argsort(other)
    order = np.argsort(list(dict.fromkeys(new.groups.tolist())))
    found = [
        *(part[back] for part in found[:3]),
        *(part[forth] for part in found[3:9]),
        found[9][order],
    ]
    assert_same(found, expected)


def test_names_do_not_matter(name, expected):
    def renamed(rows):
        return rows._replace(groups=np.array([f"patient {997 - g}" for g in rows.groups]))

    found = everything(fitted(name, renamed(TRAIN)), renamed(TRAIN), renamed(NEW))
    assert_same(found, expected)


def test_a_sequence_may_start_at_any_time(name, expected):
    def later(rows):
        return rows._replace(times=rows.times + 17 * (rows.groups % 3))

    assert_same(everything(fitted(name, later(TRAIN)), later(TRAIN), later(NEW)), expected)


def test_a_sequence_is_forecast_for_itself(name):
    """Alone, or among others: the same answers."""
    estimator = fitted(name)
    together = answers(estimator, NEW, context_of(NEW))
    for label in (103, 106):
        own = np.flatnonzero(NEW.groups == label)
        rows = NEW.take(own)
        alone = answers(estimator, rows, context_of(rows))
        assert_same(alone, [part[own] for part in together])


@pytest.mark.parametrize("extra", ["sequence", "rows"])
def test_what_shows_no_value_changes_nothing(name, extra):
    """A sequence of which nothing is observed, or unobserved rows at the ends of all."""
    train, new = make_rows(0, 0, n_inputs=0), make_rows(1, 100, n_inputs=0)
    expected = everything(fitted(name, train), train, new)
    shown = train
    if extra == "sequence":
        empty = train.take(train.groups == 0)
        empty = empty._replace(y=np.full(LENGTH, np.nan), groups=np.full(LENGTH, -1))
        shown = Rows(*(np.concatenate(parts) for parts in zip(empty, train, strict=True)))
    else:
        last = train.take(train.times >= LENGTH - 4)
        last = last._replace(y=np.full(len(last.y), np.nan), times=last.times + 4)
        shown = Rows(*(np.concatenate(parts) for parts in zip(train, last, strict=True)))
    estimator = fitted(name, shown)
    assert_same(everything(estimator, train, new), expected)
    if extra == "sequence":  # it is forecast like a sequence that was never seen
        unknown = answers(estimator, empty._replace(groups=np.full(LENGTH, 999)))
        if name != "single":  # which says of it what one sequence without values says
            assert_same(answers(estimator, empty), unknown, 0.02)


# ----------------------------------------------------------------------------------------- units


@pytest.mark.parametrize(("scale", "shift"), [(1000.0, -5e4), (1e-6, 0.0), (1.0, 1e4)])
def test_an_affine_change_of_y_goes_through(name, expected, scale, shift):
    def changed(rows):
        return rows._replace(y=scale * rows.y + shift)

    found = everything(fitted(name, changed(TRAIN)), changed(TRAIN), changed(NEW))
    for i in range(0, 9, 3):
        found[i] = (found[i] - shift) / scale
        found[i + 1] = found[i + 1] / scale
        found[i + 2] = (found[i + 2] - shift) / scale
    n_observed = np.bincount(NEW.groups - 100, np.isfinite(NEW.y))
    found[9] = found[9] + n_observed * np.log(scale)
    assert_same(found, expected)


def test_a_change_of_sign_finds_the_same(name):
    """The draws of what is uncertain are not mirrored, so that answers agree less closely."""

    def changed(rows):
        return rows._replace(y=-rows.y)

    straight, mirrored = fitted(name), fitted(name, changed(TRAIN))
    np.testing.assert_array_equal(mirrored.n_states_, straight.n_states_)
    np.testing.assert_allclose(mirrored.noise_std_, straight.noise_std_, rtol=0.02)
    mean, std, quantiles = answers(mirrored, TRAIN)
    assert_same([-mean, std, -quantiles[:, ::-1]], answers(straight, TRAIN), 0.05)


@pytest.mark.parametrize("scale", [2.54, 1e-6])
def test_the_units_of_inputs_do_not_matter(name, expected, scale):
    def changed(rows):
        return rows._replace(X=scale * rows.X)

    assert_same(everything(fitted(name, changed(TRAIN)), changed(TRAIN), changed(NEW)), expected)


def test_outputs_have_units_of_their_own():
    train, new = make_rows(0, 0, n_outputs=2), make_rows(1, 100, n_outputs=2)
    expected = everything(fitted("mtlds", train), train, new)
    scale, shift = np.array([100.0, 0.01]), np.array([-3.0, 40.0])

    def changed(rows):
        return rows._replace(y=rows.y * scale + shift)

    found = everything(fitted("mtlds", changed(train)), changed(train), changed(new))
    for i in range(0, 9, 3):
        found[i] = (found[i] - shift) / scale
        found[i + 1] = found[i + 1] / scale
        found[i + 2] = (found[i + 2] - shift[:, None]) / scale[:, None]
    n_observed = np.array(
        [np.isfinite(new.y[new.groups == g]).sum(axis=0) for g in range(100, 108)]
    )
    found[9] = found[9] + n_observed @ np.log(scale)
    assert_same(found, expected)


def test_an_input_that_never_moves_says_nothing(name, expected):
    def widened(rows):
        return rows._replace(X=np.column_stack([np.zeros(len(rows.X)), rows.X]))

    assert_same(everything(fitted(name, widened(TRAIN)), widened(TRAIN), widened(NEW)), expected)


# -------------------------------------------------------------------------------- special cases


def test_jobs_do_not_matter():
    alone, shared = fitted("mtlds", n_init=2), fitted("mtlds", n_init=2, n_jobs=2)
    assert_same(everything(shared), everything(alone))
    single = fitted("single", n_jobs=2)
    assert_same(answers(single, TRAIN), answers(fitted("single"), TRAIN))


def test_of_one_sequence_the_single_task_is_the_pooled_one():
    one = TRAIN.take(TRAIN.groups == 3)
    pooled, single = fitted("pooled", one), fitted("single", one)
    assert_same(answers(single, one), answers(pooled, one), 1e-9)
    assert single.n_states_[0] == pooled.n_states_


def test_a_family_in_which_nothing_varies_is_the_pooled_system():
    family, pooled = fitted("mtlds", varying=(), disturbance="none"), fitted("pooled")
    assert family.n_states_ == pooled.n_states_
    std = answers(pooled, NEW)[1]
    # The pooled forecast is a mean over what is uncertain of theta.
    assert_same([answers(family, NEW)[0]], [answers(pooled, NEW)[0]], 0.1 * std.min())
    np.testing.assert_allclose(family.noise_std_, pooled.noise_std_, rtol=0.01)
