"""LVIS's average precisions, through mmdet's metric and the package ``lvis``, with results known by hand."""

import json

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from tiny.generated import make_lvis

from mae_plugin.registry import METRICS


@pytest.fixture
def truth(tmp_path):
    """Two annotation files' worth of images: (path, the objects of each image)."""
    pytest.importorskip('mmdet')
    pytest.importorskip('lvis')
    make_lvis(tmp_path, count=6)
    path = tmp_path / 'annotations/lvis_v1_val.json'
    content = json.loads(path.read_text())
    objects = {image['id']: [] for image in content['images']}
    for annotation in content['annotations']:
        objects[annotation['image_id']].append(annotation)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield path, objects


def prediction(image, found):
    """A sample of ``found``: (x, y, w, h), category id and score of each."""
    masks = torch.zeros(len(found), 90, 120, dtype=torch.bool)
    for mask, ((x, y, w, h), _, _) in zip(masks, found, strict=True):
        mask[y:y + h, x:x + w] = True
    boxes = torch.tensor([[x, y, x + w, y + h] for (x, y, w, h), _, _ in found], dtype=torch.float32).reshape(-1, 4)
    return dict(img_id=image, ori_shape=(90, 120), pred_instances=dict(
        bboxes=boxes, labels=torch.tensor([category - 1 for _, category, _ in found], dtype=torch.long),
        scores=torch.tensor([score for *_, score in found]), masks=masks))


def evaluate(path, predictions):
    metric = METRICS.build(dict(
        type='mae_plugin.LVISInstanceMetric', ann_file=str(path), metric=['bbox', 'segm']))
    metric.process({}, [prediction(image, found) for image, found in predictions.items()])
    return metric.evaluate(len(predictions))


def perfect(objects):
    return {image: [(entry['bbox'], entry['category_id'], .9) for entry in entries]
            for image, entries in objects.items()}


def test_perfect_predictions(truth):
    path, objects = truth
    found = evaluate(path, perfect(objects))
    for kind in ('bbox', 'segm'):
        for name in ('AP', 'AP50', 'APr', 'APc', 'APf'):
            assert found[f'lvis/{kind}_{name}'] == 1
    assert not hasattr(np, 'float')  # NumPy stays as it is


def test_only_labelled_classes_count(truth):
    """A class of which an image says nothing is no error there; one it says to be absent is."""
    path, objects = truth
    image, absent = next((image, category) for image, entries in objects.items() for category in (1, 2)
                         if category not in {entry['category_id'] for entry in entries})
    predictions = perfect(objects)
    predictions[image].append(([0, 0, 5, 5], absent, .99))
    assert evaluate(path, predictions)['lvis/bbox_AP'] == 1
    content = json.loads(path.read_text())
    content['images'][image - 1]['neg_category_ids'] = [absent]
    path.write_text(json.dumps(content))
    found = evaluate(path, predictions)
    assert found['lvis/bbox_AP'] < 1 and found[f'lvis/bbox_AP{"rc"[absent - 1]}'] < 1


def test_false_positives_of_a_complete_class(truth):
    """Class 1 is rare and never incomplete. A surer error halves its precision; the other classes keep 1."""
    path, objects = truth
    content = json.loads(path.read_text())
    content['annotations'] = [entry for i, entry in enumerate(content['annotations'])
                              if entry['category_id'] != 1 or not any(
                                  before['category_id'] == 1 for before in content['annotations'][:i])]
    path.write_text(json.dumps(content))
    image = next(entry['image_id'] for entry in content['annotations'] if entry['category_id'] == 1)
    objects = {number: [entry for entry in content['annotations'] if entry['image_id'] == number]
               for number in objects}
    predictions = perfect(objects)
    predictions[image].append(([0, 0, 5, 5], 1, .99))
    found = evaluate(path, predictions)
    assert found['lvis/bbox_APr'] == .5 and found['lvis/bbox_APc'] == found['lvis/bbox_APf'] == 1
    assert found['lvis/bbox_AP'] == pytest.approx(2.5 / 3, abs=6e-4)
    for listed, value in (([1], 1.), ([], .5)):  # not exhaustively labelled: the error no longer counts
        for entry in content['images']:
            entry['not_exhaustive_category_ids'] = listed
        path.write_text(json.dumps(content))
        assert evaluate(path, predictions)['lvis/bbox_APr'] == value


def test_nothing_found(truth):
    path, objects = truth
    assert evaluate(path, {image: [] for image in objects}) == {}
