"""Parts made of mmdet's classes where its own differ from detectron2's, with which ViTDet's numbers were made."""

import types

import numpy as np
import torch
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import RandomCrop
from mmdet.evaluation import LVISMetric
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads import FCNMaskHead, StandardRoIHead
from mmdet.models.task_modules.assigners import AssignResult, MaxIoUAssigner
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.models.utils import empty_instances, unpack_gt_instances
from mmdet.structures.bbox import bbox2roi, scale_boxes
from mmengine.model import ModuleList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mae_plugin.registry import METRICS, MODELS, TASK_UTILS, TRANSFORMS


@TRANSFORMS.register_module()
class FixedSizeCrop(RandomCrop):
    """Crop of large-scale jitter in which one random number moves the window in x and in y, as in detectron2.

    A smaller image stays as it is; the data preprocessor pads it. mmdet's ``RandomCrop`` draws two numbers. An image
    that is left without an object stays in the batch.

    Args:
        crop_size: (width, height) in pixels.
        recompute_bbox: Take the boxes from the cropped masks instead of cropping the boxes.
    """

    def __init__(self, crop_size: tuple[int, int], recompute_bbox: bool = False) -> None:
        super().__init__(crop_size, allow_negative_crop=True, recompute_bbox=recompute_bbox)

    @cache_randomness
    def _rand_offset(self, margin: tuple[int, int]) -> tuple[int, int]:
        share = np.random.uniform()
        return round(share * margin[0]), round(share * margin[1])


@TASK_UTILS.register_module()
class BestOverlapAssigner(MaxIoUAssigner):
    """``MaxIoUAssigner`` that gives each positive prior the object it overlaps most, as detectron2 does.

    With ``match_low_quality`` a prior is also positive if no other overlaps some object more. mmdet then gives it that
    object, even where it overlaps another one more.
    """

    def assign_wrt_overlaps(self, overlaps: Tensor, gt_labels: Tensor) -> AssignResult:
        """Assign by the overlaps (objects, priors)."""
        result = super().assign_wrt_overlaps(overlaps, gt_labels)
        if overlaps.numel():
            best, positive = overlaps.argmax(dim=0), result.gt_inds > 0
            result.gt_inds[positive] = best[positive] + 1
            result.labels[positive] = gt_labels[best[positive]]
        return result


@MODELS.register_module()
class SmallInitMaskHead(FCNMaskHead):
    """``FCNMaskHead`` whose last layer begins near zero (normal, 0.001), as in detectron2, and not at mmdet's 0.16."""

    def init_weights(self) -> None:
        """Initialise as mmdet does, then the last layer."""
        super().init_weights()
        nn.init.normal_(self.conv_logits.weight, std=.001)


class _ScaleGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a number."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.scale, None


@MODELS.register_module()
class BoxCascadeRoIHead(StandardRoIHead):
    """Cascade R-CNN (Cai & Vasconcelos, 2018) as in detectron2: a cascade of box heads beside a single mask head.

    A stage refines the boxes of the one before it. Different from mmdet's ``CascadeRoIHead``: the losses of all stages
    weigh the same, and the gradient that a stage sends into the features is divided by the number of stages; after the
    first stage, which takes a sample of the proposals, all its boxes go through the others, those of ground truth too;
    in testing the stages' probabilities are averaged, not their logits; and there is one mask head, trained on the
    sample of the first stage. The config is that of ``StandardRoIHead``: ``bbox_head`` describes the head of every
    stage, ``train_cfg`` the first one's assigner and sampler.

    Args:
        bbox_head: Config of a class-agnostic box head.
        stage_ious: Least overlap with an object of each stage's positives.
        stage_stds: Scale of the box regression of each stage, ``bbox_coder.target_stds``.
        **kwargs: Those of ``StandardRoIHead``.

    Raises:
        ValueError: If ``bbox_head`` regresses a box for each class, or the stages disagree in number.
    """

    def __init__(self, bbox_head: dict, stage_ious: tuple[float, ...] = (.5, .6, .7),
                 stage_stds: tuple[tuple[float, ...], ...] = (
                     (.1, .1, .2, .2), (.05, .05, .1, .1), (1 / 30, 1 / 30, 1 / 15, 1 / 15)),
                 **kwargs) -> None:
        if not bbox_head.get('reg_class_agnostic'):
            raise ValueError('BoxCascadeRoIHead: the next stage takes one box of each region, '
                             'so bbox_head needs reg_class_agnostic=True')
        if len(stage_ious) != len(stage_stds):
            raise ValueError(f'BoxCascadeRoIHead: {len(stage_ious)} stage_ious and {len(stage_stds)} stage_stds '
                             'are not as many')
        self.stage_ious, self.stage_stds = stage_ious, stage_stds
        super().__init__(bbox_head=bbox_head, **kwargs)

    def init_bbox_head(self, bbox_roi_extractor: dict, bbox_head: dict) -> None:
        """Build the box head of every stage."""
        self.bbox_roi_extractor = MODELS.build(bbox_roi_extractor)
        self.bbox_head = ModuleList(
            MODELS.build(dict(bbox_head, bbox_coder=dict(bbox_head['bbox_coder'], target_stds=stds)))
            for stds in self.stage_stds)

    def init_assigner_sampler(self) -> None:
        """Build the first stage's assigner and sampler, and the assigners of the others, which take all boxes."""
        super().init_assigner_sampler()
        if self.train_cfg:
            self.stage_assigners = [
                TASK_UTILS.build(dict(self.train_cfg.assigner, pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou))
                for iou in self.stage_ious]
            self.bbox_assigner = self.stage_assigners[0]

    def _stage_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (R, classes + 1) and deltas (R, 4) of the regions (R, 5)."""
        features = self.bbox_roi_extractor(x[:self.bbox_roi_extractor.num_inputs], rois)
        return self.bbox_head[stage](_ScaleGradient.apply(features, 1 / len(self.bbox_head)))

    def _refine(self, stage: int, rois: Tensor, deltas: Tensor, metas: list[dict]) -> list[Tensor]:
        """The boxes (R_i, 4) that a stage makes of the regions of each image, within the image."""
        decode = self.bbox_head[stage].bbox_coder.decode
        return [decode(rois[rois[:, 0] == i, 1:], deltas[rois[:, 0] == i].detach().float(), max_shape=meta['img_shape'])
                for i, meta in enumerate(metas)]

    def loss(self, x: tuple[Tensor, ...], rpn_results_list: list[InstanceData], batch_data_samples: list) -> dict:
        """Losses ``s0.loss_cls``, ``s0.loss_bbox``, ... of the stages, and ``loss_mask``."""
        targets, ignored, metas = unpack_gt_instances(batch_data_samples)
        proposals = [InstanceData(priors=result.bboxes) for result in rpn_results_list]
        losses = {}
        for stage, head in enumerate(self.bbox_head):
            sampler = PseudoSampler() if stage else self.bbox_sampler
            samples = [
                sampler.sample(self.stage_assigners[stage].assign(boxes, target, ignore), boxes, target)
                for boxes, target, ignore in zip(proposals, targets, ignored, strict=True)]
            if not stage:
                sampled = samples
            rois = bbox2roi([sample.priors for sample in samples])
            scores, deltas = self._stage_forward(stage, x, rois)
            found = head.loss_and_target(scores, deltas, rois, samples, self.train_cfg)['loss_bbox']
            losses.update({f's{stage}.{name}': value for name, value in found.items()})
            boxes = self._refine(stage, rois, deltas, metas)
            proposals = [InstanceData(priors=box[(box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])]) for box in boxes]
        if self.with_mask:
            losses.update(self.mask_loss(x, sampled, None, targets)['loss_mask'])
        return losses

    def predict_bbox(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], rpn_results_list: list[InstanceData],
                     rcnn_test_cfg: dict, rescale: bool = False) -> list[InstanceData]:
        """Boxes of the last stage, with the probabilities averaged over the stages."""
        boxes, scores = [result.bboxes for result in rpn_results_list], 0
        for stage, head in enumerate(self.bbox_head):
            rois = bbox2roi(boxes)
            if not len(rois):
                return empty_instances(batch_img_metas, rois.device, task_type='bbox',
                                       num_classes=head.num_classes, score_per_cls=rcnn_test_cfg is None)
            logits, deltas = self._stage_forward(stage, x, rois)
            activate = head.loss_cls.get_activation if head.custom_cls_channels else torch.nn.Softmax(dim=-1)
            scores = scores + activate(logits) / len(self.bbox_head)
            boxes = self._refine(stage, rois, deltas, batch_img_metas)
        results = []
        for i, (box, meta) in enumerate(zip(boxes, batch_img_metas, strict=True)):
            if rescale:
                box = scale_boxes(box, [1 / factor for factor in meta['scale_factor']])
            found, labels = multiclass_nms(
                box, scores[rois[:, 0] == i], rcnn_test_cfg.score_thr, rcnn_test_cfg.nms, rcnn_test_cfg.max_per_img)
            results.append(InstanceData(bboxes=found[:, :4], scores=found[:, 4], labels=labels))
        return results


@METRICS.register_module()
class LVISInstanceMetric(LVISMetric):
    """mmdet's ``LVISMetric``, which the package ``lvis`` 0.5.3 stops on a NumPy later than 1.23.

    ``lvis.eval`` uses the name ``numpy.float``, which is gone; it is given one, and NumPy stays as it is.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """AP of boxes and masks: ``bbox_AP``, ``bbox_APr``, ..., rounded to three digits."""
        import lvis.eval
        lvis.eval.np = types.SimpleNamespace(**vars(np), float=float)
        return super().compute_metrics(results)
