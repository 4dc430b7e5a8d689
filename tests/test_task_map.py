import numpy as np
import pytest
import reference
from small_families import make_family
from systems import assert_close, assert_derivative

from mtds_sklearn.model._lds import KINDS, kind_slices, lds_from_natural
from mtds_sklearn.model._task_map import natural_map, natural_parameters

SIZES = pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((3, 2, 2), {}),
        ((4, 1, 3), {"free": KINDS, "varying": KINDS, "gain": True}),
        ((3, 1, 2), {"block": 3}),
        ((0, 2, 1), {}),
    ],
    ids=["modal", "gain", "cayley", "no-state"],
)


@SIZES
@pytest.mark.parametrize("latent_dim", [0, 1, 3])
def test_the_map_is_linear_and_then_the_chart(rng, shape, options, latent_dim):
    family = make_family(rng, shape, latent_dim, **options)
    z = rng.standard_normal((6, latent_dim))
    psi = natural_parameters(family, z)
    for e in range(6):
        theta = family.bias.copy()
        for a in range(latent_dim):
            theta = theta + family.loadings[:, a] * z[e, a]
        expected = family.chart.const.copy()
        for r, value in enumerate(theta):
            expected = expected + family.chart.basis[:, r] * value
        assert_close(psi[e], expected, 1e-13)


@SIZES
def test_the_map_has_the_loadings_as_derivative(rng, shape, options):
    family = make_family(rng, shape, 2, **options)
    loadings, bias = natural_map(family)
    assert_derivative(lambda z: natural_parameters(family, z), loadings, rng.standard_normal(2))
    assert_close(natural_parameters(family, np.zeros(2)), bias, 1e-15)


def test_latents_may_be_stacked(rng):
    family = make_family(rng, (3, 2, 2), 2)
    z = rng.standard_normal((4, 5, 2))
    psi = natural_parameters(family, z)
    assert psi.shape == (4, 5, kind_slices(family.chart.shape)["noise"].stop)
    for i in np.ndindex(4, 5):
        assert_close(psi[i], natural_parameters(family, z[i]), 1e-14)


def test_without_loadings_all_sequences_are_one(rng):
    family = make_family(rng, (3, 2, 2), 2, scale=0.0)
    psi = natural_parameters(family, rng.standard_normal((5, 2)))
    np.testing.assert_array_equal(psi, np.tile(psi[0], (5, 1)))


def test_what_does_not_vary_is_the_same_in_all_sequences(rng):
    family = make_family(rng, (3, 2, 2), 2, varying=("x0", "D"))
    lds = lds_from_natural(
        natural_parameters(family, rng.standard_normal((5, 2))), family.chart.shape
    )
    for kind, matrices in lds._asdict().items():
        spread = np.ptp(matrices, axis=0)
        assert spread.all() if kind in ("x0", "D") else not spread.any(), kind


def test_natural_vectors_of_the_mean_come_back_from_theta(rng):
    """The chart's basis is orthonormal, so theta is read off the natural vector."""
    family = make_family(rng, (4, 1, 2), 1)
    chart = family.chart
    _, bias = natural_map(family)
    assert_close(chart.basis.T @ (bias - chart.const), family.bias, 1e-13)
    theta = reference.finite_difference(
        lambda b: natural_map(family._replace(bias=b))[1], family.bias
    )
    assert_close(theta, chart.basis, 1e-8)
