"""Metrics of ImageNet-A, -R, -Sketch and -C, by hand."""

import numpy as np
import pytest
import torch
from mmengine import Config
from timm.data import ImageNetInfo
from tiny.tools import ROOT

from mae_plugin.engine.robustness import ALEXNET_ERRORS, MeanCorruptionError, SynsetAccuracy, imagenet_classes
from mae_plugin.registry import METRICS


def scores(**values):
    """Scores of the 1,000 classes, by the class's number as ``c7=0.5``; the others 0."""
    score = torch.zeros(1000)
    for name, value in values.items():
        score[int(name[1:])] = value
    return score


def test_synsets_are_timms():
    """Two that everybody knows: the tench is the first class, the toilet tissue the last."""
    classes = imagenet_classes()
    assert len(classes) == 1000 and classes['n01440764'] == 0 and classes['n15075141'] == 999


def test_only_the_classes_of_the_data_set_compete():
    names = ImageNetInfo().label_names()
    metric = SynsetAccuracy(num_classes=3, topk=(1, 2))
    metric.dataset_meta = dict(classes=(names[6], names[11], names[13]))
    metric.process({}, [
        dict(pred_score=scores(c7=.9, c11=.1), gt_label=torch.tensor([1])),  # right: class 7 is not in the set
        dict(pred_score=scores(c6=.5, c13=.2), gt_label=torch.tensor([2])),  # second
        dict(pred_score=scores(c6=.5, c13=.2, c11=.1), gt_label=torch.tensor([1])),  # third
        dict(pred_score=scores(c13=.2), gt_label=torch.tensor([2])),
    ])
    assert metric.compute_metrics(metric.results) == dict(top1=50., top2=75.)


@pytest.mark.parametrize('classes, message', [
    (('n01440764', ), '1 folders of classes instead of 2: let'), (('tench', 'n01440764'), r'1 of them \(tench'),
    (('n01440764', 'n00000001'), r'n00000001 \.\.\.')])
def test_folders_that_are_not_the_set_are_refused(classes, message):
    metric = SynsetAccuracy(num_classes=2)
    metric.dataset_meta = dict(classes=classes)
    with pytest.raises(ValueError, match=message):
        metric.process({}, [dict(pred_score=scores(c0=1.), gt_label=torch.tensor([0]))])


def corrupted(corruption, severity, synset='n01440764', guess=0):
    return dict(img_path=f'/data/noise/{corruption}/{severity}/{synset}/ILSVRC2012_val_00000293.JPEG',
                pred_score=scores(**{f'c{guess}': 1.}))


def test_mean_corruption_error_by_hand():
    """All wrong for noise, one of four at severity 1 for fog, all else right; of a fifth corruption nothing counts."""
    metric = MeanCorruptionError()
    for corruption in ALEXNET_ERRORS:
        for severity in range(1, 6):
            metric.process({}, [corrupted(corruption, severity, guess=int(corruption == 'gaussian_noise'))])
    metric.process({}, [corrupted('fog', 1, guess=1), corrupted('fog', 1), corrupted('fog', 1)])
    metric.process({}, [corrupted('speckle_noise', 1, guess=5)])
    metric.process({}, [corrupted('snow', 2, 'n15075141', guess=999)])
    found = metric.compute_metrics(metric.results)
    fog = 100 * (.25 / 5) / .819324
    assert found['gaussian_noise'] == pytest.approx(100 / .886428) and found['fog'] == pytest.approx(fog)
    assert found['snow'] == 0 and found['mCE'] == pytest.approx((100 / .886428 + fog) / 15)
    assert len(metric.results) == 75 + 5  # one a sample, or ranks could not be put together


@pytest.mark.parametrize('corruption, severities', [  # of hendrycks/robustness, issue 10
    ('gaussian_noise', [.69528, .82542, .93554, .98138, .99452]),
    ('motion_blur', [.5843, .70048, .82108, .8975, .92638]),
    ('brightness', [.4514, .48502, .54048, .62166, .7244]), ('pixelate', [.52218, .5462, .73728, .87092, .91262])])
def test_alexnets_errors_are_means_over_the_severities(corruption, severities):
    assert np.mean(severities) == pytest.approx(ALEXNET_ERRORS[corruption], abs=1e-7)


def test_incomplete_or_other_folders_are_refused():
    metric = MeanCorruptionError()
    metric.process({}, [corrupted('fog', 1)])
    with pytest.raises(ValueError, match=r'no images in 74 of the 75 folders of ImageNet-C \(gaussian_noise/1, '):
        metric.compute_metrics(metric.results)
    for path in ('fog/n01440764/1.JPEG', 'fog/6/n01440764/1.JPEG', 'fog/1/n00000001/1.JPEG', '1.JPEG'):
        with pytest.raises(ValueError, match='<corruption>/<severity>/<synset>/<file>'):
            metric.process({}, [dict(corrupted('fog', 1), img_path=path)])


@pytest.mark.parametrize('name, metric', [('a', SynsetAccuracy), ('r', SynsetAccuracy), ('sketch', SynsetAccuracy),
                                          ('c', MeanCorruptionError)])
def test_configs_train_on_imagenet_and_test_elsewhere(name, metric):
    cfg, base = (Config.fromfile(ROOT / f'configs/classification/vit-base_in1k{suffix}.py')
                 for suffix in (f'-{name}', ''))
    assert cfg.test_dataloader.dataset.data_root == f'data/imagenet-{name}'
    assert isinstance(METRICS.build(cfg.test_evaluator), metric)
    assert cfg.val_dataloader == base.val_dataloader and cfg.model == base.model
