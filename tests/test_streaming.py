"""Learning from minibatches: the sums that are kept, `partial_fit`, and `warm_start`."""

import pickle

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, learning_curve
from small_families import RAGGED, make_family, make_posterior, make_rows, oblique
from toy_lds import make_toy

from mtds_sklearn import ForecastScorer, MTLDSRegressor, PooledLDS, SingleTaskLDS
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.estimators import _streaming as surface
from mtds_sklearn.learning import _streaming
from mtds_sklearn.learning._clusters import follow
from mtds_sklearn.learning._m_step import BIAS_PRECISION, curvature
from mtds_sklearn.learning._posterior import move, prior_posterior
from mtds_sklearn.learning._stream_growth import embed
from mtds_sklearn.learning._sums import (
    expand_sums,
    quadratic,
    stacked,
    sums_of,
    unstacked,
)
from mtds_sklearn.model._latent_prior import (
    Components,
    LatentPrior,
    log_prior_density,
    standard_prior,
)
from mtds_sklearn.model._task_map import natural_parameters

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# Minibatches of four sequences surprise a family that was learned from four.
TINY = pytest.mark.filterwarnings("ignore:.*they may show:UserWarning")


@pytest.fixture
def state(rng):
    """Sequences, a family and posteriors of their z, all random."""
    sequences = make_rows(rng, RAGGED, n_inputs=1, n_outputs=2, missing=0.1)
    return sequences, make_family(rng, (2, 1, 2), 2), make_posterior(rng, len(RAGGED), 2)


# ------------------------------------------------------------------------------------------ sums


def test_the_quadratic_has_the_derivatives_of_the_minibatch(state, rng):
    sequences, family, posterior = state
    sums = sums_of(sequences, family, posterior)
    last = curvature(posterior, sequences, family)
    phi = stacked(family)
    assert_allclose(sums.pull - sums.normal @ phi, last.gradient.ravel(), atol=1e-8)
    direction = rng.standard_normal(len(phi))
    values = [quadratic(sums, unstacked(family, phi + step * direction)) for step in (-1, 0, 1)]
    curved = values[0] - 2.0 * values[1] + values[2]
    assert_allclose(curved, -direction @ last.normal @ direction, rtol=1e-8)


def test_expansion_changes_neither_systems_nor_what_the_sums_say(state):
    sequences, family, posterior = state
    family = family._replace(precision=1e-9 * family.precision)
    posterior = posterior._replace(mean=3.0 * posterior.mean + 1.0)
    sums = sums_of(sequences, family, posterior)
    expanded, moved, shift, factor = expand_sums(family, sums)
    assert not np.allclose(factor, np.eye(2))
    assert_allclose(
        natural_parameters(expanded, move(posterior, shift, factor).mean),
        natural_parameters(family, posterior.mean),
        atol=1e-10,
    )
    assert quadratic(moved, expanded) == pytest.approx(quadratic(sums, family))
    count = moved.moments[-1, -1]
    assert_allclose(moved.moments / count, np.eye(3), atol=1e-10)
    # What is summed after the move is what would have been summed there.
    again = sums_of(sequences, expanded, move(posterior, shift, factor))
    assert_allclose(again.moments, moved.moments, atol=1e-8)
    assert_allclose(again.normal, moved.normal, rtol=1e-6, atol=1e-6)


def test_the_shape_of_z_follows_an_expansion(rng):
    axes, turn = oblique(rng, 3), np.linalg.qr(rng.standard_normal((3, 3)))[0]
    widths = np.array([[0.5], [1.0], [2.0]])
    prior = LatentPrior(axes, widths * standard_prior(3).quantiles)
    z = rng.standard_normal((5, 3))
    followed = follow(prior, np.zeros(3), turn)  # z = turn z'
    assert_allclose(log_prior_density(followed, z @ turn), log_prior_density(prior, z))
    stretched = follow(prior, np.zeros(3), turn @ np.diag([1.01, 0.99, 1.0]))
    assert_allclose(stretched.axes.T @ stretched.axes, axes.T @ axes, atol=1e-12)
    assert_allclose(stretched.axes, followed.axes, atol=0.02)


def test_components_follow_an_expansion(rng):
    """Where they are, whatever N(0, I) is said to be: exactly so where coordinates are normal."""
    factors = np.tril(0.1 * rng.standard_normal((2, 3, 3))) + 0.2 * np.eye(3)
    components = Components(np.array([0.0, 0.4, 0.6]), rng.standard_normal((2, 3)), factors)
    widths = np.array([[0.5], [1.0], [2.0]])
    prior = LatentPrior(oblique(rng, 3), widths * standard_prior(3).quantiles, components)
    shift, factor = 0.1 * rng.standard_normal(3), np.eye(3) + 0.1 * rng.standard_normal((3, 3))
    followed = follow(prior, shift, factor)
    z = rng.standard_normal((5, 3))
    moved = np.linalg.solve(factor, (z - shift).T).T
    with np.errstate(divide="ignore"):  # N(0, I) has no weight
        before, after = log_prior_density(prior, z), log_prior_density(followed, moved)
    assert_allclose(after, before + np.linalg.slogdet(factor)[1], rtol=1e-9)


def test_a_larger_chart_gets_sums_that_say_nothing_new(state, rng):
    sequences, family, posterior = state
    sums = sums_of(sequences, family, posterior)
    larger = make_family(rng, (4, 1, 2), 2)
    embedded = embed(sums, family.chart, larger.chart)
    rows = {entry: row for row, entry in enumerate(larger.chart.entries)}
    loadings, bias = larger.loadings.copy(), larger.bias.copy()
    for row, entry in enumerate(family.chart.entries):
        loadings[rows[entry]], bias[rows[entry]] = family.loadings[row], family.bias[row]
    filled = larger._replace(loadings=loadings, bias=bias)
    assert quadratic(embedded, filled) == pytest.approx(quadratic(sums, family))


def test_where_nothing_is_curved_it_is_recursive_least_squares(rng, monkeypatch):
    """Offset and feed-through alone, noise known: the stream ends where all rows at once end."""
    monkeypatch.setattr(_streaming, "MEMORY", 1.0)
    monkeypatch.setattr(_streaming, "best_noise", lambda squared, count: np.array([0.5]))
    family = make_family(rng, (0, 2, 1), 0, varying=())._replace(noise_std=np.array([0.5]))
    batches = [make_rows(rng, RAGGED, n_inputs=2, missing=0.2) for _ in range(3)]
    posterior = prior_posterior(len(RAGGED), 0)
    nothing = sums_of(batches[0], family, posterior)
    nothing = type(nothing)(*(0.0 * part for part in nothing))
    first, _ = _streaming.absorb(nothing, 0.0, family, posterior, batches[0], np.zeros((1, 0)))
    stream = _streaming.start_stream(batches[0], first, posterior)
    for batch in batches[1:]:
        stream = _streaming.learn_minibatch(stream, batch, np.zeros((1, 0))).stream
    X = np.vstack([np.column_stack([b.inputs, np.ones(len(b.inputs))]) for b in batches])
    y = np.vstack([b.outputs for b in batches])[:, 0]
    seen = np.vstack([b.observed for b in batches])[:, 0]
    X, y = X[seen], y[seen]
    expected = np.linalg.solve(X.T @ X + 0.25 * BIAS_PRECISION * np.eye(3), X.T @ y)
    assert_allclose(stream.family.bias, expected, rtol=1e-6)
    assert stream.n_seen == 3 * len(RAGGED)


def test_old_sums_fade_as_the_stream_grows(state, rng):
    sequences, family, posterior = state
    stream = _streaming.start_stream(sequences, family, posterior)
    sizes = []
    for _ in range(12):
        stream = _streaming.learn_minibatch(stream, sequences, rng.standard_normal((32, 2))).stream
        sizes.append(stream.sums.moments[-1, -1])
    n, n_first = stream.n_seen, len(RAGGED)
    assert n == 13 * n_first
    assert sizes[-1] == pytest.approx(n_first * (n / n_first) ** _streaming.MEMORY)
    assert (np.diff(sizes) > 0.0).all()


# --------------------------------------------------------------------------------- the estimators


def minibatch(data, labels, shift=0):
    own = np.isin(data.groups, labels)
    rows = {"X": data.X, "y": data.y, "groups": data.groups + shift, "times": data.times}
    return {name: values[own] for name, values in rows.items()}


def held_out(model, new):
    values = model.sequence_log_likelihood(new.X, new.y, groups=new.groups + 1000, times=new.times)
    return values.mean()


@pytest.fixture(scope="module")
def data():
    return make_oscillators(24, 40, n_oscillators=1, random_state=0)


@pytest.fixture(scope="module")
def new():
    return make_oscillators(40, 40, n_oscillators=1, random_state=1)


@pytest.fixture(scope="module")
def streamed(data):
    model = MTLDSRegressor(4, 2, random_state=0, n_init=1, disturbance="none")
    for first in (0, 8, 16):
        model.partial_fit(**minibatch(data, np.arange(first, first + 8)))
    return model


def test_a_stream_comes_close_to_a_fit(data, new, streamed):
    start = clone(streamed).partial_fit(**minibatch(data, np.arange(8)))
    whole = clone(streamed).fit(**minibatch(data, np.arange(24)))
    assert streamed.n_states_ == 2
    assert streamed.n_sequences_seen_ == 24
    assert held_out(streamed, new) > held_out(whole, new) - 1.0
    assert held_out(streamed, new) > held_out(start, new) + 1.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("n_states", "latent_dim"), [(4, 4), (8, 6)])
def test_the_yardstick_in_minibatches_of_ten(seed, n_states, latent_dim):
    train, test = (
        make_oscillators(40, random_state=seed),
        make_oscillators(100, random_state=10_000),
    )
    model = MTLDSRegressor(n_states, latent_dim, random_state=0)
    whole = clone(model).fit(**minibatch(train, np.arange(40)))
    for _ in range(3):
        for first in range(0, 40, 10):
            model.partial_fit(**minibatch(train, np.arange(first, first + 10)))
    assert held_out(model, test) > held_out(whole, test) - 1.0


def test_everything_else_works_after_partial_fit(streamed, data, new):
    known = minibatch(data, np.arange(24))
    assert streamed.score(**known) > 0.9  # by labels of all minibatches
    rows = {name: value for name, value in known.items() if name != "y"}
    assert_array_equal(streamed.labels_, np.arange(24))
    n_own = np.count_nonzero(streamed.specific_variances_)
    assert streamed.posterior_mean_.shape == (24, 2 + n_own)
    assert streamed.sample_y(**rows, n_samples=2, random_state=0).shape == (len(data.y), 2)
    own = new.groups == 3
    posterior = streamed.sequence_posterior(new.X[own], new.y[own], groups=new.groups[own] + 100)
    assert posterior[103].n_rows == 40
    y, z = streamed.sample_sequences(np.zeros((5, 1)), 3, random_state=0)
    assert (y.shape, z.shape) == ((3, 5), (3, 2 + n_own))
    assert ForecastScorer(15, "r2")(streamed, new.X, new.y, groups=new.groups + 100) > 0.9
    copy = pickle.loads(pickle.dumps(streamed))
    assert held_out(copy, new) == held_out(streamed, new)


@TINY
def test_what_is_kept_does_not_grow(data, monkeypatch):
    monkeypatch.setattr(surface, "REMEMBERED", 10)
    model = MTLDSRegressor(2, 2, random_state=0, n_init=1, disturbance="none")
    sizes = []
    for i in range(6):
        model.partial_fit(**minibatch(data, np.arange(4 * i, 4 * i + 4)))
        sizes.append(len(pickle.dumps(model)))
    assert_array_equal(model.labels_, np.arange(14, 24))
    assert max(sizes[3:]) <= min(sizes[3:]) + 64


def test_a_label_that_comes_again_replaces_what_was_known_of_it(streamed, data):
    model = pickle.loads(pickle.dumps(streamed))
    model.partial_fit(**minibatch(data, [5, 6]))
    assert_array_equal(model.labels_, [*range(5), *range(7, 24), 5, 6])
    assert model.n_sequences_seen_ == 26
    assert model.posterior_cov_.shape[0] == 24


def test_what_few_sequences_cannot_show_stays_until_there_are_many(data):
    model = MTLDSRegressor(2, 2, random_state=0, n_init=1, disturbance="none")
    model.fit(**minibatch(data, np.arange(12)))
    own = model.specific_variances_
    assert own.any()
    model.partial_fit(**minibatch(data, np.arange(12, 20)))
    assert_allclose(model.specific_variances_, own)
    assert len(model._stream_.family.specific) == 0
    n_latents = 2 + np.count_nonzero(own)
    assert model.posterior_mean_.shape == (20, n_latents)
    model.partial_fit(
        **minibatch(data, np.arange(20, 24)),
    )
    model.partial_fit(**minibatch(data, np.arange(6), shift=50))
    assert model.n_sequences_seen_ == 30
    assert not model.specific_variances_.any()
    assert model.posterior_mean_.shape == (30, 2)


def test_a_fit_goes_on_as_a_stream(data, new):
    model = MTLDSRegressor(2, 2, random_state=0, n_init=1, disturbance="none").fit(
        **minibatch(data, np.arange(12))
    )
    before = held_out(model, new)
    model.partial_fit(**minibatch(data, np.arange(12, 24)))
    assert held_out(model, new) > before
    assert model.n_sequences_seen_ == 24


@pytest.mark.parametrize(("limit", "n_states"), [(4, 4), (2, 2)])
def test_structure_that_comes_late_is_learned_or_told(limit, n_states):
    # From so few sequences growth ends in a poorer optimum for a third of the seeds.
    early = make_oscillators(12, 40, n_oscillators=1, random_state=2)
    late = make_oscillators(12, 40, n_oscillators=2, random_state=3)
    model = MTLDSRegressor(limit, 4, random_state=1, n_init=1, disturbance="none")
    model.partial_fit(**minibatch(early, np.arange(12)))
    assert model.n_states_ == 2
    if limit == 4:
        model.partial_fit(**minibatch(late, np.arange(12), shift=50))
        assert model.noise_std_[0] == pytest.approx(0.05, rel=0.2)
    else:
        message = (
            r"the squared residuals of these 12 sequences are \d+\.\d\d times the noise variance "
            r".* what 2 states learned from 12 sequences cannot express \(n_states allows no more"
        )
        with pytest.warns(UserWarning, match=message):
            model.partial_fit(**minibatch(late, np.arange(12), shift=50))
    assert model.n_states_ == n_states


def test_one_system_for_all_is_streamed_as_well(data):
    X, y, groups, times = make_toy(24, 12, noise_std=0.3)
    rows = {"X": X, "y": y, "groups": groups, "times": times}
    whole = PooledLDS(2).fit(**rows)
    model = PooledLDS(2)
    for first in (0, 8, 16):
        own = np.isin(groups, np.arange(first, first + 8))
        model.partial_fit(**{name: values[own] for name, values in rows.items()})
    where = {"groups": groups + 100, "times": times, "return_std": True}
    for found, expected in zip(model.predict(X, **where), whole.predict(X, **where), strict=True):
        assert_allclose(found, expected, atol=0.1 * np.std(y))
    assert model.noise_std_ == pytest.approx(whole.noise_std_, rel=0.05)
    assert_array_equal(model.labels_, np.arange(16, 24))


def test_single_tasks_are_added(data):
    model = SingleTaskLDS(2).partial_fit(**minibatch(data, [0, 1, 2]))
    alone = {name: value for name, value in minibatch(data, [1]).items() if name != "y"}
    before = model.predict(**alone)
    model.partial_fit(**minibatch(data, [3, 4])).partial_fit(**minibatch(data, [4, 0]))
    assert_array_equal(model.labels_, [1, 2, 3, 0, 4])
    assert model.noise_std_.shape == (5, 1)
    assert len(model.n_states_) == len(model.converged_) == 5
    assert model.n_sequences_seen_ == 7
    assert_array_equal(model.predict(**alone), before)
    assert model.score(**minibatch(data, [0, 3, 4])) > 0.9


def test_weights_count_in_a_stream(data):
    first = minibatch(data, np.arange(8))
    model = MTLDSRegressor(2, 2, random_state=0, n_init=1, disturbance="none").partial_fit(**first)
    plain, without = (pickle.loads(pickle.dumps(model)) for _ in range(2))
    rows = minibatch(data, np.arange(8, 16))
    weight = np.where(rows["groups"] < 12, 1.0, 0.0)
    without.partial_fit(**rows, sample_weight=weight)
    plain.partial_fit(**minibatch(data, np.arange(8, 12)))
    assert_allclose(without.task_map_.loadings, plain.task_map_.loadings)
    with pytest.raises(ValueError, match="MTLDSRegressor: sample_weight must be the same"):
        model.partial_fit(**rows, sample_weight=np.arange(len(weight)))


def test_noise_levels_of_sequences_are_known_in_a_stream(data):
    """A sequence ten times as noisy as the others is told from them, and not listened to."""
    first = minibatch(data, np.arange(16))
    noise = np.random.default_rng(0).standard_normal(len(first["y"]))
    size = np.where(first["groups"] % 4 == 0, 0.5, 0.0)
    first["y"] = first["y"] + size * noise
    model = MTLDSRegressor(
        2, 2, random_state=0, n_init=1, disturbance="none", sequence_noise=True
    ).fit(**first)
    assert np.isfinite(model.noise_dof_)
    rows = minibatch(data, np.arange(16, 24))
    loud = rows["groups"] == 20
    rows["y"] = rows["y"] + np.where(loud, 0.5, 0.0) * noise[: len(loud)]
    model.partial_fit(**rows)
    level = dict(zip(model.labels_.tolist(), model.noise_level_, strict=True))
    assert level[20] > 3.0 * max(level[label] for label in (17, 18, 19, 21, 22, 23))
    assert level[0] > 3.0 * level[1]  # of the fit before
    deaf = clone(model).set_params(sequence_noise=False).fit(**first).partial_fit(**rows)
    assert model.noise_std_ < 0.5 * deaf.noise_std_


@TINY
def test_a_learning_curve_is_streamed():
    # Draws whose forecasts are far better with sixteen sequences than with four.
    data = make_oscillators(24, 40, n_oscillators=1, random_state=2)
    rows = {"groups": data.groups, "times": data.times}
    with sklearn.config_context(enable_metadata_routing=True):
        sizes, _, scores = learning_curve(
            MTLDSRegressor(2, 2, random_state=0, n_init=1, disturbance="none"),
            data.X,
            data.y,
            train_sizes=[160, 640],  # whole sequences of 40 rows
            cv=GroupKFold(3),
            scoring=ForecastScorer(5),
            exploit_incremental_learning=True,
            params=rows,
            error_score="raise",
        )
    assert_array_equal(sizes, [160, 640])
    assert np.isfinite(scores).all()
    assert scores[1].mean() > scores[0].mean()


@pytest.mark.parametrize(
    "model", [MTLDSRegressor(2, 1, n_init=1, disturbance="none"), PooledLDS(2), SingleTaskLDS(2)]
)
def test_bad_minibatches_are_refused_and_change_nothing(model, data):
    first, rows = minibatch(data, [0, 1, 2]), minibatch(data, [3, 4])
    model = clone(model).partial_fit(**first)
    before = dict(vars(model))
    who = type(model).__name__
    cases = [
        ({"y": np.full(80, np.nan)}, rf"{who}\.partial_fit: y has no observed value; .* its 80"),
        ({"X": np.zeros((80, 2))}, f"X has 2 features, but {who} is expecting 1 features"),
        ({"y": np.zeros((80, 2))}, f"{who}: y needs the 1 outputs seen in fit, got 2 outputs"),
        ({"groups": None}, f"{who} was fitted with the labels of 3 sequences"),
        ({"times": np.zeros(80)}, f"{who}: the times of a sequence must differ"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            model.partial_fit(**(rows | arguments))
        assert vars(model) == before


def test_inputs_that_begin_to_move_are_told(data):
    model = PooledLDS(2).partial_fit(**minibatch(data, [0, 1]))
    rows = minibatch(data, [2, 3])
    rows["X"] = np.where(np.arange(80) % 8 == 0, 1.0, 0.0)[:, None]
    message = r"PooledLDS\.partial_fit ignores the inputs \[0\], .* not in 10 of 80 rows now"
    with pytest.warns(UserWarning, match=message):
        model.partial_fit(**rows)


# ------------------------------------------------------------------------------------ warm_start


@pytest.mark.parametrize(
    "model",
    [
        MTLDSRegressor(2, 2, n_init=1, random_state=0, disturbance="none", warm_start=True),
        PooledLDS(2, warm_start=True),
    ],
)
def test_a_warm_start_goes_on(model, data):
    rows = minibatch(data, np.arange(12))
    model = clone(model).set_params(max_iter=2).fit(**rows)
    first = model.evidence_
    model.set_params(max_iter=1).fit(**rows)  # one iteration and no annealing
    assert model.evidence_ > first - 0.1
    model.set_params(max_iter=60).fit(**rows)
    cold = clone(model).set_params(warm_start=False).fit(**rows)
    assert model.evidence_ == pytest.approx(cold.evidence_, abs=1.0)
    assert len(model.stages_) == 1 < len(cold.stages_)
    # Other sequences, in the units of the first.
    model.fit(**minibatch(data, np.arange(12, 24)))
    assert_array_equal(model.labels_, np.arange(12, 24))
    assert model.noise_std_ == pytest.approx(cold.noise_std_, rel=0.3)


def test_without_warm_start_nothing_is_left_of_the_earlier_fit(data):
    model = PooledLDS(2).fit(**minibatch(data, np.arange(12)))
    again = clone(model).fit(**minibatch(data, np.arange(12, 24)))
    model.fit(**minibatch(data, np.arange(12, 24)))
    assert_allclose(model.lower_bounds_, again.lower_bounds_)


def test_a_warm_start_says_what_may_not_change(data):
    rows = minibatch(data, np.arange(8))
    model = MTLDSRegressor(2, 1, n_init=1, random_state=0, disturbance="none", warm_start=True).fit(
        **rows
    )
    with pytest.raises(
        ValueError,
        match=r"MTLDSRegressor with warm_start=True .* got latent_dim=2 \(was 1\), "
        r"varying=\('A',\) \(was 'all'\)\. Set warm_start=False",
    ):
        model.set_params(latent_dim=2, varying=("A",)).fit(**rows)
    model.set_params(latent_dim=1, varying="all", tol=1e-3).fit(**rows)
    with pytest.raises(ValueError, match="had 1 inputs and 1 outputs; got 3 inputs and 2 outputs"):
        model.fit(np.ones((320, 3)), np.ones((320, 2)), groups=rows["groups"])
