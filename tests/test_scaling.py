import numpy as np
import pytest

from mtds_sklearn._scaling import Scaling, apply_scaling, fit_scaling
from mtds_sklearn._sequences import pack_sequences


def make_sequences(rng, *, inputs=None, outputs=None):
    """Two inputs, two outputs, three sequences of different lengths, a quarter unobserved."""
    inputs = rng.normal(size=(40, 2)) + 3.0 if inputs is None else inputs
    if outputs is None:
        outputs = rng.normal(size=(40, 2)) * (1.0, 5.0) + (2.0, -7.0)
        outputs[rng.random(outputs.shape) < 0.25] = np.nan
    labels = np.repeat(["a", "b", "c"], (1, 9, len(inputs) - 10))
    return pack_sequences(inputs, outputs, labels=labels)


def test_scaled_columns_have_size_one(rng):
    sequences = make_sequences(rng)
    scaled = apply_scaling(sequences, fit_scaling(sequences))
    np.testing.assert_allclose((scaled.inputs**2).mean(axis=0), 1.0)
    for column, observed in zip(scaled.outputs.T, scaled.observed.T, strict=True):
        assert column[observed].mean() == pytest.approx(0.0, abs=1e-14)
        assert column[observed].std() == pytest.approx(1.0)
        assert not column[~observed].any()


def test_inputs_are_not_centred(rng):
    inputs = rng.normal(size=(40, 2))
    inputs[::3] = 0.0
    sequences = make_sequences(rng, inputs=inputs)
    scaled = apply_scaling(sequences, fit_scaling(sequences))
    np.testing.assert_array_equal(scaled.inputs == 0.0, inputs == 0.0)


def test_scaling_undoes_itself(rng):
    sequences = make_sequences(rng)
    scaling = fit_scaling(sequences)
    scaled = apply_scaling(sequences, scaling)
    np.testing.assert_allclose(scaled.inputs * scaling.input_scale, sequences.inputs)
    back = scaled.outputs * scaling.output_scale + scaling.output_mean
    np.testing.assert_allclose(back[sequences.observed], sequences.outputs[sequences.observed])


@pytest.mark.parametrize("factor", [1e-300, 1e-12, 0.3, 1e12, 1e300])
def test_scaled_values_do_not_depend_on_the_units(rng, factor):
    inputs, outputs = rng.normal(size=(40, 2)), rng.normal(size=(40, 1))
    reference = make_sequences(rng, inputs=inputs, outputs=outputs)
    other = make_sequences(rng, inputs=inputs * factor, outputs=-outputs * factor)
    scaling = fit_scaling(reference)
    other_scaling = fit_scaling(other)
    for ours, theirs in zip(scaling, other_scaling, strict=True):
        np.testing.assert_allclose(np.abs(theirs), np.abs(ours) * factor, rtol=1e-12)
    expected = apply_scaling(reference, scaling)
    actual = apply_scaling(other, other_scaling)
    np.testing.assert_allclose(actual.inputs, expected.inputs, rtol=1e-12)
    np.testing.assert_allclose(actual.outputs, -expected.outputs, rtol=1e-10)


def test_a_shift_of_the_outputs_moves_only_the_mean(rng):
    outputs = rng.normal(size=(40, 1))
    scaling = fit_scaling(make_sequences(rng, outputs=outputs))
    shifted = fit_scaling(make_sequences(rng, outputs=outputs + 50.0))
    np.testing.assert_allclose(shifted.output_mean, scaling.output_mean + 50.0)
    np.testing.assert_allclose(shifted.output_scale, scaling.output_scale)


def test_a_small_deviation_from_a_large_mean_is_found(rng):
    # The sum of 200,000 values of size 1e12, rounded at each step, would be off by more.
    deviation = rng.choice([-1.0, 1.0], size=200_000)
    deviation -= deviation.mean()
    outputs = np.column_stack([1e12 + deviation, deviation])
    scaling = fit_scaling(pack_sequences(np.zeros((len(outputs), 1)), outputs))
    assert scaling.output_mean[0] == pytest.approx(1e12, abs=1e-3)
    assert scaling.output_scale[0] == pytest.approx(scaling.output_scale[1], rel=1e-3)


@pytest.mark.parametrize("value", [-3.0, 1e-300, 0.1, 1e12, 1e308])
def test_constant_output(value):
    outputs = np.full((7, 1), value)
    outputs[2] = np.nan
    scaling = fit_scaling(pack_sequences(np.zeros((7, 1)), outputs))
    assert scaling.output_mean == [value]
    assert scaling.output_scale == [abs(value)]


def test_columns_that_say_nothing_keep_their_units():
    outputs = np.column_stack([np.zeros(5), np.full(5, np.nan)])
    sequences = pack_sequences(np.zeros((5, 1)), outputs)
    scaling = fit_scaling(sequences)
    expected = Scaling(np.ones(1), np.zeros(2), np.ones(2))
    for actual, value in zip(scaling, expected, strict=True):
        np.testing.assert_array_equal(actual, value)
    np.testing.assert_array_equal(apply_scaling(sequences, scaling).outputs, np.zeros((5, 2)))


def test_unobserved_rows_and_other_sequences_columns_are_kept_apart():
    outputs = np.array([[1.0, np.nan], [3.0, 10.0], [np.nan, 30.0]])
    scaling = fit_scaling(pack_sequences(np.zeros((3, 0)), outputs))
    np.testing.assert_allclose(scaling.output_mean, [2.0, 20.0])
    np.testing.assert_allclose(scaling.output_scale, [1.0, 10.0])
    assert scaling.input_scale.shape == (0,)


def test_arrays_are_read_only_and_contiguous(rng):
    sequences = make_sequences(rng)
    scaling = fit_scaling(sequences)
    for array in (*scaling, *apply_scaling(sequences, scaling)[:6]):
        assert array.flags.c_contiguous
        assert not array.flags.writeable


def test_extreme_values_raise_no_warning():
    outputs = np.array([[-1e300, 5e-324], [1e300, 0.0], [0.0, 1e-310]])
    inputs = np.array([[5e-324, 1e308], [0.0, -1e308], [0.0, 1e-308]])
    sequences = pack_sequences(inputs, outputs)
    scaled = apply_scaling(sequences, fit_scaling(sequences))
    assert np.isfinite(scaled.inputs).all()
    assert np.isfinite(scaled.outputs).all()
