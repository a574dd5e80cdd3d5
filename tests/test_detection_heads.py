"""Matching, cascade, mask head and federated loss, as detectron2 has them."""

import json
import math

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mae_plugin.models import FederatedLoss
from mae_plugin.models.federated_loss import class_image_counts
from mae_plugin.registry import MODELS, TASK_UTILS


@pytest.fixture
def mmdet():
    pytest.importorskip('mmdet')
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def assign(kind, overlaps):
    assigner = TASK_UTILS.build(dict(
        type=kind, pos_iou_thr=.7, neg_iou_thr=.3, min_pos_iou=0., match_low_quality=True))
    return assigner.assign_wrt_overlaps(torch.tensor(overlaps), torch.tensor([5, 6]))


def test_a_prior_belongs_to_the_object_it_overlaps_most(mmdet):
    """The third prior is the best of object 2, but overlaps object 1 more."""
    overlaps = [[.8, .1, .6, .2, .4], [.0, .1, .5, .3, .2]]
    found = assign('mae_plugin.BestOverlapAssigner', overlaps)
    assert found.gt_inds.tolist() == [1, 0, 1, -1, -1]  # 0 background, -1 ignored
    assert found.labels.tolist() == [5, -1, 5, -1, -1]
    assert assign('MaxIoUAssigner', overlaps).gt_inds.tolist() == [1, 0, 2, -1, -1]
    assert TASK_UTILS.build(dict(type='mae_plugin.BestOverlapAssigner', pos_iou_thr=.7, neg_iou_thr=.3)) \
        .assign_wrt_overlaps(torch.zeros(0, 3), torch.zeros(0)).gt_inds.tolist() == [0, 0, 0]


def test_the_mask_head_begins_near_zero(mmdet):
    head = MODELS.build(dict(
        type='mae_plugin.SmallInitMaskHead', num_convs=1, in_channels=8, conv_out_channels=64, num_classes=100))
    head.init_weights()
    assert head.conv_logits.weight.std().item() == pytest.approx(.001, rel=.05)
    assert head.convs[0].conv.weight.std().item() > .01


CLASSES = 3


@pytest.fixture
def cascade(mmdet):
    torch.manual_seed(0)
    roi_head = MODELS.build(ConfigDict(
        type='mae_plugin.BoxCascadeRoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=3, sampling_ratio=0),
            out_channels=4, featmap_strides=[4]),
        bbox_head=dict(
            type='Shared2FCBBoxHead', in_channels=4, fc_out_channels=8, roi_feat_size=3, num_classes=CLASSES,
            reg_class_agnostic=True, bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            loss_cls=dict(type='CrossEntropyLoss'), loss_bbox=dict(type='L1Loss')),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=.5, neg_iou_thr=.5, min_pos_iou=.5,
                          match_low_quality=False),
            sampler=dict(type='RandomSampler', num=8, pos_fraction=.5, neg_pos_ub=-1, add_gt_as_proposals=True),
            pos_weight=-1, debug=False),
        test_cfg=dict(score_thr=.05, nms=dict(type='nms', iou_threshold=.5), max_per_img=10)))
    roi_head.init_weights()
    return roi_head


def test_each_stage_sends_a_third_of_its_gradient_into_the_features(cascade):
    x, rois = torch.randn(1, 4, 16, 16, requires_grad=True), torch.tensor([[0., 4, 4, 40, 44]])
    for stage, head in enumerate(cascade.bbox_head):
        plain = head(cascade.bbox_roi_extractor((x, ), rois))
        ours = cascade._stage_forward(stage, (x, ), rois)
        for a, b in zip(plain, ours, strict=True):
            torch.testing.assert_close(a, b)
        inputs = (x, head.fc_cls.weight, head.shared_fcs[0].weight)
        expected = torch.autograd.grad(sum(part.sum() for part in plain), inputs)
        found = torch.autograd.grad(sum(part.sum() for part in ours), inputs)
        torch.testing.assert_close(found[0], expected[0] / 3)
        torch.testing.assert_close(found[1:], expected[1:])
        assert expected[0].abs().sum() > 0


def sample_of(boxes, labels, size=64):
    from mmdet.structures import DetDataSample
    sample = DetDataSample(metainfo=dict(img_shape=(size, size), scale_factor=(2., 2.)))
    sample.gt_instances = InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor(labels))
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    return sample


def shifting(cascade, *deltas):
    """Let each stage move every box by these ``deltas``."""
    with torch.no_grad():
        for head, delta in zip(cascade.bbox_head, deltas, strict=True):
            head.fc_reg.weight.zero_()
            head.fc_reg.bias.copy_(torch.tensor(delta))


def regions_of_stages(cascade, monkeypatch, proposals, sample):
    """The regions (R, 4) each stage is trained on."""
    seen, original = [], type(cascade)._stage_forward

    def spy(self, stage, x, rois):
        seen.append(rois[:, 1:])
        return original(self, stage, x, rois)

    monkeypatch.setattr(type(cascade), '_stage_forward', spy)
    cascade.loss((torch.randn(1, 4, 16, 16), ), [InstanceData(bboxes=torch.tensor(proposals))], [sample])
    return seen


def test_refined_boxes_end_where_the_image_ends(cascade, monkeypatch):
    """Half a width to the right (5 / 10), of an image of 64 pixels."""
    shifting(cascade, [5., 0, 0, 0], [0.] * 4, [0.] * 4)
    first, second, third = regions_of_stages(cascade, monkeypatch, [[44., 4, 64, 24]], sample_of([[0., 0, 8, 8]], [1]))
    order = first[:, 0].argsort()  # a sampler shuffles
    assert first[order].tolist() == [[0, 0, 8, 8], [44, 4, 64, 24]]
    assert second[order].tolist() == third[order].tolist() == [[4, 0, 12, 8], [54, 4, 64, 24]]


def test_boxes_moved_out_of_the_image_leave_the_training(cascade, monkeypatch):
    """The second one, by its whole width; what is left of it has none."""
    shifting(cascade, [10., 0, 0, 0], [0.] * 4, [0.] * 4)
    regions = regions_of_stages(cascade, monkeypatch, [[44., 4, 64, 24]], sample_of([[0., 0, 8, 8]], [1]))
    assert [len(boxes) for boxes in regions] == [2, 1, 1] and regions[2].tolist() == [[8, 0, 16, 8]]
    shifting(cascade, [0., 10, 0, 0], [0.] * 4, [0.] * 4)
    regions = regions_of_stages(cascade, monkeypatch, [[4., 44, 24, 64]], sample_of([[0., 0, 8, 8]], [1]))
    assert [len(boxes) for boxes in regions] == [2, 1, 1] and regions[2].tolist() == [[0, 8, 8, 16]]


def test_a_stage_learns_nothing_through_the_boxes_of_the_next(cascade):
    """The boxes of the second stage depend on the first one's regression, which only the first one's loss trains."""
    sample, proposals = sample_of([[8., 8, 40, 40]], [1]), [InstanceData(bboxes=torch.tensor([[10., 10, 44, 40]]))]
    losses = cascade.loss((torch.randn(1, 4, 16, 16), ), proposals, [sample])
    weights = [head.fc_reg.weight for head in cascade.bbox_head]
    for stage in range(3):
        found = torch.autograd.grad(losses[f's{stage}.loss_bbox'], weights, retain_graph=True, allow_unused=True)
        assert [gradient is not None for gradient in found] == [stage == number for number in range(3)]
        assert found[stage].abs().sum() > 0


def test_all_boxes_of_the_sample_go_through_all_stages(cascade, monkeypatch):
    """Boxes that stay where they are: an overlap of 0.65 is positive in two stages; the object itself is kept."""
    for head in cascade.bbox_head:
        torch.nn.init.zeros_(head.fc_reg.weight)
        torch.nn.init.zeros_(head.fc_cls.weight)
    seen = []
    original = type(cascade.bbox_head[0]).loss_and_target

    def spy(self, scores, deltas, rois, samples, cfg):
        seen.append((self.bbox_coder.stds, [(len(s.pos_priors), len(s.neg_priors)) for s in samples]))
        return original(self, scores, deltas, rois, samples, cfg)

    monkeypatch.setattr(type(cascade.bbox_head[0]), 'loss_and_target', spy)
    samples = [sample_of([[0., 0, 20, 40]], [1]), sample_of([[0., 0, 1, 1]], [2])]
    samples[1].gt_instances = samples[1].gt_instances[:0]
    proposals = [InstanceData(bboxes=torch.tensor([[0., 0, 20, 26], [30, 30, 50, 50]])),
                 InstanceData(bboxes=torch.tensor([[0., 0, 9, 9]]))]
    losses = cascade.loss((torch.randn(2, 4, 16, 16), ), proposals, samples)
    assert [counts for _, counts in seen] == [[(2, 1), (0, 1)], [(2, 1), (0, 1)], [(1, 2), (0, 1)]]
    for (stds, _), scale in zip(seen, (10, 20, 30), strict=True):
        assert stds == pytest.approx((1 / scale, 1 / scale, 2 / scale, 2 / scale))
    for stage in range(3):  # of equal weight: log 4 for four equal scores
        assert losses[f's{stage}.loss_cls'].item() == pytest.approx(math.log(4), rel=1e-5)
    # Regression towards an object 40 high from 26: dy = 7 / 26 by 1/10, dh = log(40 / 26) by 1/5; over 4 regions.
    by_hand = (7 / 26 * 10 + math.log(40 / 26) * 5) / 4
    assert losses['s0.loss_bbox'].item() == pytest.approx(by_hand, rel=1e-4)
    assert losses['s1.loss_bbox'].item() == pytest.approx(2 * by_hand, rel=1e-4)
    assert losses['s2.loss_bbox'].item() == 0


def test_the_stages_probabilities_are_averaged(cascade):
    with torch.no_grad():
        for head, bias in zip(cascade.bbox_head, ([5., 0, 0, 0], [0., 0, 0, 0], [0., 5, 0, 0]), strict=True):
            head.fc_cls.weight.zero_()
            head.fc_reg.weight.zero_()
            head.fc_cls.bias.copy_(torch.tensor(bias))
        shift = torch.tensor([1., 0, 0, 0])
        for head in cascade.bbox_head:
            head.fc_reg.bias.copy_(shift)
    cascade.eval()
    sample = sample_of([[0., 0, 1, 1]], [0])
    proposals = [InstanceData(bboxes=torch.tensor([[0., 10, 12, 22]]))]
    found, = cascade.predict((torch.randn(1, 4, 16, 16), ), proposals, [sample], rescale=True)
    high, low = math.exp(5) / (math.exp(5) + 3), 1 / (math.exp(5) + 3)
    scores = {label: score for label, score in zip(found.labels.tolist(), found.scores.tolist(), strict=True)}
    assert scores == pytest.approx({0: (high + .25 + low) / 3, 1: (high + .25 + low) / 3, 2: (.25 + 2 * low) / 3})
    # To the right by 12 / 10, 12 / 20 and 12 / 30, then to the size of the file.
    shift = 12 * (1 / 10 + 1 / 20 + 1 / 30)
    torch.testing.assert_close(found.bboxes[0], torch.tensor([shift, 10, 12 + shift, 22]) / 2)
    empty, = cascade.predict((torch.randn(1, 4, 16, 16), ), [InstanceData(bboxes=torch.zeros(0, 4))], [sample])
    assert len(empty) == 0


def test_a_cascade_that_cannot_work_is_refused(cascade):
    from mae_plugin.integrations.mmdet import BoxCascadeRoIHead
    with pytest.raises(ValueError, match='needs reg_class_agnostic=True'):
        BoxCascadeRoIHead(bbox_head=dict(reg_class_agnostic=False))
    with pytest.raises(ValueError, match='2 stage_ious and 3 stage_stds'):
        BoxCascadeRoIHead(bbox_head=dict(reg_class_agnostic=True), stage_ious=(.5, .6))


@pytest.fixture
def annotations(tmp_path):
    """``annotations(counts)``: a file of annotations whose classes, in any order, have these image counts."""
    def write(counts):
        path = tmp_path / 'lvis.json'
        categories = [dict(id=number, name='"categories": [', image_count=count)
                      for number, count in enumerate(counts, 1)]
        path.write_text(json.dumps(dict(annotations=[dict(id=1)] * 9, categories=categories[::-1], images=[])))
        return str(path)

    return write


def test_image_counts_are_sorted_by_class(annotations, tmp_path):
    assert class_image_counts(annotations([3, 1, 2])) == [3, 1, 2]
    with pytest.raises(FileNotFoundError, match='there is no .*absent.json'):
        class_image_counts(tmp_path / 'absent.json')
    for content in ('{}', '{"categories": [{"id": 1, "name": "a"}]}', '{"categories": 3}'):
        (tmp_path / 'other.json').write_text(content)
        with pytest.raises(ValueError, match='other.json has no list of "categories"'):
            class_image_counts(tmp_path / 'other.json')


def cross_entropy(score, target):
    return -math.log(1 / (1 + math.exp(-score))) if target else -math.log(1 - 1 / (1 + math.exp(-score)))


@pytest.mark.parametrize('counts, num_sample, judged', [
    ([1, 4, 9, 16], 99, (0, 1, 2, 3)), ([1, 4, 9, 16], 2, (0, )), ([1, 4, 9, 16], 1, (0, )),
    ([1, 0, 7, 0], 3, (0, 2))])
def test_federated_loss_by_hand(annotations, counts, num_sample, judged):
    """Two regions, of class 0 and of background (4). Sampled classes count the background, as in detectron2."""
    loss = FederatedLoss(annotations(counts), num_sample=num_sample)
    scores = torch.tensor([[1.5, -.5, .2, 2., 9.], [-1., .3, .7, .1, -9.]])
    expected = sum(cross_entropy(scores[row, label].item(), row == 0 and label == 0)
                   for row in range(2) for label in judged) / 2
    assert loss(scores, torch.tensor([0, 4]), torch.ones(2), avg_factor=2.).item() == pytest.approx(expected, rel=1e-5)
    assert loss(scores, torch.tensor([0, 4])).item() == pytest.approx(expected, rel=1e-5)


def test_classes_are_drawn_by_the_root_of_their_image_count(annotations):
    loss = FederatedLoss(annotations([1, 4, 9, 16]), num_sample=2)
    torch.manual_seed(0)
    draws = sum(loss.sampled_classes(torch.tensor([4, 4]), 4) for _ in range(4000)) / 4000
    torch.testing.assert_close(draws, torch.tensor([.1, .2, .3, .4]), atol=.03, rtol=0)
    loss = FederatedLoss(annotations([1, 4, 9, 16]), num_sample=3)
    for _ in range(20):  # without replacement, and never the one that is there
        assert loss.sampled_classes(torch.tensor([0, 4]), 4).sum() == 2


def test_federated_loss_in_a_box_head(mmdet, annotations):
    head = MODELS.build(dict(
        type='Shared2FCBBoxHead', in_channels=4, fc_out_channels=8, roi_feat_size=3, num_classes=4,
        loss_cls=dict(type='mae_plugin.FederatedLoss', ann_file=annotations([1, 1, 1, 1]), num_sample=5)))
    scores, deltas = head(torch.randn(3, 4, 3, 3))
    assert scores.shape == (3, 5)
    labels = torch.tensor([0, 3, 4])
    scores = torch.tensor([[3., 0, 0, 0, 9], [0, 3, 0, 0, 9], [0, 0, 0, 0, 9]], requires_grad=True)
    losses = head.loss(scores, deltas, torch.zeros(3, 5), labels, torch.ones(3), torch.zeros(3, 4), torch.zeros(3, 4))
    assert losses['acc'].item() == 50  # of the two objects; the background's score means nothing
    losses['loss_cls'].backward()
    assert not scores.grad[:, 4].any() and scores.grad[:, :4].all()
    with pytest.raises(ValueError, match='has 4 classes, the box head has num_classes=7'):
        FederatedLoss(head.loss_cls.ann_file)(torch.zeros(2, 8), torch.tensor([0, 1]))
