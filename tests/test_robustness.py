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


def shown(synset, **values):
    return dict(img_path=f'/data/{synset}/0.jpg', pred_score=scores(**values))


def test_only_the_classes_of_the_set_compete():
    """Classes 1 and 2 are in ImageNet-R, 0 and 3 are not; of the five images two are right, one is second."""
    names = ImageNetInfo().label_names()
    metric = SynsetAccuracy('imagenet_r', topk=(1, 2))
    metric.process({}, [
        shown(names[1], c0=.9, c1=.1), shown(names[2], c1=.5, c2=.2), shown(names[2], c1=.5, c4=.3, c2=.2),
        shown(names[4], c4=.2), shown(names[4], c1=.5, c2=.4, c4=.2)])
    assert metric.compute_metrics(metric.results) == dict(top1=40., top2=60.)
    all_classes = SynsetAccuracy('imagenet', topk=(1, ))
    all_classes.process({}, [shown(names[1], c0=.9, c1=.1), shown(names[0], c0=.9, c1=.1)])
    assert all_classes.compute_metrics(all_classes.results) == dict(top1=50.)


@pytest.mark.parametrize('classes, count', [('imagenet', 1000), ('imagenet_a', 200), ('imagenet_r', 200)])
def test_sets_have_their_classes(classes, count):
    """A score of each class alone is right for the folder of its name."""
    metric, names = SynsetAccuracy(classes), ImageNetInfo().label_names()
    columns = metric._columns.tolist()
    assert len(set(columns)) == count
    metric.process({}, [shown(names[column], **{f'c{column}': 1.}) for column in columns])
    assert metric.results == [0] * count


def test_a_model_that_knows_nothing_is_never_right():
    names = ImageNetInfo().label_names()
    accuracy, corruption = SynsetAccuracy('imagenet_r', topk=(1, )), MeanCorruptionError()
    for value in (float('nan'), .5):
        accuracy.process({}, [dict(img_path=f'/data/{names[1]}/0.jpg', pred_score=torch.full((1000, ), value))])
    unknown = torch.full((1000, ), float('nan'))
    corruption.process({}, [dict(img_path=f'/data/fog/1/{names[0]}/0.jpg', pred_score=unknown)])
    assert accuracy.compute_metrics(accuracy.results) == dict(top1=0.)
    assert corruption.results[0] % 2 == 1


def test_folders_that_are_not_the_set_are_refused():
    with pytest.raises(ValueError, match='/data/n01440764/0.jpg lies in no folder of a class of imagenet_r'):
        SynsetAccuracy('imagenet_r').process({}, [shown('n01440764', c0=1.)])
    with pytest.raises(ValueError, match="classes='imagenet-a' is not one of"):
        SynsetAccuracy('imagenet-a')


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
