"""Coloured noise and gains learned beside a frozen family, and whether forecasts want them."""

import numpy as np
import pytest
from small_families import draw_sequences, make_family, make_rows, pack

from mtds_sklearn._sequences import frozen
from mtds_sklearn.inference._adaptive_is import infer
from mtds_sklearn.inference._draws import make_draws
from mtds_sklearn.inference._forecast import forecast_rows, forecast_run, posterior_particles
from mtds_sklearn.inference._horizon import forecast_at_horizon
from mtds_sklearn.inference._online import extend, start_online
from mtds_sklearn.learning import _disturbance, _sample_growth
from mtds_sklearn.learning._disturbance import Candidate, is_worth_it, learn_rest
from mtds_sklearn.learning._gain import (
    disturbance_of,
    gain_entries,
    learn_gain,
    learn_noise,
    with_noise_states,
)
from mtds_sklearn.learning._growth import n_stages, theta_size
from mtds_sklearn.learning._judgement import judge
from mtds_sklearn.learning._learned import Options
from mtds_sklearn.learning._m_step import are_stable
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.learning._sample_growth import grow_from_sample
from mtds_sklearn.model._chart import make_chart, theta_names
from mtds_sklearn.model._lds import Shape, lds_from_natural
from mtds_sklearn.model._likelihood import evaluations, predicted_outputs, squared_residuals
from mtds_sklearn.model._task_map import Family, natural_parameters

SHAPES = [(3, 1, 2), (2, 0, 1), (4, 2, 1)]
POINTS = make_draws(1, 0).points


@pytest.mark.parametrize("block", [2, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_noise_states_without_gain_change_nothing(rng, shape, block):
    block = block if block == 2 else max(shape[0], 3)
    family = make_family(rng, shape, 2, block=block)
    more = with_noise_states(family)
    sequences = make_rows(rng, (9, 4), n_inputs=shape[1], n_outputs=shape[2], missing=0.2)
    run, z = evaluations(sequences), rng.standard_normal((2, 2))
    outputs = [
        predicted_outputs(natural_parameters(each, z), run, each.chart)[0]
        for each in (family, more)
    ]
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-10, atol=1e-12)
    assert more.chart.shape.n_states == shape[0] + 2 * shape[2]
    assert disturbance_of(family) == disturbance_of_no_gain(more) == "none"


def disturbance_of_no_gain(family):
    """A family whose gains are all zero has coloured noise in name only."""
    assert disturbance_of(family) == "noise"
    return "none"


@pytest.mark.parametrize("block", [2, 4])
def test_noise_is_seen_and_driven_by_its_own_output(rng, block):
    family = make_family(rng, (4, 1, 2), 1, block=block)
    more = with_noise_states(family)
    moved = more._replace(bias=more.bias + rng.uniform(0.1, 0.5, len(more.bias)))
    lds = lds_from_natural(natural_parameters(moved, np.zeros(1)), more.chart.shape)
    for o in range(2):
        own, other = slice(2 * o, 2 * o + 2), 1 - o
        assert np.all(lds.K[own, o] != 0.0)
        assert np.all(lds.K[own, other] == 0.0)
        assert np.all(lds.C[other, own] == 0.0)
        assert np.any(lds.C[o, own] != 0.0)
        assert np.all(lds.A[own, 4:] == 0.0)
        assert np.all(lds.A[4:, own] == 0.0)
    assert np.all(lds.B[:4] == 0.0)
    assert np.all(lds.x0[:4] == 0.0)
    assert np.all(lds.K[4:] != 0.0)


def test_gain_entries_are_named(rng):
    more = with_noise_states(make_family(rng, (3, 1, 1), 1))
    names = np.array(theta_names(more.chart))
    noise = ["noise[0].A[0]", "noise[0].A[1]", "noise[0].K[0]", "noise[0].K[1]"]
    assert sorted(names[gain_entries(more.chart, on_states=False)]) == sorted(noise)
    own = ["K[0, 0]", "K[1, 0]", "K[2, 0]"]
    assert sorted(names[gain_entries(more.chart, on_states=True)]) == sorted(noise + own)
    assert {"A[0].damping", "A[0].frequency", "A[1].pole", "x0[2]"} <= set(names)


def draw_coloured(rng, family, lengths, pole=0.9):
    """Sequences of a family, each with an autoregressive residual and a little white noise."""
    quiet = family._replace(noise_std=0.1 * family.noise_std)
    sequences, z = draw_sequences(rng, quiet, lengths)
    residual = np.concatenate(
        [ar1(rng, length, pole, float(family.noise_std[0])) for length in lengths]
    )
    return sequences._replace(outputs=frozen(sequences.outputs + residual[:, None])), z


def ar1(rng, n, pole, size):
    values, x = np.empty(n), size / np.sqrt(1 - pole**2) * rng.standard_normal()
    for t in range(n):
        values[t] = x
        x = pole * x + size * rng.standard_normal()
    return values


def decaying(rng):
    """One state that decays from an initial value of the sequence's own."""
    family = make_family(rng, (1, 0, 1), 1, free=("A", "x0"), varying=("x0",), noise_std=0.1)
    return family._replace(
        bias=np.array([1.0, 2.0]), loadings=np.array([[0.0], [1.0]]), noise_std=np.array([0.1])
    )


def test_coloured_noise_is_found(rng):
    """The gain of an autoregression is one, and the noise that of the next row."""
    family = decaying(rng)
    sequences, z = draw_coloured(rng, family, (60,) * 20)
    posterior = TaskPosterior(z, np.full((20, 1, 1), 0.1))
    result = learn_noise(sequences, family, posterior, POINTS, 0.0)
    assert result.family.noise_std[0] == pytest.approx(0.1, rel=0.1)
    system = lds_from_natural(
        natural_parameters(result.family, np.zeros(1)), result.family.chart.shape
    )
    powers = [np.linalg.matrix_power(system.A, j) for j in range(6)]
    response = [(system.C @ power @ system.K)[0, 0] for power in powers]
    np.testing.assert_allclose(response[1:], 0.9 ** np.arange(1, 6), atol=0.1)
    frozen_entries = ~gain_entries(result.family.chart, on_states=True)
    start = with_noise_states(family)
    np.testing.assert_array_equal(result.family.bias[frozen_entries], start.bias[frozen_entries])
    np.testing.assert_array_equal(result.family.loadings, start.loadings)


def test_bounds_rise_and_the_past_is_forgotten(rng):
    family = decaying(rng)
    sequences, z = draw_coloured(rng, family, (40,) * 10)
    noise = learn_noise(sequences, family, TaskPosterior(z, np.full((10, 1, 1), 0.1)), POINTS, 0.0)
    gain = learn_gain(sequences, noise, POINTS, 0.0)
    for result in (noise, gain):
        assert np.all(np.array(result.gains[1:]) >= -1e-9 * np.abs(result.bounds[-1]))
        assert are_stable(result.family, result.posterior.mean).all()
    assert disturbance_of(gain.family) == "gain"


def test_what_grows_without_bound_is_not_forgotten(rng):
    more = with_noise_states(decaying(rng))
    assert are_stable(more, np.zeros((1, 1))).all()
    bias = more.bias.copy()
    bias[list(theta_names(more.chart)).index("K[0, 0]")] = -0.5 * more.chart.directions[-1, 0]
    assert not are_stable(more._replace(bias=bias), np.zeros((1, 1))).any()


def options(**changes):
    defaults = {
        "n_states": 2, "latent_dim": 1, "free": ("A", "x0", "offset"),
        "varying": ("A", "x0", "offset"), "cayley": False, "max_iter": 30, "tol": 2e-4,
    }  # fmt: skip
    return Options(**(defaults | changes))


def learn(sequences, **changes):
    plan = options(**changes)
    shape = (n_stages(plan.n_states), theta_size(plan.n_states, 0, 1, plan.free), 1)
    normals = np.random.default_rng(0).standard_normal(shape)
    grown = grow_from_sample(sequences, plan, POINTS, normals)
    return grown, learn_rest(sequences, grown, plan, POINTS, make_draws(1, 0))


def test_forecasts_decide(rng):
    """Taken where residuals remember, refused where they do not; "innovations" takes it anyway."""
    family = decaying(rng)
    coloured, _ = draw_coloured(rng, family, (40,) * 12)
    white, _ = draw_sequences(rng, family, (40,) * 12)
    grown, found = learn(coloured, disturbance="auto")
    assert disturbance_of(found.family) != "none"
    draws = make_draws(1, 0)
    before, after = (judge(coloured, each.family, draws).density.mean() for each in (grown, found))
    assert after > before
    assert disturbance_of(learn(white, disturbance="auto")[1].family) == "none"
    assert disturbance_of(learn(white, disturbance="innovations")[1].family) != "none"
    assert disturbance_of(learn(coloured)[1].family) == "none"


def test_families_that_grew_on_a_sample_are_told_of_all_sequences(rng, monkeypatch):
    monkeypatch.setattr(_sample_growth, "MOST_GROWN", 8)
    sequences, _ = draw_coloured(rng, decaying(rng), (40,) * 12)
    grown, found = learn(sequences, disturbance="innovations")
    assert {len(each.posterior.mean) for each in grown.smaller} == {8}
    assert len(found.posterior.mean) == len(found.posterior.factor) == 12
    assert disturbance_of(found.family) != "none"


@pytest.mark.parametrize(
    ("rise", "evidence", "worth_it"),
    [
        (0.5, -100.0, True),
        (0.01, 100.0, True),
        (-0.01, 100.0, True),
        (-0.5, 100.0, False),
        (0.01, -100.0, False),
        (-0.01, -100.0, False),
    ],
)
def test_a_tie_of_forecasts_is_broken_by_the_evidence(rng, rise, evidence, worth_it):
    spread = rng.standard_normal(50)
    spread = 0.7 * (spread - spread.mean()) / spread.std()  # a standard error of 0.1
    grown, _ = learn(draw_sequences(rng, decaying(rng), (10,) * 4)[0])
    without = Candidate(grown, np.zeros(50))
    best = Candidate(grown._replace(evidence=grown.evidence + evidence), rise + spread)
    assert is_worth_it(best, without) == worth_it


def test_sequences_without_values_keep_the_prior(rng):
    family = decaying(rng)
    sequences, _ = draw_coloured(rng, family, (30,) * 6)
    outputs = np.where(np.arange(180)[:, None] < 30, np.nan, sequences.outputs)
    hidden = pack(sequences.inputs, outputs, (30,) * 6)
    _, found = learn(hidden, disturbance="innovations", sequence_noise=True)
    assert found.posterior.mean[0] == 0.0
    assert found.posterior.factor[0] == 1.0
    assert np.all(found.posterior.mean[1:] != 0.0)


def test_single_rows_leave_nothing_to_judge_forecasts_by(rng):
    """A family of single rows keeps its noise, and gets the disturbance that was asked for."""
    sequences, _ = draw_sequences(rng, decaying(rng), (1,) * 30)
    assert disturbance_of(learn(sequences, disturbance="auto")[1].family) == "none"
    _, found = learn(sequences, disturbance="innovations", sequence_noise=True)
    assert np.isinf(found.family.noise_dof)
    assert np.all(np.isfinite(found.family.bias))


def test_forecasts_of_the_rest_do_not_see_it(rng):
    """Densities rest on the first rows: what comes later moves its own density only."""
    family = decaying(rng)
    sequences, _ = draw_coloured(rng, family, (8,) * 2)
    draws = make_draws(1, 0)
    densities = judge(sequences, family, draws).density
    outputs = sequences.outputs.copy()
    outputs[7] += 1.0
    moved = judge(sequences._replace(outputs=frozen(outputs)), family, draws).density
    assert moved[1] == densities[1]
    assert moved[0] != densities[0]


def one_gain(rng, n_rows, gain, spread):
    """A family whose gain alone varies, and a sequence of its mean."""
    chart = make_chart(Shape(1, 0, 1, 2), np.ones((1, 1)), ("A", "x0", "K"), gain=True)
    loadings = np.array([[0.0], [0.0], [spread]])
    family = Family(chart, loadings, np.array([1.5, 1.0, gain]), np.array([0.1]), np.ones(3))
    outputs, state = np.empty(n_rows), 1.0
    for t, shock in enumerate(0.1 * rng.standard_normal(n_rows)):
        outputs[t] = state + shock
        state = np.tanh(1.5) * (state + gain * shock)
    return family, pack(np.zeros((n_rows, 0)), outputs, (n_rows,))


def rows_of_one(sequences, first, last):
    return pack(np.zeros((last - first, 0)), sequences.outputs[first:last], (last - first,))


def test_particles_that_run_away_have_no_part_in_forecasts(rng):
    """A - A K C is unstable for one z in fifteen, whose particles no row calls back."""
    family, sequences = one_gain(rng, 300, gain=1.8, spread=0.2)
    online = start_online(rows_of_one(sequences, 0, 5), family, make_draws(1, 0))[0]
    hidden, farthest = pack(np.zeros((2, 0)), np.full(2, np.nan), (2,)), 0.0
    for t in range(5, 300):
        online = extend(online, family, make_draws(1, 0), rows_of_one(sequences, t, t + 1))
        farthest = max(farthest, np.ptp(online.run.state))
        weighed = (online.log_weights[None], family.noise_std[None])
        found = forecast_run(online.run, weighed, hidden, np.array([0.05, 0.95]), None)
        quantiles = (found.quantiles - found.mean[..., None]) / found.std[..., None]
        np.testing.assert_allclose(quantiles, np.tile([-1.645, 1.645], (2, 1, 1)), atol=0.05)
    assert farthest > 1e6


def test_thousands_of_rows_at_once_are_as_good_as_one_by_one(rng):
    """Particles whose innovations overflow weigh nothing."""
    family, sequences = one_gain(rng, 3000, gain=0.6, spread=-0.8)
    draws = make_draws(1, 0)
    online = start_online(rows_of_one(sequences, 0, 5), family, draws)[0]
    online = extend(online, family, draws, rows_of_one(sequences, 5, 3000))
    assert online.log_evidence == pytest.approx(infer(sequences, family, draws).log_evidence[0])
    assert np.isfinite(online.run.state).all()


def test_where_innovations_grow_without_bound_nothing_breaks(rng):
    """A - A K C is unstable for one z in six: after a thousand rows its squares would overflow."""
    family, sequences = one_gain(rng, 1000, gain=0.6, spread=-0.8)
    chart = family.chart
    assert not are_stable(family, np.array([[1.0]])).any()
    draws = make_draws(1, 0)
    posterior = infer(sequences, family, draws)
    assert abs(np.exp(posterior.log_weights[0]) @ posterior.z[0, :, 0]) < 0.2
    particles = posterior_particles(posterior, sequences, family)
    for forecast in (
        forecast_rows(sequences, particles, np.array([0.1, 0.9]), sequences.outputs),
        forecast_at_horizon(sequences, family, draws, 1, np.array([0.1, 0.9]), sequences.outputs),
    ):
        assert all(np.isfinite(part).all() for part in forecast)
    far = natural_parameters(family, np.array([[4.0]]))
    assert np.isfinite(squared_residuals(far, evaluations(sequences), chart)).all()


def test_the_largest_family_is_tried_even_if_growing_does_not_help(rng, monkeypatch):
    """Noise does little for the small families that growth came by where they are far too small."""
    monkeypatch.setattr(_disturbance, "_is_better", lambda trial, other: False)
    sequences, _ = draw_coloured(rng, decaying(rng), (20,) * 6)
    grown, _ = learn(sequences)
    first = grown.smaller[0]
    _, found = learn_rest_of(sequences, grown._replace(smaller=(first, first, first)))
    n_states = [stage.n_states for stage in found.stages[len(grown.stages) :]]
    assert max(n_states) == grown.stages[-1].n_states > min(n_states)


def learn_rest_of(sequences, grown):
    plan = options(disturbance="innovations")
    return grown, learn_rest(sequences, grown, plan, POINTS, make_draws(1, 0))
