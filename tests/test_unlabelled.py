"""A data set of nothing but images: what a sample is, how the images are split, what is refused."""

import copy
import shutil
import zipfile

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from PIL import Image

from mae_plugin.datasets.image_io import ImageReadError
from mae_plugin.datasets.sample_key import SampleKey
from mae_plugin.datasets.unlabelled import UnlabelledImages

CROP = [dict(type='mae_plugin.KeyedRandomResizedCrop', size=(16, 24)), dict(type='mae_plugin.KeyedRandomFlip'),
        dict(type='mae_plugin.PackUnlabelled')]
KEEP = [dict(type='mae_plugin.PackUnlabelled')]


@pytest.fixture
def folder(tmp_path):
    """60 pictures of 40 x 30 pixels in three folders; the red of each is its number."""
    random = np.random.default_rng(0)
    for number in range(60):
        pixels = random.integers(256, size=(30, 40, 3), dtype=np.uint8)
        pixels[..., 0] = number
        path = tmp_path / 'root' / 'abc'[number % 3] / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / 'root'


def names(dataset):
    return [dataset.path(index).removeprefix(dataset.source.root) for index in range(len(dataset))]


def equal(first, second):
    return (torch.equal(first['inputs'], second['inputs'])
            and first['data_samples'].metainfo == second['data_samples'].metainfo)


def test_a_sample(folder):
    dataset = UnlabelledImages(folder, CROP)
    assert len(dataset) == 60 and names(dataset) == sorted(names(dataset))
    sample = dataset[SampleKey(2, 3, 4)]
    assert sample['inputs'].shape == (3, 16, 24) and sample['inputs'].dtype == torch.uint8
    assert sample['data_samples'].metainfo == dict(
        sample_key=(2, 3, 4), img_path=f'{folder}/a/21.png', ori_shape=(30, 40))
    assert (sample['inputs'][0] == 21).all()


def test_a_sample_is_a_function_of_its_key(folder):
    dataset, again = UnlabelledImages(folder, CROP), UnlabelledImages(folder, CROP)
    key = SampleKey(2, 3, 4)
    first = dataset[key]
    again[7], again[SampleKey(9, 9, 9)]
    assert equal(first, again[key]) and equal(dataset[4], dataset[SampleKey(0, 0, 4)])
    for other in (key._replace(epoch=4), key._replace(seed=3)):
        assert not torch.equal(first['inputs'], dataset[other]['inputs'])


def test_channels(folder):
    colour, grey = UnlabelledImages(folder, KEEP)[5], UnlabelledImages(folder, KEEP, channels=1)[5]
    assert grey['inputs'].shape == (1, 30, 40)
    luma = (colour['inputs'] * torch.tensor([.299, .587, .114])[:, None, None]).sum(0)
    assert abs(grey['inputs'][0] - luma).max() <= 1


def test_indices_out_of_range(folder):
    dataset = UnlabelledImages(folder, KEEP)
    assert dataset[-1]['data_samples'].img_path == dataset.path(59)
    with pytest.raises(IndexError):
        dataset[60]


def test_split_is_disjoint_complete_and_of_the_right_size(folder):
    train, val = (UnlabelledImages(folder, KEEP, holdout=.3, split=split) for split in ('train', 'val'))
    assert sorted(names(train) + names(val)) == names(UnlabelledImages(folder, KEEP))
    assert names(val) == sorted(names(val)) and 9 <= len(val) <= 27  # 18 +- 2.5 sigma
    wider = names(UnlabelledImages(folder, KEEP, holdout=.5, split='val'))
    assert set(names(val)) < set(wider)


def test_split_stays_when_images_come_and_go(folder):
    before = names(UnlabelledImages(folder, KEEP, holdout=.3, split='val'))
    for number in range(20):
        shutil.copy(folder / 'a/0.png', folder / f'new{number}.png')
    (folder / 'b/1.png').unlink()
    after = names(UnlabelledImages(folder, KEEP, holdout=.3, split='val'))
    assert [name for name in after if 'new' not in name] == [name for name in before if name != '/b/1.png']


def test_split_is_the_same_in_an_archive_and_in_another_place(folder, tmp_path):
    expected = names(UnlabelledImages(folder, KEEP, holdout=.3, split='val'))
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
        for path in folder.rglob('*.png'):
            archive.write(path, path.relative_to(folder))
    assert [name.removeprefix('!') for name in names(
        UnlabelledImages(tmp_path / 'x.zip', KEEP, holdout=.3, split='val'))] == expected
    assert names(UnlabelledImages(folder.rename(tmp_path / 'moved'), KEEP, holdout=.3, split='val')) == expected


def test_no_split_is_empty(folder):
    for holdout in (1e-12, 1 - 1e-12):
        sizes = [len(UnlabelledImages(folder, KEEP, holdout=holdout, split=split)) for split in ('train', 'val')]
        assert sorted(sizes) == [1, 59]
    for path in sorted(folder.rglob('*.png'))[1:]:
        path.unlink()
    with pytest.raises(ValueError, match='cannot split the one image'):
        UnlabelledImages(folder, KEEP, holdout=.5)


def test_max_images_come_from_all_over_the_split(folder):
    few = names(UnlabelledImages(folder, KEEP, max_images=9))
    assert len(few) == 9 and few == sorted(few) and {name[1] for name in few} == set('abc')
    assert set(few) < set(names(UnlabelledImages(folder, KEEP, max_images=20)))
    assert len(UnlabelledImages(folder, KEEP, max_images=1000)) == 60
    val = names(UnlabelledImages(folder, KEEP, holdout=.3, split='val'))
    assert set(names(UnlabelledImages(folder, KEEP, holdout=.3, split='val', max_images=5))) < set(val)


def test_a_damaged_image_is_named_and_replaced_by_another_that_the_key_names(folder):
    (folder / 'a/0.png').write_bytes(b'no image')
    dataset = UnlabelledImages(folder, KEEP)
    (folder / 'a/12.png').unlink()
    stand_ins = []
    for index, path, reason in ((0, 'a/0.png', 'not an image'), (1, 'a/12.png', 'No such file')):
        for epoch in range(9):
            key = SampleKey(0, epoch, index)
            sample = dataset[key]
            (named, text), *_ = sample['data_samples'].bad_images
            assert named == f'{folder}/{path}' and reason in text
            assert sample['data_samples'].sample_key == key
            assert sample['data_samples'].img_path != named and equal(sample, dataset[key])
            stand_ins.append(sample['data_samples'].img_path)
    assert len(set(stand_ins)) > 9
    assert 'bad_images' not in dataset[2]['data_samples']


def test_when_nothing_can_be_read_the_data_root_is_gone(folder):
    dataset = UnlabelledImages(str(folder), KEEP)
    folder.rename(folder.with_name('moved'))
    with pytest.raises(ImageReadError, match=f"50 images in a row of data_root='{folder}' .* vanished.*No such file"):
        dataset[3]


def test_a_folder_of_files_that_are_no_images_is_refused(tmp_path):
    for number in range(20):
        (tmp_path / f'{number:02}.jpg').write_text('<html>not found</html>')
    message = r'has 20 files .* none of the first 16 can be read: .*00\.jpg: not an image'
    with pytest.raises(ValueError, match=message) as caught:
        UnlabelledImages(tmp_path, KEEP)
    assert '\n' not in str(caught.value)
    Image.new('RGB', (4, 4)).save(tmp_path / '15.jpg')
    assert len(UnlabelledImages(tmp_path, KEEP)) == 20


@pytest.mark.parametrize('kwargs, message', [
    (dict(channels=4), r'channels=4 is not one of \[1, 3\]'), (dict(holdout=1.), 'holdout=1.0 is not in'),
    (dict(holdout=-.1), 'holdout=-0.1'), (dict(split='test'), "split='test' is neither 'train' nor 'val'"),
    (dict(split='val'), "split='val' needs a holdout"), (dict(max_images=0), 'max_images=0'),
    (dict(mode='best'), "mode='best' is not one of 'exact', 'fast'"),
    (dict(extensions=['bmp']), r'60 files \(60 .png\); images end in .bmp')])
def test_bad_arguments(folder, kwargs, message):
    with pytest.raises(ValueError, match=message):
        UnlabelledImages(folder, KEEP, **kwargs)


@pytest.mark.parametrize('source', ['folder', 'zip'])
def test_loaders_give_the_same_samples_whatever_their_workers(folder, tmp_path, source):
    root = folder
    if source == 'zip':
        root = shutil.make_archive(str(tmp_path / 'images'), 'zip', folder)

    def load(workers):
        loader = Runner.build_dataloader(dict(
            dataset=dict(type='mae_plugin.UnlabelledImages', data_root=str(root), pipeline=copy.deepcopy(CROP)),
            sampler=dict(type='mae_plugin.KeyedSampler'), batch_size=7, num_workers=workers), seed=3)
        batches = iter(loader)
        return [next(batches) for _ in range(10)]

    alone, helped = load(0), load(2)
    for first, second in zip(alone, helped, strict=True):
        assert torch.equal(torch.stack(first['inputs']), torch.stack(second['inputs']))
        assert [s.sample_key for s in first['data_samples']] == [s.sample_key for s in second['data_samples']]
    assert {s.sample_key[1] for batch in alone for s in batch['data_samples']} == {0, 1}


def test_validation_loader_has_fixed_samples(folder):
    cfg = dict(
        dataset=dict(type='mae_plugin.UnlabelledImages', data_root=str(folder), holdout=.3, split='val', pipeline=[
            dict(type='mae_plugin.ResizeCenterCrop', size=16), dict(type='mae_plugin.PackUnlabelled')]),
        sampler=dict(type='DefaultSampler', shuffle=False), batch_size=4, num_workers=0)
    samples = [sample for batch in Runner.build_dataloader(cfg, seed=1) for sample in batch['data_samples']]
    assert [sample.sample_key for sample in samples] == [(0, 0, index) for index in range(len(samples))]


def test_metainfo_tells_a_resumed_run_that_images_were_added(folder):
    assert UnlabelledImages(folder, KEEP).metainfo == dict(num_images=60)


def test_an_image_of_a_mixture_is_replaced_by_one_of_its_source(folder):
    (folder / 'a/0.png').write_bytes(b'no image')
    dataset = UnlabelledImages([f'{folder}/a', f'{folder}/b', f'{folder}/c'], KEEP, weights=[1, 1, 0])
    for epoch in range(20):
        assert dataset[SampleKey(0, epoch, 0)]['data_samples'].img_path.startswith(f'{folder}/a/')
