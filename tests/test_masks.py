"""Masks keep exactly their ratio, depend on the sample alone, and hide what they say."""

import copy
from io import BytesIO

import numpy as np
import pytest
import torch
from conftest import tiny_mae_cfg
from mmengine.dataset import Compose
from mmengine.structures import BaseDataElement
from PIL import Image
from test_fast_step import StandIn, graphed, trained

from mae_plugin.datasets import SampleKey, UnlabelledImages, collate_batch
from mae_plugin.datasets.encoded import EncodedCrop, EncodedPicture
from mae_plugin.datasets.picture import JpegPicture, Picture
from mae_plugin.engine.graphed_step import WARM_UP
from mae_plugin.models import BlockMasking, FileMasking, GridMasking, MapMasking, RandomMasking, RegionMasking, masks
from mae_plugin.models.masking import sample_tensors, uniform_noise
from mae_plugin.registry import MODELS

BY_RATIO = [GridMasking, BlockMasking, RegionMasking, MapMasking]
GRIDS = [(4, 4), (12, 12), (14, 14), (7, 10), (31, 4)]


def samples(number, first=0):
    """Of keys and maps."""
    return [BaseDataElement(metainfo=dict(sample_key=(0, 1, i)),
                            mask_map=np.random.default_rng(i).integers(256, size=(8, 8), dtype=np.uint8))
            for i in range(first, first + number)]


def images(number, size=(64, 64)):
    torch.manual_seed(0)
    return torch.nn.functional.interpolate(torch.randn(number, 3, 5, 5), size, mode='bicubic')


def hidden(masking, imgs, grid, data_samples=None):
    """(B, h, w), 1 where hidden."""
    return masking(imgs, grid, data_samples).mask.view(-1, *grid)


@pytest.fixture
def mask_file(tmp_path):
    np.save(tmp_path / 'mask.npy', np.eye(4, dtype=bool))
    return str(tmp_path / 'mask.npy')


@pytest.mark.parametrize('grid', GRIDS, ids=str)
@pytest.mark.parametrize('masking', BY_RATIO)
def test_every_ratio_is_kept_exactly(masking, grid):
    L = grid[0] * grid[1]
    imgs, data_samples = images(3, (8 * grid[0], 8 * grid[1])), samples(3)
    for ratio in (.05, .3, .5, .6, .75, .9, .95):
        if int(L * (1 - ratio)) in (0, L):
            continue
        mask = masking(mask_ratio=ratio)(imgs, grid, data_samples)
        assert (mask.mask.sum(1) == L - int(L * (1 - ratio))).all(), ratio
        assert torch.equal(mask.ids_shuffle.sort(1).values, torch.arange(L).expand(3, -1))


@pytest.mark.parametrize('masking', BY_RATIO)
def test_masks_depend_on_their_sample_alone(masking):
    imgs, data_samples = images(6), samples(6)
    whole = masking()(imgs, (8, 8), data_samples).ids_shuffle
    torch.manual_seed(7)
    parts = [masking()(imgs[i:i + 2], (8, 8), data_samples[i:i + 2]).ids_shuffle for i in (0, 2, 4)]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(whole, masking()(imgs, (8, 8), sample_tensors(data_samples)).ids_shuffle), 'as in a graph'
    assert masking is GridMasking or not torch.equal(whole[:1], whole[1:2])


@pytest.mark.parametrize('masking', [BlockMasking, RegionMasking])
def test_without_keys_masks_are_torchs(masking):
    imgs = images(1).expand(2, -1, -1, -1)
    torch.manual_seed(0)
    first = masking()(imgs, (8, 8)).ids_shuffle
    assert not torch.equal(first, masking()(imgs, (8, 8)).ids_shuffle) and not torch.equal(first[0], first[1])
    torch.manual_seed(0)
    assert torch.equal(first, masking()(imgs, (8, 8)).ids_shuffle)


def test_noise_is_uniform_and_of_its_purpose():
    keys = torch.tensor([(0, 0, i) for i in range(1000)])
    a, b = (uniform_noise(keys, (1000, 100), purpose) for purpose in ('a', 'b'))
    for noise in (a, b):
        assert 0 <= noise.min() and noise.max() < 1
        assert (torch.histc(noise, 10, 0, 1) / 1e5 - .1).abs().max() < .004  # 4 standard deviations
    assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].abs() < .013


# Grid


def test_the_grid_is_the_papers():
    """Fig. 6: one patch of each 2 x 2 at 0.75; at 0.5 a checkerboard."""
    mask = hidden(GridMasking(.75), torch.zeros(1, 3, 1, 1), (14, 14))
    kept = torch.zeros(1, 14, 14)
    kept[:, ::2, ::2] = 1
    assert torch.equal(mask, 1 - kept)
    mask = hidden(GridMasking(.5), torch.zeros(1, 3, 1, 1), (4, 6))
    assert mask[0].tolist() == [[0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0]] * 2


def test_the_grid_of_four_is_bayers_matrix():
    scores = GridMasking().scores(torch.zeros(1, 3, 1, 1), (4, 4))
    assert scores.view(4, 4).tolist() == [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]


@pytest.mark.parametrize('ratio', [.3, .6, .75, .9])
def test_the_grid_is_even(ratio):
    """Every 4 x 4 patches hide as many as any others, within one."""
    mask = hidden(GridMasking(ratio), torch.zeros(1, 3, 1, 1), (16, 12))
    counts = torch.nn.functional.avg_pool2d(mask, 4) * 16
    assert counts.max() - counts.min() <= 1


# Blocks


def equal_neighbours(mask):
    """Share of pairs of adjacent patches of which both are hidden or both visible."""
    return ((mask[:, 1:] == mask[:, :-1]).float().mean() + (mask[..., 1:] == mask[..., :-1]).float().mean()) / 2


@pytest.mark.parametrize('ratio', [.5, .75])
def test_blocks_are_contiguous(ratio):
    imgs, data_samples = torch.zeros(200, 3, 1, 1), samples(200)
    blocks, random = (equal_neighbours(hidden(masking(ratio), imgs, (14, 14), data_samples))
                      for masking in (BlockMasking, RandomMasking))
    assert blocks > .88 and abs(random - (ratio**2 + (1 - ratio)**2)) < .02


def test_a_small_share_is_one_rectangle():
    """Less than the least rectangle: whole rows or columns of the first and a part of one more."""
    mask = hidden(BlockMasking(.05), torch.zeros(100, 3, 1, 1), (14, 14), samples(100))
    for each in mask:
        rows, cols = (each.amax(dim).sum() for dim in (1, 0))
        # Of the box around the ten patches less than a row or a column is visible.
        assert rows * cols - each.sum() < max(rows, cols)


def test_rectangles_are_beits(monkeypatch):
    """Area and aspect of the first one, which is hidden alone at the ratio of its area."""
    monkeypatch.setattr(masks, '_BLOCKS', 1)
    scores = BlockMasking().scores(torch.zeros(500, 3, 1, 1), (14, 14), samples(500)).view(-1, 14, 14)
    covered = scores >= 196
    height, width = covered.any(2).sum(1), covered.any(1).sum(1)
    area = covered.sum((1, 2))
    assert torch.equal(area, height * width), 'no rectangle'
    assert 12 <= area.min() < 20 and 70 < area.max() <= 82 and abs(area.float().mean() - 45.5) < 2.5
    assert .25 <= (height / width).min() < .35 and 2.9 < (height / width).max() <= 4
    assert .3 < (height > width).float().mean() < .6
    assert covered.any(0).all(), 'a place is never covered'


def test_blocks_cover_what_is_hidden():
    """What no rectangle covers is hidden in fewer than 2 of 1000 images, even at 0.9."""
    scores = BlockMasking().scores(torch.zeros(2000, 3, 1, 1), (14, 14), samples(2000))
    covered = (scores >= 196).float().mean(1)
    assert (covered < .9).float().mean() < .002 and covered.mean() > .98


# Regions


def two_colours(number):
    """The left five eighths are of one colour."""
    imgs = torch.full((number, 3, 64, 64), -1.)
    imgs[..., 40:] = torch.tensor([2., .5, 0.])[:, None, None]
    return imgs


def test_regions_do_not_mix_colours():
    regions = RegionMasking().regions(two_colours(1), (8, 8))[0].view(8, 8)
    assert not set(regions[:, :5].flatten().tolist()) & set(regions[:, 5:].flatten().tolist())
    assert len(regions.unique()) >= 8


def test_regions_by_colour_alone_are_the_colours():
    regions = RegionMasking(num_regions=(1, 2), compactness=0).regions(two_colours(1), (8, 8))[0].view(8, 8)
    assert torch.equal(regions, torch.tensor([0] * 5 + [1] * 3).expand(8, -1))


def test_regions_are_of_means():
    """k-means of six numbers by hand: from the centres 5 and 7 to 4.25 and 13.5, then 4.8 and 20."""
    imgs = torch.tensor([0., 5, 6, 6, 7, 20]).expand(1, 3, 1, 6)
    assert RegionMasking((1, 2), 0).regions(imgs, (1, 6)).tolist() == [[0, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize('compactness, owner', [(.6, 1), (.9, 0)])
def test_places_count_in_distances_between_centres(compactness, owner):
    """Centres 4 patches apart; one at the left of the colour of the right is drawn by both."""
    imgs = torch.tensor([1., 0, 0, 0, 1, 1, 1, 1]).view(1, 1, 1, 8)
    regions = RegionMasking((1, 2), compactness).regions(imgs, (1, 8))
    assert regions.tolist() == [[owner, 0, 0, 0, 1, 1, 1, 1]]


def test_all_regions_but_one_are_hidden_or_kept_whole():
    imgs, data_samples = images(50), samples(50)
    masking = RegionMasking(mask_ratio=.6)
    regions = masking.regions(imgs, (8, 8))
    mask = masking(imgs, (8, 8), data_samples).mask
    first = 0
    for each, of in zip(mask, regions, strict=True):
        shares = torch.stack([each[of == region].mean() for region in of.unique()])
        assert ((shares > 0) & (shares < 1)).sum() <= 1
        first += each[0]
    assert 20 < first < 40, 'regions are not hidden in random order'  # 30 of 50, 3 standard deviations


def test_two_regions_are_hidden_one_before_the_other():
    mask = hidden(RegionMasking((1, 2), 0, mask_ratio=.375), two_colours(40), (8, 8), samples(40))
    right = mask[..., 5:].mean((1, 2))
    assert set(right.tolist()) == {0., 1.}, 'the region of 3/8 is hidden whole, or not at all'


def test_regions_refuse_more_than_there_are_patches():
    with pytest.raises(ValueError, match=r'num_regions=\(5, 5\) on 4x4 patches'):
        RegionMasking(5)(images(1), (4, 4))
    with pytest.raises(ValueError, match='compactness=-1'):
        RegionMasking(compactness=-1)


# Maps


def test_the_highest_of_a_map_is_hidden():
    sample = BaseDataElement(mask_map=np.repeat(np.repeat(np.arange(0, 160, 10, dtype=np.uint8).reshape(4, 4), 2, 0),
                                                2, 1))
    mask = hidden(MapMasking(mask_ratio=.25), images(1), (4, 4), [sample])
    assert mask[0].tolist() == [[0] * 4] * 3 + [[1] * 4]


def test_noise_decides_between_equal_patches_of_a_map():
    data_samples = [BaseDataElement(metainfo=dict(sample_key=(0, 0, i)), mask_map=np.zeros((4, 4), np.uint8))
                    for i in range(400)]
    mask = hidden(MapMasking(mask_ratio=.25), torch.zeros(400, 3, 1, 1), (4, 4), data_samples)
    assert (mask.mean(0) - .25).abs().max() < .09  # 4 standard deviations


def test_noise_is_in_units_of_white():
    """Two black and two white patches with noise up to 2: the highest is black with a probability of 7/96."""
    maps = np.kron(np.array([[0, 255]], np.uint8), np.ones((2, 1), np.uint8))
    data_samples = [BaseDataElement(metainfo=dict(sample_key=(0, 0, i)), mask_map=maps) for i in range(1000)]
    mask = hidden(MapMasking(noise=2., mask_ratio=.25), torch.zeros(1000, 3, 1, 1), (2, 2), data_samples)
    assert mask[..., 0].sum(1).mean().item() == pytest.approx(7 / 96, abs=.033)  # 4 standard deviations


def test_a_map_may_be_computed():
    class Bright(MapMasking):
        def map(self, imgs, data_samples=None):
            return imgs.mean(1)
    imgs = two_colours(2)
    assert torch.equal(hidden(Bright(mask_ratio=.375), imgs, (8, 8))[0], torch.tensor([0.] * 5 + [1] * 3).expand(8, -1))


def test_a_map_that_is_missing_or_of_another_shape_is_named():
    with pytest.raises(ValueError, match='no mask_map in the samples.*LoadMaskMap'):
        MapMasking()(images(1), (4, 4), [BaseDataElement(metainfo=dict(sample_key=(0, 0, 0)))])
    with pytest.raises(ValueError, match='noise=-1'):
        MapMasking(noise=-1)

    class Flat(MapMasking):
        def map(self, imgs, data_samples=None):
            return imgs
    with pytest.raises(ValueError, match=r'Flat.map\(\) gives \(2, 3, 64, 64\).*\(2, height, width\)'):
        Flat()(images(2), (4, 4))


@pytest.fixture
def folders(tmp_path):
    """Grey images, and the same as maps, in another folder."""
    for i in range(4):
        pixels = np.random.default_rng(i).integers(256, size=(6, 9), dtype=np.uint8)
        for folder in ('images', 'maps'):
            path = tmp_path / folder / 'a.b' / f'{i}.x.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((90, 60), Image.Resampling.BICUBIC).save(path)
    return tmp_path


PIPELINES = dict(
    train=[dict(type='mae_plugin.KeyedRandomResizedCrop', size=(32, 48)), dict(type='mae_plugin.KeyedRandomFlip')],
    val=[dict(type='mae_plugin.ResizeCenterCrop', size=(32, 40))])


def with_maps(folders, pipeline, **load):
    load = dict(type='mae_plugin.LoadMaskMap', **load)
    return UnlabelledImages(str(folders / 'images'), [load, *pipeline, dict(type='mae_plugin.PackUnlabelled')],
                            channels=1)


@pytest.mark.parametrize('pipeline', PIPELINES)
def test_a_map_goes_the_way_of_its_image(folders, pipeline):
    """One that equals the image is equal after crop, resizing and flip."""
    dataset = with_maps(folders, PIPELINES[pipeline], folder=str(folders / 'maps'))
    batch = collate_batch(dataset.__getitems__([SampleKey(0, epoch, i) for epoch in range(5) for i in range(4)]))
    maps = sample_tensors(batch['data_samples'])['mask_map']
    assert maps.dtype == torch.uint8 and torch.equal(maps, batch['inputs'][:, 0])
    assert len({each.numpy().tobytes() for each in maps}) == (20 if pipeline == 'train' else 4)


def test_a_map_of_less_resolution_is_enlarged(folders):
    for path in (folders / 'maps').rglob('*.png'):
        Image.open(path).resize((45, 30), Image.Resampling.BICUBIC).save(path)
    sample = with_maps(folders, PIPELINES['train'], folder=str(folders / 'maps'))[0]
    difference = sample['data_samples'].mask_map.astype(int) - sample['inputs'][0].numpy()
    assert abs(difference).mean() < 6


def test_maps_may_lie_beside_the_images(folders):
    dataset = with_maps(folders, PIPELINES['val'], suffix='.png')
    assert np.array_equal(dataset[1]['data_samples'].mask_map, dataset[1]['inputs'][0].numpy())
    for path in (folders / 'maps').rglob('*.png'):
        path.rename(path.with_name(f'{path.stem}_map.png'))
    dataset = with_maps(folders, PIPELINES['val'], folder=str(folders / 'maps'), suffix='_map.png')
    assert np.array_equal(dataset[1]['data_samples'].mask_map, dataset[1]['inputs'][0].numpy())


def test_a_missing_map_and_one_of_another_shape_are_named(folders):
    with pytest.raises(FileNotFoundError, match=r'images/a.b/0.x.png has no map .*other/a.b/0.x.png: .*folder='):
        with_maps(folders, [], folder=str(folders / 'other'))[0]
    Image.new('L', (90, 45)).save(folders / 'maps/a.b/0.x.png')
    with pytest.raises(ValueError, match=r'maps/a.b/0.x.png is 45x90, its image .*images/a.b/0.x.png 60x90'):
        with_maps(folders, [], folder=str(folders / 'maps'))[0]


def test_a_map_of_an_image_left_to_the_gpu_goes_its_way(folders):
    """The GPU crops and flips the image, the worker its map."""
    pixels = Image.open(folders / 'maps/a.b/0.x.png')
    file = BytesIO()
    pixels.save(file, 'JPEG', quality=100)
    jpeg = JpegPicture(file.getvalue(), 'name', 1, None, pixels.size, True)
    pipeline = Compose(PIPELINES['train'])
    for epoch in range(4):
        results = pipeline(dict(img=EncodedPicture(jpeg), mask_map=Picture(pixels), sample_key=SampleKey(0, epoch, 0)))
        assert isinstance(results['img'], EncodedCrop)
        assert abs(results['img'].pixels().astype(int) - results['mask_map']).mean() < 2


# Files


@pytest.mark.parametrize('suffix', ['.npy', '.png', '.pgm'])
def test_a_file_says_what_is_hidden(tmp_path, suffix):
    """196 patches of which any number is hidden: no ratio is rounded."""
    for number in (1, 50, 147, 195):
        pixels = np.zeros(196, np.uint8)
        pixels[np.random.default_rng(number).permutation(196)[:number]] = 1 + number % 255
        pixels, file = pixels.reshape(14, 14), str(tmp_path / f'mask{suffix}')
        np.save(file, pixels) if suffix == '.npy' else Image.fromarray(pixels).save(file)
        masking = FileMasking(file)
        assert masking.mask_ratio == pytest.approx(number / 196) and not masking.state_dict()
        assert np.array_equal(hidden(masking, torch.zeros(2, 3, 1, 1), (14, 14))[1].numpy(), pixels != 0)
        FileMasking(file, pred_ratio=number / 196)  # all that is hidden


def test_a_file_of_another_size_is_refused(mask_file):
    with pytest.raises(ValueError, match=r'mask.npy.* is a mask of 4x4 patches, the images have 8x8'):
        FileMasking(mask_file)(images(1), (8, 8))


@pytest.mark.parametrize('values, message', [
    (np.zeros((4, 4)), 'hides 0 of 16 patches'), (np.ones((4, 4)), 'hides 16 of 16 patches'),
    (np.zeros((4, 4, 3)), r'shape \(4, 4, 3\)'), (np.array([[None]]), 'cannot be read'),
    (np.array([['a']]), '<U1')], ids=['none hidden', 'all hidden', 'colours', 'objects', 'text'])
def test_a_file_that_is_no_mask_is_refused(tmp_path, values, message):
    np.save(tmp_path / 'mask.npy', values)
    with pytest.raises(ValueError, match=f'mask.npy.*{message}'):
        FileMasking(str(tmp_path / 'mask.npy'))


def test_a_file_that_is_not_there_or_of_another_kind_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model.masking.file='none.npy' does not exist"):
        FileMasking('none.npy')
    with pytest.raises(ValueError, match=r'mask.jpg.* is none of \*.npy, \*.png'):
        FileMasking('mask.jpg')
    (tmp_path / 'mask.png').write_bytes(b'nothing')
    with pytest.raises(ValueError, match='mask.png.* cannot be read'):
        FileMasking(str(tmp_path / 'mask.png'))


# The fast step


def batch_with_maps(i):
    generator = torch.Generator().manual_seed(i)
    return dict(inputs=torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=generator),
                data_samples=samples(4, 4 * i))


def same_steps(cfg, batches=batch_with_maps):
    """Whether recorded steps have the losses of plain ones; and how often a step was recorded."""
    torch.manual_seed(0)
    model, recorder = MODELS.build(cfg), StandIn()
    model.init_weights()
    plain = copy.deepcopy(model)
    losses, _ = trained(model, 8, graphed(recorder), batches=batches)
    return torch.equal(losses, trained(plain, 8, batches=batches)[0]) and (recorder.recorded, recorder.replayed)


@pytest.mark.parametrize('name', ['GridMasking', 'BlockMasking', 'RegionMasking', 'MapMasking', 'FileMasking'])
def test_the_recorded_step_is_the_plain_step(name, mask_file):
    masking = dict(type=f'mae_plugin.{name}', **(dict(file=mask_file) if name == 'FileMasking' else {}))
    assert same_steps(dict(tiny_mae_cfg(), masking=masking)) == (1, 8 - WARM_UP)


@pytest.mark.gpu
@pytest.mark.parametrize('masking', BY_RATIO)
def test_masks_on_the_gpu_neither_wait_nor_differ(masking):
    imgs, data_samples = images(8), samples(8)
    expected = masking()(imgs, (8, 8), data_samples).ids_shuffle
    found, imgs = masking().cuda(), imgs.cuda()
    tensors = {name: x.cuda() for name, x in sample_tensors(data_samples).items()}
    torch.cuda.set_sync_debug_mode('error')
    try:
        shuffled = [found(imgs, (8, 8), given).ids_shuffle for given in (tensors, data_samples)]
    finally:
        torch.cuda.set_sync_debug_mode('default')
    agreement = [(each.cpu() == expected).float().mean() for each in shuffled]
    assert min(agreement) >= (.9 if masking is RegionMasking else 1), 'means of regions may be rounded otherwise'
