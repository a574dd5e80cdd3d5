"""A share of the labels: of each class, the same for a seed, smaller ones within larger ones; for all three tasks."""

import json
from collections import Counter

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from mae_plugin.datasets.label_share import choose
from mae_plugin.registry import DATASETS

CLASSES = ['a'] * 40 + ['b'] * 10 + ['c'] * 3


def build(scope, dataset, **options):
    with DefaultScope.overwrite_default_scope(scope):
        return DATASETS.build(dict(type='mae_plugin.LabelShare', dataset=dataset, **options))


@pytest.mark.parametrize(('share', 'counts'), [(1., [40, 10, 3]), (.3, [12, 3, 1]), (.1, [4, 1, 1])])
def test_each_class_gives_its_share_and_at_least_one(share, counts):
    chosen = choose(CLASSES, share, 0)
    assert chosen == sorted(set(chosen))
    assert [Counter(CLASSES[i] for i in chosen)[name] for name in 'abc'] == counts


def test_smaller_shares_are_parts_of_larger_ones():
    for seed in range(5):
        sets = [set(choose(CLASSES, share, seed)) for share in (.1, .3, .6, 1.)]
        assert all(small < large for small, large in zip(sets, sets[1:], strict=False))


def test_seeds_draw_others_and_each_image_as_often():
    draws = [tuple(choose(CLASSES, .3, seed)) for seed in range(400)]
    assert draws[7] == tuple(choose(CLASSES, .3, 7)) and len(set(draws)) > 390
    often = Counter(i for draw in draws for i in draw)
    assert min(often[i] for i in range(50)) > 80 and max(often[i] for i in range(50)) < 160  # 120 expected


@pytest.mark.parametrize('share', [0, -.1, 1.1, 30])
def test_a_share_that_is_none(share):
    with pytest.raises(ValueError, match=r'share=.* is not in \(0, 1\]'):
        build('mmengine', dict(type='BaseDataset'), share=share)


def test_classification(tmp_path):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'list.txt').write_text(''.join(f'{i}.jpg {i // 10}\n' for i in range(30)))
    cfg = dict(type='CustomDataset', data_root=str(tmp_path), data_prefix='', ann_file='list.txt', pipeline=[])
    assert len(build('mmpretrain', cfg)) == 30
    dataset = build('mmpretrain', cfg, share=.2, seed=1)
    assert [int(dataset.get_data_info(i)['gt_label']) for i in range(len(dataset))] == [0, 0, 1, 1, 2, 2]


def test_several_labels_and_data_sets_that_hold_others(tmp_path):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'a.json').write_text(json.dumps(dict(metainfo=dict(classes=['x', 'y']), data_list=[
        dict(img_path=f'{i}.jpg', gt_label=[0] if i < 15 else [0, 1]) for i in range(20)])))
    cfg = dict(type='MultiLabelDataset', data_root=str(tmp_path), ann_file='a.json', pipeline=[])
    dataset = build('mmpretrain', cfg, share=.2)
    assert [len(dataset.get_data_info(i)['gt_label']) for i in range(len(dataset))] == [1, 1, 1, 2]
    with pytest.raises(ValueError, match='not a ConcatDataset: put a LabelShare around each'):
        build('mmpretrain', dict(type='ConcatDataset', datasets=[cfg, cfg]), share=.2)


def test_detection_draws_by_the_first_box(tmp_path):
    pytest.importorskip('mmdet')
    images = [dict(id=i, file_name=f'{i}.jpg', width=32, height=32) for i in range(20)]
    boxes = [dict(id=i + 1, image_id=i, bbox=[1, 1, 9, 9], area=81, iscrowd=0, category_id=1 + i // 15)
             for i in range(20)]
    (tmp_path / 'a.json').write_text(json.dumps(dict(
        images=images, annotations=boxes, categories=[dict(id=1, name='x'), dict(id=2, name='y')])))
    dataset = build('mmdet', dict(
        type='CocoDataset', data_root=str(tmp_path), ann_file='a.json', data_prefix=dict(img=''),
        metainfo=dict(classes=('x', 'y')), pipeline=[]),
        share=.2)
    labels = [dataset.get_data_info(i)['instances'][0]['bbox_label'] for i in range(len(dataset))]
    assert labels == [0, 0, 0, 1]


def test_segmentation_and_what_is_read_from_it(tmp_path):
    pytest.importorskip('mmseg')
    for i in range(10):
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(tmp_path / f'{i}.png')
    dataset = build('mmseg', dict(
        type='BaseSegDataset', data_root=str(tmp_path), data_prefix=dict(img_path='', seg_map_path=''),
        img_suffix='.png', metainfo=dict(classes=('x', 'y')), pipeline=[dict(type='LoadImageFromFile')]),
        share=.3, seed=3)
    seen = [int(sample['img'][0, 0, 0]) for sample in dataset]
    assert seen == choose([None] * 10, .3, 3)
