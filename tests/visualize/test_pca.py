import numpy as np
import pytest
import torch

from resfu.visualize import align, fit_pca


def correlated_map(channels=12, size=(9, 7), seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    mixing = mixing * torch.logspace(1, -2, channels, dtype=torch.float64)  # well separated variances
    x = mixing @ torch.randn(channels, size[0] * size[1], generator=generator, dtype=torch.float64) + 5
    return x.reshape(channels, *size).to(dtype)


def test_components_and_scores_match_numpy_svd():
    x = correlated_map()
    basis = fit_pca([x])
    pixels = x.flatten(1).T.numpy()
    centred = pixels - pixels.mean(0)
    _, _, vt = np.linalg.svd(centred, full_matrices=False)
    for axis in range(3):
        ours, theirs = basis.components[:, axis].numpy(), vt[axis]
        theirs = theirs * np.sign(theirs[np.abs(theirs).argmax()])
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
    np.testing.assert_allclose(basis.project(x).numpy(), centred @ basis.components.numpy(), atol=1e-9)


def test_basis_is_fitted_on_all_maps_together():
    a, b = correlated_map(seed=1), correlated_map(size=(4, 5), seed=2)
    both = fit_pca([a, b])
    pixels = torch.cat([a.flatten(1), b.flatten(1)], 1)
    assert torch.allclose(both.mean, pixels.mean(1))
    assert torch.allclose(both.components, fit_pca([pixels[:, None]]).components)


def test_sign_does_not_depend_on_the_sign_of_the_features():
    x = correlated_map()
    assert torch.allclose(fit_pca([x]).components, fit_pca([-x]).components, atol=1e-9)


def test_colours_span_the_range_and_ignore_outliers():
    x = correlated_map(size=(40, 40))
    plain = fit_pca([x], quantile=0.02).colour(x)
    assert plain.shape == (40, 40, 3)
    assert plain.dtype == np.uint8
    assert plain.min() == 0
    assert plain.max() == 255
    saturated = (plain == 0) | (plain == 255)
    assert 0.03 < saturated.mean() < 0.06  # 2 % at either end, and rounding
    middle = plain.astype(float).std()
    assert middle > 30


def test_one_basis_gives_equal_features_equal_colours():
    x = correlated_map()
    basis = fit_pca([x])
    part = basis.colour(x[:, 2:5, 1:4])
    np.testing.assert_array_equal(part, basis.colour(x)[2:5, 1:4])


def test_single_precision_agrees_with_double():
    x = correlated_map()
    basis = fit_pca([x])
    assert torch.allclose(basis.project(x.float()).double(), basis.project(x), atol=1e-3)


def test_fewer_than_three_channels_and_constant_maps():
    two = fit_pca([correlated_map(2)])
    assert torch.equal(two.components[:, 2], torch.zeros(2, dtype=torch.float64))
    constant = torch.full((4, 3, 3), 2.0)
    assert (fit_pca([constant]).colour(constant) == 128).all()


def test_align_undoes_a_rotation_of_the_feature_space():
    x = correlated_map(6, (20, 20))
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    other = torch.einsum("dc,chw->dhw", rotation, x)
    reference, basis = fit_pca([x]), fit_pca([other])
    turned = align(basis, [other], reference, [x])
    difference = turned.colour(other).astype(int) - reference.colour(x).astype(int)
    assert abs(difference).max() <= 1
    # A sign flip in one axis is what alignment is for: without it the colours differ.
    flipped = align(basis, [-other], reference, [x])
    assert not np.array_equal(flipped.colour(other), turned.colour(other))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="at least one feature map"):
        fit_pca([])
    with pytest.raises(ValueError, match="same number of channels"):
        fit_pca([torch.zeros(3, 2, 2), torch.zeros(4, 2, 2)])
    with pytest.raises(ValueError, match=r"\[C, H, W\]"):
        fit_pca([torch.zeros(1, 3, 2, 2)])
    with pytest.raises(ValueError, match="not finite"):
        fit_pca([torch.full((3, 2, 2), float("nan"))])
    a, b = correlated_map(size=(4, 4)), correlated_map(size=(5, 4))
    with pytest.raises(ValueError, match="same sizes"):
        align(fit_pca([a]), [a], fit_pca([b]), [b])


def test_a_single_pixel_has_colours_too():
    x, y = correlated_map(size=(1, 1)), correlated_map(size=(1, 1), seed=1)
    turned = align(fit_pca([x]), [x], fit_pca([y]), [y])
    assert turned.components.isfinite().all()
    assert turned.colour(x).shape == (1, 1, 3)
