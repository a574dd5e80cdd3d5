"""What is predicted: pixels, principal components, histograms of gradients; and pixels without data."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny.tools import ROOT, run_tool  # noqa: F401

from mae_plugin.models import HOGTarget, PatchMask, PCATarget, PixelReconstructionHead, PixelTarget
from mae_plugin.models.layers import patchify, unpatchify
from mae_plugin.models.mae_head import LOSS_TYPES
from mae_plugin.models.pca_target import dct_basis, fit_pca


def test_patch_is_row_column_channel():
    imgs = torch.arange(2 * 3 * 4 * 6.).reshape(2, 3, 4, 6)
    patches = patchify(imgs, (2, 3))
    assert patches.shape == (2, 4, 18)
    assert torch.equal(patches[1, 2].reshape(2, 3, 3), imgs[1, :, 2:4, 0:3].permute(1, 2, 0))
    assert torch.equal(unpatchify(patches, (2, 3), (2, 2)), imgs)


@pytest.mark.parametrize('channels_first', [False, True])
def test_patchify_takes_the_patches_it_is_asked_for(channels_first):
    imgs = torch.randn(2, 3, 4, 9)
    ids = torch.tensor([[5, 0, 2], [1, 1, 3]])
    found = patchify(imgs, (2, 3), ids, channels_first)
    assert torch.equal(found, patchify(imgs, (2, 3), channels_first=channels_first)[[[0], [1]], ids])


def test_normalised_target_by_hand():
    imgs = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    mask = PatchMask.from_scores(torch.tensor([[0., 1, 2, 3]]), 2, (2, 2))
    target = PixelTarget(2, 3, norm_pix=True)(imgs, mask)
    patch = imgs[0, :, 2:, :2].permute(1, 2, 0).flatten()  # patch 2
    expected = (patch - patch.mean()) / (((patch - patch.mean()) ** 2).sum() / 11 + 1e-6).sqrt()
    torch.testing.assert_close(target[0, 0], expected)
    assert target.shape == (1, 2, 12)


def test_inverse_undoes_both_targets():
    imgs = torch.rand(2, 3, 8, 8)
    mask = PatchMask.from_scores(torch.rand(2, 16), 4, (4, 4))
    raw = PixelTarget(2, 3, norm_pix=False)(imgs, mask)
    for norm_pix in (False, True):
        target = PixelTarget(2, 3, norm_pix)
        torch.testing.assert_close(target.inverse(target(imgs, mask), imgs, mask), raw)


def all_patches(imgs, grid, valid=None):
    """A mask under which every patch of ``imgs`` is predicted, in image order."""
    L = grid[0] * grid[1]
    return PatchMask(torch.arange(L).expand(len(imgs), L), L, grid, num_pred=L, valid=valid)


# Pixels without data


@pytest.mark.parametrize('target', [
    PixelTarget(4, 2, norm_pix=False), PixelTarget(4, 2, norm_pix=True), PCATarget(4, 2, components=5),
    HOGTarget(4, 2)], ids=['raw', 'normalised', 'pca', 'hog'])
@pytest.mark.parametrize('loss_type', LOSS_TYPES)
def test_pixels_without_data_teach_nothing(target, loss_type):
    """Patch 0 has no data and patch 1 some: no gradient, in whole patches or for pixels of their own."""
    torch.manual_seed(0)
    valid = torch.ones(2, 2, 8, 8, dtype=torch.bool)
    valid[0, :, :4, :4] = valid[0, :, :2, 4:] = False
    imgs = torch.randn(2, 2, 8, 8) * valid
    mask = all_patches(imgs, (2, 2), valid)
    pred = torch.randn(2, 4, target.dim, requires_grad=True)
    head = PixelReconstructionHead(target, loss_type)
    loss = head.loss(pred, imgs, mask)['loss']
    loss.backward()
    weights = target.weights(mask).expand_as(pred)
    assert not weights[0, 0].any() and torch.equal((pred.grad != 0), weights > 0)
    assert weights[0, 1].mean() == .5 and (weights[1] == 1).all()
    with torch.no_grad():
        errors = head.errors(pred, target(imgs, mask))
        torch.testing.assert_close(loss, (errors * weights).mean())
        per_image = head.loss_per_image(pred, imgs, mask)
        halves = [head.loss(pred[i:i + 1], imgs[i:i + 1], all_patches(imgs[i:i + 1], (2, 2), valid[i:i + 1]))['loss']
                  for i in range(2)]
    torch.testing.assert_close((per_image * weights.sum(dim=(1, 2))).sum() / weights.numel(), loss.detach())
    torch.testing.assert_close(torch.stack(halves).mean(), loss.detach())  # as two processes have them


@pytest.mark.parametrize('norm_pix', [False, True])
def test_the_statistics_of_a_patch_are_those_of_its_data(norm_pix):
    """Numbers by hand: what stands where there is no data does not matter."""
    imgs = torch.tensor([[[[1., 3.], [0., 8.]]]])
    valid = torch.tensor([[[[True, True], [False, True]]]])
    target = PixelTarget(2, 1, norm_pix)
    found = target(imgs, all_patches(imgs, (1, 1), valid))[0, 0]
    expected = torch.tensor([1., 3., 8.])
    if norm_pix:
        expected = (expected - 4) / (13 + 1e-6) ** .5  # the unbiased variance of the three
    torch.testing.assert_close(found[[0, 1, 3]], expected)
    imgs[0, 0, 1, 0] = 1000.
    torch.testing.assert_close(target(imgs, all_patches(imgs, (1, 1), valid))[0, 0][[0, 1, 3]], expected)


@pytest.mark.parametrize('target', [PixelTarget(4, 2), PCATarget(4, 2, components=5), HOGTarget(4, 2)],
                         ids=['pixels', 'pca', 'hog'])
def test_a_batch_without_any_data_has_no_loss(target):
    imgs = torch.zeros(2, 2, 8, 8)
    pred = torch.randn(2, 4, target.dim, requires_grad=True)
    head, mask = PixelReconstructionHead(target), all_patches(imgs, (2, 2), torch.zeros(2, 2, 8, 8, dtype=torch.bool))
    loss = head.loss(pred, imgs, mask)['loss']
    loss.backward()
    assert loss == 0 and not pred.grad.any() and head.loss_per_image(pred, imgs, mask).isnan().all()


# Principal components


def test_cosines_are_orthonormal_and_begin_with_the_mean():
    basis = dct_basis((4, 6), 3).double()
    torch.testing.assert_close(basis.T @ basis, torch.eye(72, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(basis[:, 0].abs(), torch.full((72, ), 72**-.5, dtype=torch.float64))
    # Then the slowest wave of the longer side, in grey.
    wave = torch.cos(torch.pi / 6 * (torch.arange(6, dtype=torch.float64) + .5))[None, :, None].expand(4, 6, 3)
    torch.testing.assert_close(basis[:, 1].abs(), (wave / wave.norm()).flatten().abs())


def test_cosines_are_close_to_the_components_of_a_smooth_image():
    """Of a Markov image, by their share of its variance: the best 8 of 32 numbers against the first 8 cosines."""
    i = torch.arange(4.)
    line, colour = .95 ** (i[:, None] - i).abs(), torch.tensor([[1., .95], [.95, 1.]])
    covariance = torch.kron(torch.kron(line, line), colour)
    basis = dct_basis((4, 4), 2)[:, :8]
    best = torch.linalg.eigvalsh(covariance)[-8:].sum()
    assert .995 < torch.trace(basis.T @ covariance @ basis) / best < 1 + 1e-5


def test_all_components_give_the_pixels_back_and_some_their_projection():
    torch.manual_seed(0)
    imgs = torch.randn(2, 3, 8, 12)
    mask = PatchMask.from_scores(torch.rand(2, 6), 2, (2, 3))
    pixels = PixelTarget(4, 3, norm_pix=False)(imgs, mask)
    whole, part = PCATarget(4, 3, components=48), PCATarget(4, 3, components=7)
    torch.testing.assert_close(whole.inverse(whole(imgs, mask), imgs, mask), pixels, atol=1e-5, rtol=0)
    coefficients = part(imgs, mask)
    torch.testing.assert_close(coefficients, whole(imgs, mask)[..., :7])
    projected = part.inverse(coefficients, imgs, mask)
    torch.testing.assert_close((projected - pixels).square().sum(),
                               whole(imgs, mask)[..., 7:].square().sum(), rtol=1e-4, atol=0)


def correlated(seed=0):
    """Images whose patches of 2x2x2 are a mixture of independent sources of known size, about a mean."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))[0]
    sizes = 2. ** -torch.arange(8, dtype=torch.float64)
    patches = 5 + (torch.randn(40, 400, 8, generator=generator, dtype=torch.float64) * sizes) @ axes.T
    return axes, unpatchify(patches, (2, 2), (20, 20))


def test_components_of_known_data_are_found():
    axes, imgs = correlated()
    found = fit_pca(imgs.split(7), (2, 2))
    assert found['mean'] == pytest.approx(5, abs=.05)
    assert found['eigenvalues'] == pytest.approx(4. ** -torch.arange(8.).numpy(), rel=.05)
    torch.testing.assert_close((torch.from_numpy(found['basis']).T @ axes).abs(), torch.eye(8, dtype=torch.float64),
                               atol=.05, rtol=0)
    largest = np.abs(found['basis']).argmax(axis=0)
    assert (found['basis'][largest, np.arange(8)] > 0).all(), 'else the sign would be that of the library'
    again = fit_pca(imgs.split(7), (2, 2))
    assert all((again[name] == found[name]).all() for name in found)


def test_patches_with_nan_are_left_out():
    _, imgs = correlated()
    found = fit_pca([imgs[:, :, 2:]], (2, 2))
    imgs[:, 1, 0] = float('nan')  # in all patches of the first row
    again = fit_pca([imgs], (2, 2))
    for name in found:
        assert again[name] == pytest.approx(found[name])
    with pytest.raises(ValueError, match='at least two patches'):
        fit_pca([imgs[:, :, :2]], (2, 2))


@pytest.fixture
def basis_file(tmp_path):
    """``basis_file(**changes)`` writes the components of :func:`correlated`, and returns the path."""
    def write(**changes):
        facts = dict(fit_pca([correlated()[1]], (2, 2)), patch_size=(2, 2), in_chans=2, pixel_mean=[100., 100.],
                     pixel_std=[50., 50.])
        np.savez(tmp_path / 'pca.npz', **dict(facts, **changes))
        return str(tmp_path / 'pca.npz')
    return write


def test_a_target_by_a_file(basis_file):
    file = basis_file()
    imgs = correlated(1)[1][:2].float()
    mask = all_patches(imgs, (20, 20))
    target = PCATarget(2, 2, components=8, basis=file, pixel_mean=[100., 100.], pixel_std=[50., 50.])
    coefficients = target(imgs, mask)
    torch.testing.assert_close(target.inverse(coefficients, imgs, mask), patchify(imgs, (2, 2)), atol=1e-5, rtol=0)
    torch.testing.assert_close(PCATarget(2, 2, components=3, basis=file)(imgs, mask), coefficients[..., :3])
    assert not target.state_dict(), 'checkpoints keep the names of the model'


@pytest.mark.parametrize('changes, kwargs, message', [
    (dict(patch_size=(4, 1)), dict(), r'patch_size=\[4, 1\], the model has \(2, 2\)'),
    (dict(in_chans=3), dict(), 'in_chans=3, the model has 2'),
    (dict(), dict(pixel_mean=[90., 100.]), r'pixel_mean=\[100.0, 100.0\], the model has \[90.0, 100.0\]'),
    (dict(basis=np.eye(7)), dict(), 'damaged'),
    (dict(mean=np.full(8, np.nan)), dict(), 'damaged'),
    (dict(basis=np.array([None])), dict(), 'not a whole file of tools/fit_pca.py'),
    (dict(), dict(components=9), r'components=9 is not in 1 to 8'),
    (dict(), dict(components=0), r'components=0 is not in 1 to 8')])
def test_a_file_that_does_not_fit_is_refused(basis_file, changes, kwargs, message):
    with pytest.raises(ValueError, match=message):
        PCATarget(2, 2, basis=basis_file(**changes), **{'components': 4, **kwargs})


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='fit_pca.py CONFIG --out no.npz'):
        PCATarget(2, 2, components=4, basis='no.npz')
    (tmp_path / 'text.npz').write_text('no')
    with pytest.raises(ValueError, match='not a whole file'):
        PCATarget(2, 2, components=4, basis=str(tmp_path / 'text.npz'))


def test_the_tool_writes_what_the_target_reads(run_tool, tmp_path):  # noqa: F811
    """And says how much variance the first components have: of smooth images, nearly all."""
    for i in range(3):
        ramp = np.linspace(0, 255, 40)[:, None] * [[[1., .5, 1 - i / 2]]] * np.ones((40, 40, 1))
        Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / f'{i}.png')
    options = ['--images', 6, '--cfg-options', f'train_dataloader.dataset.data_root={tmp_path}',
               'train_dataloader.dataset.holdout=0', 'train_dataloader.batch_size=4', 'train_dataloader.num_workers=0',
               'model.backbone.img_size=32']
    files = [tmp_path / 'a.npz', tmp_path / 'b.npz']
    for file in files:
        code, out, err = run_tool('fit_pca', ROOT / 'configs/pretrain/mae_vit-tiny-p16_images.py', '--out', file,
                                  *options)
        assert code == 0, out + err
        assert '768 components of patches of 16x16' in out and 'the first 96 have 100.0 %' in out
    first, second = (np.load(file) for file in files)
    assert all((first[name] == second[name]).all() for name in first.files)
    normalisation = dict(pixel_mean=[123.675, 116.28, 103.53], pixel_std=[58.395, 57.12, 57.375])
    assert PCATarget(16, 3, basis=str(files[0]), **normalisation).dim == 96
    code, _, err = run_tool('fit_pca', ROOT / 'configs/pretrain/mae_vit-tiny-p16_images.py', '--out', tmp_path / 'a')
    assert code == 1 and 'a file named .npz' in err


# Histograms of oriented gradients


def test_edges_vote_for_their_orientation():
    """By hand: of 9 bins of 20 degrees, 0 is for vertical edges, 4 for horizontal and 2 for diagonal ones."""
    y, x = torch.meshgrid(torch.arange(8.), torch.arange(8.), indexing='ij')
    for i, (img, expected) in enumerate([(x, 0), (-x, 0), (y, 4), (-y, 4), (x + y, 2), (x - y, 6)]):
        cell = HOGTarget(4, 1, cell=4).histograms(img[None, None])[0, :, 0, 0]
        inner = HOGTarget(4, 1, cell=2).histograms(img[None, None])[0, :, 1, 1]  # away from the border
        one_hot = torch.zeros(9)
        one_hot[expected] = 1
        torch.testing.assert_close(inner, one_hot, msg=f'image {i}')
        assert cell.argmax() == expected
    assert not HOGTarget(4, 1).histograms(torch.ones(1, 1, 8, 8)).any(), 'without an edge there is no vote'


def test_votes_are_weighted_by_magnitude():
    """By hand, at the corner of a square of height 3: sums of the magnitudes of the pixels of a cell, normalised."""
    img = torch.zeros(8, 8)
    img[:5, 3:] = 3.
    found = HOGTarget(2, 1, cell=2).histograms(img[None, None])[0, :, 2, 1]  # rows 4 and 5, columns 2 and 3
    # (dy, dx) of (4, 2): 0, 3. Of (4, 3): -3, 3, which is 135 degrees. Of (5, 2): 0, 0. Of (5, 3): -3, 0, 90 degrees.
    expected = torch.zeros(9)
    expected[0], expected[6], expected[4] = 3, 3 * 2**.5, 3
    torch.testing.assert_close(found, expected / expected.norm())


def test_brightness_contrast_and_sign_do_not_matter():
    torch.manual_seed(0)
    imgs, mask = torch.randn(2, 3, 16, 16), PatchMask.from_scores(torch.rand(2, 4), 1, (2, 2))
    target = HOGTarget(8, 3)
    found = target(imgs, mask)
    assert found.shape == (2, 3, target.dim) and target.dim == 2 * 2 * 3 * 9
    for other in (3 * imgs + 1, -imgs):
        torch.testing.assert_close(target(other, mask), found, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.unflatten(2, (12, 9)).norm(dim=3), torch.ones(2, 3, 12))


def test_histograms_are_those_of_scikit_image():
    hog = pytest.importorskip('skimage.feature').hog
    img = np.random.default_rng(0).normal(size=(24, 32))
    expected = hog(img, orientations=9, pixels_per_cell=(4, 8), cells_per_block=(1, 1), block_norm='L2',
                   feature_vector=False)[:, :, 0, 0]
    found = HOGTarget((12, 16), 1, cell=(4, 8)).histograms(torch.from_numpy(img)[None, None])[0]
    np.testing.assert_allclose(found.permute(1, 2, 0), expected, atol=1e-6)


def test_a_patch_has_the_histograms_of_its_cells():
    torch.manual_seed(0)
    imgs, mask = torch.randn(1, 2, 8, 12), PatchMask.from_scores(torch.rand(1, 6), 2, (2, 3))
    target = HOGTarget(4, 2)
    whole = target.histograms(imgs).unflatten(1, (2, 9))[0]
    for found, i in zip(target(imgs, mask)[0], mask.ids_pred[0].tolist(), strict=True):
        y, x = 2 * (i // 3), 2 * (i % 3)
        assert torch.equal(found.reshape(2, 2, 2, 9), whole[:, :, y:y + 2, x:x + 2].permute(2, 3, 0, 1))


def test_there_is_no_edge_to_pixels_without_data():
    left = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    left[..., 4:] = False
    target = HOGTarget(4, 1)
    for valid in (left, left.mT):
        imgs = torch.full((1, 1, 8, 8), 5.) * valid
        assert not target.histograms(imgs, valid).any() and target.histograms(imgs).any()


def test_the_loss_of_an_image_with_little_data_is_that_of_its_data():
    """A single pixel: weights add up to less than one. In a batch it counts as much as it has data."""
    mask = PatchMask(torch.tensor([[0]]), 0, (1, 1), valid=torch.zeros(1, 1, 8, 8, dtype=torch.bool))
    mask.valid[0, 0, 3, 3] = True
    head = PixelReconstructionHead(PCATarget(8, 1, components=4))
    pred, imgs = torch.full((1, 1, 4), 2.), torch.zeros(1, 1, 8, 8)
    assert head.loss_per_image(pred, imgs, mask) == 4 and head.loss(pred, imgs, mask)['loss'] == 4 / 64


@pytest.mark.parametrize('kind', [PixelTarget, PCATarget, HOGTarget])
def test_targets_are_float32_under_autocast(kind):
    target = kind(8)
    imgs, mask = torch.randn(2, 3, 16, 16), PatchMask(torch.arange(4).expand(2, 4), 1, (2, 2))
    with torch.autocast('cpu', torch.bfloat16):
        half = target(imgs, mask)
    torch.testing.assert_close(half, target(imgs, mask), rtol=0, atol=0)


@pytest.mark.parametrize('kwargs', [dict(cell=3), dict(cell=(4, 0)), dict(bins=0), dict(cell=16)])
def test_cells_fill_a_patch(kwargs):
    with pytest.raises(ValueError, match='set cell to a size that divides the patch, 8x8'):
        HOGTarget(8, 3, **kwargs)
