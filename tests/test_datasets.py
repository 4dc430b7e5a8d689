"""Synthetic families: shapes, seeds, and the promise that the parameters are the truth."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.signal import dlsim

from mtds_sklearn import datasets

MAKERS = [getattr(datasets, name) for name in datasets.__all__]
LINEAR = [maker for maker in MAKERS if maker is not datasets.make_bouncing_balls]


def _per_sequence(data):
    for label in np.unique(data.groups):
        rows = data.groups == label
        yield label, data.X[rows], data.mean[rows]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 1), (5, 30)])
def test_shapes_agree(maker, size):
    data = maker(*size, random_state=0)
    n_rows = len(data.groups)
    assert data.X.ndim == 2
    assert len(data.X) == len(data.y) == len(data.times) == n_rows
    assert data.mean.shape == data.y.shape
    assert np.isfinite(data.X).all()
    assert np.isfinite(data.mean).all()
    assert data.groups.dtype.kind == data.times.dtype.kind == "i"
    assert all(len(values) == size[0] for values in data.parameters.values())
    np.testing.assert_array_equal(np.unique(data.groups), np.arange(size[0]))
    for label in range(size[0]):
        times = data.times[data.groups == label]
        np.testing.assert_array_equal(times, np.arange(len(times)))
    assert "\n" not in data.DESCR


@pytest.mark.parametrize("maker", MAKERS)
def test_random_state_decides_everything(maker):
    first, again = maker(4, 20, random_state=3), maker(4, 20, random_state=3)
    other = maker(4, 20, random_state=4)
    generator = maker(4, 20, random_state=np.random.RandomState(3))
    for name in ("X", "y", "mean", "groups", "times"):
        np.testing.assert_array_equal(first[name], again[name])
        np.testing.assert_array_equal(first[name], generator[name])
    for name, values in first.parameters.items():
        np.testing.assert_array_equal(values, again.parameters[name])
    assert first.mean.shape != other.mean.shape or np.any(first.mean != other.mean)


@pytest.mark.parametrize("maker", MAKERS)
def test_noise_is_added_to_an_unchanged_mean(maker):
    silent = maker(30, 80, noise_std=0.0, random_state=1)
    noisy = maker(30, 80, noise_std=0.3, random_state=1)
    seen = np.isfinite(silent.y)
    np.testing.assert_array_equal(silent.y[seen], silent.mean[seen])
    np.testing.assert_array_equal(silent.mean, noisy.mean)
    np.testing.assert_array_equal(np.isfinite(noisy.y), seen)
    residual = (noisy.y - noisy.mean)[seen]
    # Four standard errors of mean and standard deviation.
    assert abs(residual.mean()) < 4 * 0.3 / np.sqrt(residual.size)
    assert abs(residual.std() - 0.3) < 4 * 0.3 / np.sqrt(2 * residual.size)


@pytest.mark.parametrize("maker", LINEAR)
def test_parameters_simulate_the_mean(maker):
    data = maker(6, 50, random_state=2)
    for label, inputs, mean in _per_sequence(data):
        A, B, C, D, offset, x0 = (data.parameters[k][label] for k in (*"ABCD", "offset", "x0"))
        simulated = dlsim((A, A @ B, C, C @ B + D, 1), inputs, x0=x0)[1] + offset
        np.testing.assert_allclose(simulated, mean.reshape(simulated.shape), rtol=1e-10, atol=1e-10)


def test_two_oscillators_follow_the_formula_and_ranges():
    data = datasets.make_oscillators(500, random_state=0)
    frequency, half_life = data.parameters["frequency"], data.parameters["half_life"]
    t = np.arange(80)
    waves = 0.5 ** (t / half_life[:, :, None]) * np.sin(np.deg2rad(frequency)[:, :, None] * t)
    expected = waves[:, 0] - 0.5 * waves[:, 1]
    np.testing.assert_allclose(data.mean, expected.ravel(), atol=1e-12)
    drawn = np.hstack([frequency, half_life])
    np.testing.assert_allclose(drawn.min(axis=0), [6.75, 22.5, 4, 8], rtol=0.1)
    np.testing.assert_allclose(drawn.max(axis=0), [18, 36, 80, 60], rtol=0.02)
    assert (drawn.min(axis=0) >= [6.75, 22.5, 4, 8]).all()
    assert (drawn.max(axis=0) <= [18, 36, 80, 60]).all()
    assert not data.X.any()


def test_one_oscillator_follows_the_formula():
    data = datasets.make_oscillators(300, 10, n_oscillators=1, random_state=0)
    frequency, half_life = data.parameters["frequency"], data.parameters["half_life"]
    assert frequency.shape == half_life.shape == (300, 1)
    np.testing.assert_allclose([frequency.min(), frequency.max()], [6.75, 36], rtol=0.03)
    np.testing.assert_allclose([half_life.min(), half_life.max()], [4, 80], rtol=0.1)
    t = np.arange(10)
    expected = 0.5 ** (t / half_life) * np.sin(np.deg2rad(frequency) * t)
    np.testing.assert_allclose(data.mean, expected.ravel(), atol=1e-12)


def _bounce_step_by_step(initial_height, initial_speed, gravity, restitution, seconds):
    """Integrate from impact to impact; a slow but obvious version of the closed form."""
    heights, time, height, speed = [], 0.0, initial_height, initial_speed
    for moment in seconds:
        for _ in range(500):
            flight = (speed + np.sqrt(speed**2 + 2 * gravity * height)) / gravity
            if time + flight > moment:
                break
            time, height, speed = time + flight, 0.0, restitution * (gravity * flight - speed)
        elapsed = min(moment - time, flight)
        heights.append(height + speed * elapsed - gravity * elapsed**2 / 2)
    return np.array(heights)


def test_balls_bounce_as_simulated_from_impact_to_impact():
    data = datasets.make_bouncing_balls(50, 100, random_state=0)
    for label, _, mean in _per_sequence(data):
        start = {name: values[label] for name, values in data.parameters.items()}
        expected = _bounce_step_by_step(**start, seconds=0.05 * np.arange(100))
        np.testing.assert_allclose(mean, expected, atol=1e-9)
    assert data.mean.min() >= 0
    assert (data.mean == 0).any()  # some balls come to rest, where the series of bounces ends


def test_drug_response_is_the_solution_of_its_differential_equations():
    data = datasets.make_drug_response(3, 40, random_state=0)
    for label, inputs, mean in _per_sequence(data):
        k10, k12, k21, ke0 = data.parameters["rates"][label]

        def slope(_, x, u, k10=k10, k12=k12, k21=k21, ke0=ke0):
            central = u - (k10 + k12) * x[0] + k21 * x[1]
            return [central, k12 * x[0] - k21 * x[1], ke0 * (x[0] - x[2])]

        amounts, effect = np.zeros(3), []
        for rate in inputs[:, 0]:
            amounts = solve_ivp(slope, (0, 1), amounts, args=(rate,), rtol=1e-9, atol=1e-11).y[
                :, -1
            ]
            effect.append(amounts[2])
        drop = np.outer(effect, data.parameters["sensitivity"][label])
        np.testing.assert_allclose(mean, data.parameters["offset"][label] - drop, atol=1e-6)


def test_drug_response_has_gaps_and_unequal_lengths():
    data = datasets.make_drug_response(200, random_state=0)
    lengths = np.bincount(data.groups)
    np.testing.assert_array_equal(lengths, data.parameters["length"])
    assert lengths.min() >= 60
    assert lengths.max() <= 120
    assert len(np.unique(lengths)) > 30
    assert np.isnan(data.y).mean() == pytest.approx(0.1, abs=0.01)
    assert (data.X >= 0).all()
    assert len(np.unique(data.X[data.times == 0])) == 200
    complete = datasets.make_drug_response(5, missing_fraction=0, random_state=0)
    assert np.isfinite(complete.y).all()


def test_input_driven_recipe():
    data = datasets.make_input_driven(400, random_state=0)
    np.testing.assert_array_equal(np.abs(data.parameters["B"]).sum(axis=1), 1)
    assert len(np.unique(data.parameters["B"][:, :, 0], axis=0)) == 8
    assert data.parameters["offset"].std() == pytest.approx(1, abs=0.15)
    u = data.X.reshape(400, 80)
    lag_6 = (u[:, 6:] * u[:, :-6]).mean()
    assert u.var() == pytest.approx(1, abs=0.1)
    assert lag_6 == pytest.approx(np.exp(-1), abs=0.1)


def test_stores_have_a_weekly_season_and_promotions():
    data = datasets.make_stores(50, random_state=0)
    assert set(np.unique(data.X)) == {0.0, 1.0}
    assert 0.1 < data.X.mean() < 0.4
    season = data.parameters["A"][:, :6, :6]
    after_a_week = np.linalg.matrix_power(season, 7)
    np.testing.assert_allclose(after_a_week, np.broadcast_to(np.eye(6), (50, 6, 6)), atol=1e-12)
    carry_over = data.parameters["carry_over"]
    np.testing.assert_array_equal(data.parameters["A"][:, 6, 6], carry_over)
    varying = np.hstack([data.parameters[k].reshape(50, -1) for k in ("offset", "x0", "B", "D")])
    assert (np.ptp(varying, axis=0) > 0.2).sum() == 1 + 6 + 1 + 1


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_sequences": 0}, ValueError, "n_sequences == 0, must be >= 1"),
        ({"n_steps": -3}, ValueError, "n_steps == -3, must be >= 1"),
        ({"n_steps": 2.5}, TypeError, "n_steps must be an instance of int, not float"),
        ({"noise_std": -0.1}, ValueError, "noise_std == -0.1, must be >= 0"),
        ({"noise_std": np.inf}, ValueError, "noise_std == inf, must be < inf"),
        ({"noise_std": np.nan}, ValueError, "noise_std == nan, must be >= 0"),
        ({"noise_std": "low"}, TypeError, "noise_std must be an instance of float, not str"),
    ],
)
def test_arguments_out_of_range_are_named(maker, arguments, error, message):
    with pytest.raises(error, match=message):
        maker(**arguments)


def test_arguments_of_one_family_are_named():
    with pytest.raises(ValueError, match="n_oscillators == 3, must be <= 2"):
        datasets.make_oscillators(n_oscillators=3)
    with pytest.raises(ValueError, match="missing_fraction == 1, must be < 1"):
        datasets.make_drug_response(missing_fraction=1)
