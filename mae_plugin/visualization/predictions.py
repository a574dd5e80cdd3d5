"""What the models of finished stages predict on their validation images."""

import io
import warnings
from collections.abc import Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from PIL import Image
from torchvision.ops import box_iou

from mae_plugin.datasets.prepare import prepare_data
from mae_plugin.visualization.results import StageRun
from mae_plugin.weights.safe_load import load_file

_BATCH = 16


@dataclass
class Objects:
    """Objects of one image: boxes (N, 4) as x1, y1, x2, y2, class numbers (N,), masks (N, H, W), scores (N,)."""

    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None
    scores: np.ndarray | None = None


class Predictor:
    """The model of a finished stage, with its validation images.

    Args:
        run: The stage.
        count: How many images: spread evenly over the validation set, so nobody chose them.

    Raises:
        RuntimeError: The checkpoint holds other weights than the model of the config.
    """

    def __init__(self, run: StageRun, count: int):
        self.scope = run.cfg.get('default_scope', 'mmengine')
        prepare_data(run.cfg)
        with DefaultScope.overwrite_default_scope(self.scope), _silence():
            dataset = DATASETS.build(run.cfg.val_dataloader.dataset)
            # Where the model has no preprocessor of its own, the runner gives it the config's.
            self.model = MODELS.build({'data_preprocessor': run.cfg.get('data_preprocessor'), **run.cfg.model}).eval()
        self.model.load_state_dict(load_file(run.checkpoint)['state_dict'])
        self.classes = dataset.metainfo.get('classes', ())
        self.samples = [dataset[i * len(dataset) // count] for i in range(min(count, len(dataset)))]

    def predict(self) -> list[Any]:
        """The library's data samples, with what is true and what is predicted, one for each image."""
        with torch.no_grad(), DefaultScope.overwrite_default_scope(self.scope):
            return [predicted for i in range(0, len(self.samples), _BATCH)
                    for predicted in self.model.test_step(pseudo_collate(self.samples[i:i + _BATCH]))]


@contextmanager
def _silence():
    """Keep back what the libraries print and warn of while they are imported and read annotations."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def read_images(samples: Sequence[Any]) -> list[np.ndarray]:
    """The pictures that data samples name, uint8 (H, W, 3)."""
    return [np.asarray(Image.open(sample.img_path).convert('RGB')) for sample in samples]


def detected(sample: Any, count: int) -> Objects:
    """The ``count`` objects that mmdet is surest of, in pixels of the picture."""
    found = sample.pred_instances
    found = found[found.scores.argsort(descending=True)[:count]].cpu()
    masks = found.masks.numpy().astype(bool) if 'masks' in found else None
    return Objects(found.bboxes.numpy(), found.labels.numpy(), masks, found.scores.numpy())


def annotated(sample: Any) -> Objects:
    """What is there to be found, in pixels of the picture."""
    true = sample.gt_instances
    boxes = getattr(true.bboxes, 'tensor', true.bboxes)
    masks = true.masks.to_ndarray().astype(bool) if 'masks' in true else None
    return Objects(boxes.cpu().numpy(), true.labels.cpu().numpy(), masks)


def class_score(sample: Any) -> float:
    """Of a classified image: the probability of the true class."""
    return float(sample.pred_score[int(sample.gt_label)])


def box_score(sample: Any) -> float:
    """Of an image with boxes: how well each true box is met, on average over them, from 0 to 1.

    That is its greatest overlap (IoU) with a box of the same class, of as many as there are objects, the surest ones.
    """
    truth = annotated(sample)
    found = detected(sample, len(truth.labels))
    if not len(truth.labels):
        return 1.
    overlaps = box_iou(torch.from_numpy(truth.boxes), torch.from_numpy(found.boxes)).numpy()
    same = truth.labels[:, None] == found.labels
    return float(np.max(overlaps * same, axis=1, initial=0.).mean())


def map_score(sample: Any) -> float:
    """Of a segmented image: IoU, averaged over the classes that are there or were found, but for class 0 alone.

    Pixels of class 255, which mmseg ignores, count neither way.
    """
    truth, found = (np.asarray(each.data[0].cpu()) for each in (sample.gt_sem_seg, sample.pred_sem_seg))
    truth, found = truth[truth != 255], found[truth != 255]
    classes = {*np.unique(truth), *np.unique(found)} - {0}
    ious = [((truth == label) & (found == label)).sum() / ((truth == label) | (found == label)).sum()
            for label in classes]
    return float(np.mean(ious)) if ious else 1.
