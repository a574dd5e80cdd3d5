"""A batch is written once, and is the batch that collating its samples would give."""

import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from PIL import Image
from tiny.pictures import jpeg, photograph
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import pil_to_tensor, resized_crop

from mae_plugin.datasets import Batch, KeyedRandomResizedCrop, SampleKey, UnlabelledImages, collate_batch


def samples(count, side=4):
    return [dict(inputs=torch.full((3, side, side), number, dtype=torch.uint8),
                 data_samples=BaseDataElement(metainfo=dict(number=number))) for number in range(count)]


def test_it_is_what_default_collate_gives():
    batch = Batch(5)
    for sample in samples(5):
        batch.append(sample)
    collated, expected = collate_batch(batch), default_collate(samples(5))
    assert torch.equal(collated['inputs'], expected['inputs']) and set(collated) == set(expected)
    assert [s.number for s in collated['data_samples']] == [s.number for s in expected['data_samples']]
    assert collated['inputs'] is batch.whole


@pytest.mark.parametrize('odd', [
    lambda s: s.update(inputs=s['inputs'][:, 1:]), lambda s: s.update(inputs=s['inputs'].int()),
    lambda s: s.pop('inputs')])
@pytest.mark.parametrize('place', [0, 2])
def test_samples_that_differ_stay_as_they_are(odd, place):
    mixed = samples(4)
    odd(mixed[place])
    batch = Batch(4)
    for sample in mixed:
        batch.append(dict(sample))
    assert batch.whole is None
    for kept, sample in zip(batch, mixed, strict=True):
        assert kept.keys() == sample.keys()
        assert 'inputs' not in sample or torch.equal(kept['inputs'], sample['inputs'])


def test_lists_of_samples_are_collated_as_ever():
    assert torch.equal(collate_batch(samples(3))['inputs'], default_collate(samples(3))['inputs'])


@pytest.mark.parametrize('workers', [0, 1])
def test_a_worker_writes_into_shared_memory_once(tmp_path, workers, monkeypatch):
    for number in range(6):
        (tmp_path / f'{number}.jpg').write_bytes(jpeg(photograph(60, 50, number)))
    monkeypatch.setattr('mae_plugin.datasets.batch.default_collate', forbid_tensors)
    loader = Runner.build_dataloader(dict(
        dataset=dict(type='mae_plugin.UnlabelledImages', data_root=str(tmp_path), pipeline=[
            dict(type='mae_plugin.KeyedRandomResizedCrop', size=16), dict(type='mae_plugin.PackUnlabelled')]),
        sampler=dict(type='DefaultSampler', shuffle=False), batch_size=3, num_workers=workers,
        collate_fn=dict(type='mae_plugin.collate_batch')))
    for batch in loader:
        assert batch['inputs'].shape == (3, 3, 16, 16) and batch['inputs'].is_shared() == bool(workers)
        for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
            assert torch.equal(image, loader.dataset[sample.sample_key[2]]['inputs'])


def test_in_a_worker_it_lies_in_shared_memory_before_it_is_sent(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(jpeg(photograph(60, 50)))
    dataset = UnlabelledImages(str(tmp_path), [dict(type='mae_plugin.PackUnlabelled')])
    for workers in (0, 1):
        loader = DataLoader(dataset, num_workers=workers, collate_fn=lambda batch: batch.whole.is_shared())
        assert [*loader] == [bool(workers)]


def forbid_tensors(samples):
    assert all('inputs' not in sample for sample in samples)
    return default_collate(samples)


def test_exact_pixels_from_a_file_are_torchvisions_on_pillow(tmp_path):
    for number, sampling in enumerate(('4:4:4', '4:2:0')):
        (tmp_path / f'{number}.jpg').write_bytes(jpeg(photograph(230, 170, number), subsampling=sampling))
    crop = KeyedRandomResizedCrop((48, 40))
    dataset = UnlabelledImages(str(tmp_path), [crop, dict(type='mae_plugin.PackUnlabelled')])
    for key in (SampleKey(1, epoch, index) for epoch in range(6) for index in range(2)):
        left, top, right, bottom = crop.box(230, 170, key)
        expected = resized_crop(Image.open(tmp_path / f'{key.index}.jpg'), top, left, bottom - top, right - left,
                                crop.size, InterpolationMode.BICUBIC)
        assert torch.equal(dataset[key]['inputs'], pil_to_tensor(expected))
