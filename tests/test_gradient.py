"""The gradient by a sweep backwards, against complex steps through the reference."""

import numpy as np
import pytest
import reference
from small_families import each, make_rows
from systems import SHAPES, all_active, assert_close, make_natural, make_systems, name_of

from mtds_sklearn.kernels._written_out import Sizes
from mtds_sklearn.model._gradient import log_likelihood_gradient
from mtds_sklearn.model._lds import KINDS, Shape, kind_slices
from mtds_sklearn.model._likelihood import evaluations

# Rows are worked on in blocks of 16: less than one, whole ones, and parts.
LENGTHS = (40, 1, 16, 33, 15, 7)
WITH_AND_WITHOUT_GAIN = pytest.mark.parametrize("gain", [False, True], ids=["free", "gain"])


def long_systems(rng, shape, *, gain, n_repeats=1, missing=0.25):
    """Systems on sequences of LENGTHS, each `n_repeats` times, differentiated in all entries."""
    systems = make_systems(rng, shape, gain=gain, free=KINDS)
    active, bounds = all_active(shape)
    psi = make_natural(rng, shape, len(LENGTHS) * n_repeats)
    if not gain:
        psi[:, kind_slices(shape)["K"]] = 0.0
    sequences = make_rows(
        rng, LENGTHS, n_inputs=shape.n_inputs, n_outputs=shape.n_outputs, missing=missing
    )
    return systems._replace(
        psi=psi, sequences=sequences, run=evaluations(sequences, repeats=n_repeats),
        chart=systems.chart._replace(active=active, bounds=bounds),
    )  # fmt: skip


def gradient(systems, **options):
    return log_likelihood_gradient(
        systems.psi, systems.run, systems.chart, systems.noise_std, **options
    )


@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
@WITH_AND_WITHOUT_GAIN
def test_it_agrees_with_complex_steps(rng, shape, gain):
    systems = long_systems(rng, shape, gain=gain)
    squared, slopes = gradient(systems)
    for e, rows in enumerate(each(systems.sequences)):
        psi = systems.psi[e]

        def log_likelihood(psi, rows=rows):
            return reference.log_likelihood(psi, systems.shape, *rows, systems.noise_std)

        expected = reference.complex_step(log_likelihood, psi)
        if not gain:  # the kernel takes K as given, at zero
            expected[kind_slices(shape)["K"]] = 0.0
        assert_close(slopes[e], expected)
        errors = np.where(rows[2], rows[1] - reference.simulate(psi, systems.shape, *rows)[0], 0.0)
        assert_close(squared[e], np.sum(errors**2, axis=0))


def test_as_many_rows_are_worked_on_together_as_take_least():
    assert {Sizes(*shape, False).together for shape in SHAPES} == {1, 2, 4}
    assert {Sizes(*shape, True).together for shape in SHAPES} == {1}
    assert Sizes(40, 2, 30, 2, False).together == 1  # more would take minutes to compile


@WITH_AND_WITHOUT_GAIN
def test_evaluations_do_not_disturb_each_other(rng, gain):
    """More of them than lanes, of different lengths side by side."""
    systems = long_systems(rng, Shape(3, 2, 2, 2), gain=gain, n_repeats=3)
    together = gradient(systems)
    for e in range(len(systems.psi)):
        one = systems.run._replace(
            first_row=systems.run.first_row[e : e + 1],
            n_rows=systems.run.n_rows[e : e + 1],
            n_observed=systems.run.n_observed[e : e + 1],
        )
        alone = gradient(systems._replace(run=one, psi=systems.psi[e : e + 1]))
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_array_equal(a[0], b[e])


def test_a_weight_multiplies_the_gradient_only(rng):
    systems = long_systems(rng, Shape(4, 2, 3, 4), gain=True)
    weight = np.array([0.0, 1.0, 0.3, 2.0, 5.0, 1e-3])
    plain, weighted = gradient(systems), gradient(systems, weight=weight)
    assert_close(weighted[0], plain[0], 1e-15)
    assert_close(weighted[1], plain[1] * weight[:, None], 1e-15)


def test_only_active_entries_are_handed_out(rng):
    systems = long_systems(rng, Shape(5, 1, 3, 2), gain=True)
    active = np.sort(rng.choice(systems.chart.active, 7, replace=False))
    _, some = gradient(systems._replace(chart=systems.chart._replace(active=active)))
    np.testing.assert_array_equal(some, gradient(systems)[1][:, active])


def test_without_observations_there_is_no_slope(rng):
    squared, slopes = gradient(long_systems(rng, Shape(3, 2, 2, 2), gain=True, missing=1.0))
    assert not squared.any()
    assert not slopes.any()
