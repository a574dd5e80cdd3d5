"""ViTDet detectors under the names of detectron2 and of mmdet's project, whose layouts are built here by hand."""

import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tiny.shrink import DEPTH, HEADS, WIDTH, shrink
from torch import nn

from mae_plugin.models import PlainViT, SimpleFeaturePyramid
from mae_plugin.registry import MODELS
from mae_plugin.weights.checkpoint import read_weights
from mae_plugin.weights.formats import from_plugin, recognise, to_plugin

CONFIGS = Path(__file__).parents[1] / 'configs' / 'detection'
CHANNELS, REGION, WINDOW = 16, 7, 3  # of what shrink makes


@pytest.fixture
def mmdet():
    pytest.importorskip('mmdet')
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def tiny_model(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py').copy()
    shrink(cfg)
    return cfg.model


class LN2d(nn.Module):
    """LayerNorm over the channels of a map; no subclass of ``nn.LayerNorm`` in both projects."""

    def __init__(self, channels, eps=1e-6):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x):
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + self.eps).sqrt()
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Conv(nn.Conv2d):
    """detectron2's convolution: its norm is inside; ``act`` has no parameters."""

    def __init__(self, channels_in, channels_out, size, norm=True, act=True):
        super().__init__(channels_in, channels_out, size, padding=size // 2, bias=not norm)
        self.norm, self.act = (LN2d(channels_out) if norm else None), act

    def forward(self, x):
        x = super().forward(x)
        x = x if self.norm is None else self.norm(x)
        return x.relu() if self.act else x


def tree(**parts):
    """Named modules, parameters and buffers."""
    module = nn.Module()
    for name, part in parts.items():
        setattr(module, name, part)
    return module


def vit(dim=WIDTH, depth=DEPTH, rel_pos=True, residual=(), positions=197, mlp=4, patch=16):
    def block(i):
        tables = dict(rel_pos_h=nn.Parameter(torch.zeros(2 * WINDOW - 1, dim // HEADS)),
                      rel_pos_w=nn.Parameter(torch.zeros(2 * WINDOW - 1, dim // HEADS))) if rel_pos else {}
        half = dim // 2
        convs = dict(residual=tree(
            conv1=nn.Conv2d(dim, half, 1, bias=False), norm1=LN2d(half),
            conv2=nn.Conv2d(half, half, 3, bias=False), norm2=LN2d(half),
            conv3=nn.Conv2d(half, dim, 1, bias=False), norm3=LN2d(dim))) if i in residual else {}
        return tree(norm1=nn.LayerNorm(dim), norm2=nn.LayerNorm(dim),
                    attn=tree(qkv=nn.Linear(dim, 3 * dim), proj=nn.Linear(dim, dim), **tables),
                    mlp=tree(fc1=nn.Linear(dim, mlp * dim), fc2=nn.Linear(mlp * dim, dim)), **convs)

    return tree(pos_embed=nn.Parameter(torch.zeros(1, positions, dim)),
                patch_embed=tree(proj=nn.Conv2d(3, dim, patch)), blocks=nn.ModuleList(map(block, range(depth))))


def simple_feature_pyramid(dim=WIDTH, out=CHANNELS):
    def double(channels):
        return nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)

    def ending(channels):
        return Conv(channels, out, 1, act=False), Conv(out, out, 3, act=False)

    return dict(
        simfp_2=nn.Sequential(double(dim), LN2d(dim // 2), nn.GELU(), double(dim // 2), *ending(dim // 4)),
        simfp_3=nn.Sequential(double(dim), *ending(dim // 2)), simfp_4=nn.Sequential(*ending(dim)),
        simfp_5=nn.Sequential(nn.MaxPool2d(2), *ending(dim)))


def detectron2_layout(classes=80, masks=True, stages=0, **encoder):
    """The modules of detectron2's detector."""
    def box_head():
        convs = [(f'conv{i + 1}', Conv(CHANNELS, CHANNELS, 3)) for i in range(4)]
        head = nn.Sequential()
        for name, part in [*convs, ('flatten', nn.Flatten()), ('fc1', nn.Linear(CHANNELS * REGION ** 2, CHANNELS)),
                           ('fc_relu1', nn.ReLU())]:
            head.add_module(name, part)
        return head

    def predictor():
        return tree(cls_score=nn.Linear(CHANNELS, classes + 1),
                    bbox_pred=nn.Linear(CHANNELS, 4 if stages else 4 * classes))

    mask_head = nn.Sequential()
    for name, part in [*((f'mask_fcn{i + 1}', Conv(CHANNELS, CHANNELS, 3)) for i in range(4)),
                       ('deconv', nn.ConvTranspose2d(CHANNELS, CHANNELS, 2, stride=2)), ('deconv_relu', nn.ReLU()),
                       ('predictor', nn.Conv2d(CHANNELS, classes, 1))]:
        mask_head.add_module(name, part)
    convs = nn.Sequential()
    for i in range(2):
        convs.add_module(f'conv{i}', Conv(CHANNELS, CHANNELS, 3, norm=False))
    boxes = dict(box_head=box_head(), box_predictor=predictor()) if not stages else dict(
        box_head=nn.ModuleList(box_head() for _ in range(stages)),
        box_predictor=nn.ModuleList(predictor() for _ in range(stages)))
    return tree(
        backbone=tree(net=vit(**encoder), **simple_feature_pyramid()),
        proposal_generator=tree(rpn_head=tree(
            conv=convs, objectness_logits=nn.Conv2d(CHANNELS, 3, 1), anchor_deltas=nn.Conv2d(CHANNELS, 12, 1))),
        roi_heads=tree(**boxes, **(dict(mask_head=mask_head) if masks else {})))


def mmdet_neck(dim=WIDTH, out=CHANNELS):
    """The modules of mmdet's neck; of mmcv's, so that the norm's name is what mmcv makes of the class."""
    from mmcv.cnn import ConvModule

    def conv(channels, size):
        # The project leaves mmcv's eps of 1e-5, which moves the levels here by up to 7e-4.
        norm = dict(type=LN2d, eps=1e-6)
        return ConvModule(channels, out, size, padding=size // 2, norm_cfg=norm, act_cfg=None)

    def double(channels):
        return nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)

    neck = tree(
        fpn1=nn.Sequential(double(dim), LN2d(dim // 2), nn.GELU(), double(dim // 2)), fpn2=nn.Sequential(double(dim)),
        fpn3=nn.Sequential(nn.Identity()), fpn4=nn.Sequential(nn.MaxPool2d(2)),
        lateral_convs=nn.ModuleList(conv(channels, 1) for channels in (dim // 4, dim // 2, dim, dim)),
        fpn_convs=nn.ModuleList(conv(out, 3) for _ in range(4)))
    neck.forward = lambda x: [
        fpn(lateral(getattr(neck, f'fpn{i + 1}')(x)))
        for i, (lateral, fpn) in enumerate(zip(neck.lateral_convs, neck.fpn_convs, strict=True))]
    return neck


def mmdet_layout(cfg):
    """The modules of mmdet's project: mmdet's own heads with its norm."""
    for head in (cfg.roi_head.bbox_head, cfg.roi_head.mask_head):
        head.norm_cfg = dict(type=LN2d)
    model = MODELS.build(cfg)
    return tree(backbone=vit(), neck=mmdet_neck(), rpn_head=model.rpn_head, roi_head=model.roi_head)


def randomised(module):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(value.shape, generator=generator) for name, value in module.state_dict().items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


def assert_carried(theirs, ours, name):
    """No tensor is lost between a file of theirs and our model, in either direction."""
    translated, unknown = to_plugin(theirs, name)
    assert not unknown
    assert {key: value.shape for key, value in translated.items()} == {k: v.shape for k, v in ours.items()}
    back, homeless = from_plugin(translated, name)
    assert not homeless
    assert_same(back, theirs)
    exported, homeless = from_plugin(ours, name)
    assert not homeless and exported.keys() == theirs.keys()
    assert_same(to_plugin(exported, name)[0], ours)


@pytest.mark.parametrize('config, layout', [
    ('vitdet_mask-rcnn_vit-base_coco', {}),
    ('vitdet_mask-rcnn_vit-base_coco-conv', dict(rel_pos=False, residual=range(DEPTH))),
    ('vitdet_faster-rcnn_vit-base_coco', dict(masks=False)),
    ('vitdet_cascade_vit-base_coco', dict(stages=3)),
    ('vitdet_cascade_vit-base_lvis', dict(stages=3, classes=1203)),
])
def test_detectron2s_detectors_are_carried_both_ways(mmdet, config, layout):
    theirs, model = detectron2_layout(**layout), MODELS.build(tiny_model(config))
    theirs = randomised(theirs)
    assert_carried(theirs, randomised(model), 'detectron2')
    assert recognise(theirs, 'model') == 'detectron2'
    assert recognise(model.state_dict(), 'state_dict') == 'plugin'


def test_mmdets_detector_is_carried_both_ways(mmdet):
    theirs = randomised(mmdet_layout(tiny_model('vitdet_mask-rcnn_vit-base_coco')))
    assert 'roi_head.mask_head.convs.0.norm_layer.weight' in theirs  # mmcv's name
    assert_carried(theirs, randomised(MODELS.build(tiny_model('vitdet_mask-rcnn_vit-base_coco'))), 'mmdet')
    assert recognise(theirs, 'state_dict') == 'mmdet'


def test_files_of_a_backbone_alone():
    pyramid = randomised(tree(net=vit(), **simple_feature_pyramid()))
    encoder, convs = randomised(vit()), randomised(vit(rel_pos=False, residual=[1]))
    assert (recognise(pyramid), recognise(encoder), recognise(convs)) == ('detectron2', 'mmdet', 'detectron2')
    for state, name in ((pyramid, 'detectron2'), (encoder, 'detectron2'), (encoder, 'mmdet'), (convs, 'detectron2')):
        translated, unknown = to_plugin(state, name)
        assert not unknown and len(translated) == len(state)
    ours = {f'backbone.{key.replace("attn.rel_pos_", "attn.rel_pos.rel_pos_")}': value
            for key, value in encoder.items()}
    for name, prefix in (('mmdet', 'backbone.'), ('detectron2', 'backbone.net.')):
        assert_same(to_plugin(encoder, name)[0], ours)
        assert_same(from_plugin(ours, name)[0], {prefix + key: value for key, value in encoder.items()})
    # without what is their own, the names are timm's and the authors'
    plain = randomised(vit(rel_pos=False))
    assert (recognise(plain), recognise(plain, 'model')) == ('timm', 'authors')


def test_what_was_not_learned_is_left_out_and_what_has_no_place_is_named():
    state = randomised(tree(backbone=tree(net=vit(), **simple_feature_pyramid())))
    extra = ('pixel_mean', 'pixel_std', 'proposal_generator.anchor_generator.cell_anchors.3',
             'roi_heads.box_predictor.fed_loss_cls_weights', 'roi_heads.box_predictor.2.fed_loss_cls_weights')
    other = ('backbone.bottom_up.res2.0.conv1.weight', 'backbone.simfp_1.0.weight', 'roi_heads.keypoint_head.weight')
    translated, unknown = to_plugin(state | dict.fromkeys(extra + other, torch.zeros(1)), 'detectron2')
    assert unknown == list(other) and len(translated) == len(state)
    for name in ('detectron2', 'mmdet'):
        alien = ['backbone.fc_norm.weight', 'backbone.blocks.0.ls1.gamma', 'backbone.blocks.0.attn.rel_pos.table',
                 'neck.mask_token']
        assert from_plugin(dict.fromkeys(alien, torch.zeros(1)), name)[1] == alien
    for alien in ('backbone.blocks.0.residual.conv1.weight', 'roi_head.bbox_head.0.fc_cls.weight'):
        assert from_plugin({alien: torch.zeros(1)}, 'mmdet')[1] == [alien]


def test_levels_are_numbered_for_patches_of_16():
    state, _ = to_plugin(randomised(tree(net=vit(patch=8), **simple_feature_pyramid())), 'detectron2')
    with pytest.raises(ValueError, match='patches have 8 pixels'):
        from_plugin(state, 'detectron2')
    encoder = {name: value for name, value in state.items() if name.startswith('backbone.')}
    assert not from_plugin(encoder, 'detectron2')[1]


def test_a_published_pickle(tmp_path):
    """detectron2's files: arrays under ``model``, beside the author."""
    state = randomised(detectron2_layout(stages=3))
    content = dict(model={name: value.numpy() for name, value in state.items()}, __author__='someone',
                   matching_heuristics=True)
    (tmp_path / 'model_final.pkl').write_bytes(pickle.dumps(content))
    weights = read_weights(tmp_path / 'model_final.pkl')
    assert (weights.format, weights.kind, weights.unknown) == ('detectron2', 'detection', [])
    assert_same(weights.state, to_plugin(state, 'detectron2')[0])
    torch.save(dict(model=state, iteration=3), tmp_path / 'model_final.pth')
    assert_same(read_weights(tmp_path / 'model_final.pth').state, weights.state)


@pytest.fixture
def reference(golden):
    return golden('vitdet_80x112')


def golden_model():
    backbone = PlainViT(img_size=64, embed_dim=48, depth=4, num_heads=3, out_type='featmap', with_cls_token=False,
                        window_size=3, window_block_indexes=[0, 2],
                        rel_pos=dict(type='mae_plugin.DecomposedRelPos', size=6))
    return nn.ModuleDict(dict(backbone=backbone, neck=SimpleFeaturePyramid(48, 32))).double()


def test_detectron2s_numbers_give_its_features_and_come_back(reference):
    theirs, model = reference.under('param/'), golden_model()
    assert recognise(theirs) == 'detectron2'
    model.load_state_dict(to_plugin(theirs, 'detectron2')[0])
    features = model['backbone'](reference['images'])
    torch.testing.assert_close(features[-1], reference['backbone/last_feat'], rtol=0, atol=1e-8)
    for i, level in enumerate(model['neck'](features)):
        torch.testing.assert_close(level, reference[f'pyramid/p{i + 2}'], rtol=0, atol=1e-8)
    exported, homeless = from_plugin(model.state_dict(), 'detectron2')
    assert not homeless
    assert_same(exported, {f'backbone.{name}': value for name, value in theirs.items()})
    pyramid = tree(**simple_feature_pyramid(48, 32)).double()
    pyramid.load_state_dict({name.removeprefix('backbone.'): value for name, value in exported.items()
                             if 'simfp_' in name})
    for i in range(2, 6):
        level = getattr(pyramid, f'simfp_{i}')(reference['backbone/last_feat'])
        torch.testing.assert_close(level, reference[f'pyramid/p{i}'], rtol=0, atol=1e-8)


def test_the_same_numbers_in_mmdets_layout(mmdet, reference):
    ours = to_plugin(reference.under('param/'), 'detectron2')[0]
    theirs, homeless = from_plugin(ours, 'mmdet')
    assert not homeless and recognise(theirs) == 'mmdet'
    neck = mmdet_neck(48, 32).double()
    neck.load_state_dict({name.removeprefix('neck.'): value for name, value in theirs.items() if 'neck.' in name})
    for i, level in enumerate(neck.forward(reference['backbone/last_feat'])):
        torch.testing.assert_close(level, reference[f'pyramid/p{i + 2}'], rtol=0, atol=1e-8)
    encoder = {name.removeprefix('backbone.'): value for name, value in theirs.items() if 'backbone.' in name}
    assert_same(encoder, {name.removeprefix('net.'): value for name, value in reference.under('param/').items()
                          if 'net.' in name})
    model = golden_model()
    model.load_state_dict(to_plugin(theirs, 'mmdet')[0])
    torch.testing.assert_close(
        model['neck'](model['backbone'](reference['images']))[0], reference['pyramid/p2'], rtol=0, atol=1e-8)


# What the heads' numbers mean: ours against the same numbers by detectron2's names and conventions.


def filled(mmdet_config, **layout):
    """Our detector and detectron2's layout with the same numbers, small enough for boxes to stay near anchors."""
    layout, model = detectron2_layout(**layout), MODELS.build(tiny_model(mmdet_config))
    layout.load_state_dict({name: value * .1 for name, value in randomised(layout).items()})
    state, unknown = to_plugin(layout.state_dict(), 'detectron2')
    assert not unknown
    model.load_state_dict(state)
    return model.eval(), layout


def decoded(boxes, deltas, weights, size):
    """(N, 4) boxes moved by (N, 4) deltas dx, dy, dw, dh divided by ``weights``, within a square image."""
    dx, dy, dw, dh = (deltas / torch.tensor(weights)).unbind(1)
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    x, y = boxes[:, 0] + w / 2 + dx * w, boxes[:, 1] + h / 2 + dy * h
    w, h = w * dw.exp(), h * dh.exp()
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1).clamp(0, size)


def test_anchors_and_proposals_mean_the_same(mmdet):
    model, layout = filled('vitdet_mask-rcnn_vit-base_coco')
    head, size, torch_seed = layout.proposal_generator.rpn_head, 128, torch.Generator().manual_seed(1)
    features = [torch.randn(1, CHANNELS, size // stride, size // stride, generator=torch_seed)
                for stride in (4, 8, 16, 32, 64)]
    expected = []
    for x, stride, side in zip(features, (4, 8, 16, 32, 64), (32, 64, 128, 256, 512), strict=True):
        x = head.conv(x)
        logits, deltas = head.objectness_logits(x)[0], head.anchor_deltas(x)[0]
        for row in range(x.size(2)):
            for column in range(x.size(3)):
                for anchor, ratio in enumerate((.5, 1, 2)):  # height over width
                    w = (side ** 2 / ratio) ** .5
                    box = torch.tensor([-w / 2, -ratio * w / 2, w / 2, ratio * w / 2])
                    box += torch.tensor([column, row, column, row]) * stride
                    delta = deltas[4 * anchor:4 * anchor + 4, row, column]
                    moved = decoded(box[None], delta[None], (1., 1, 1, 1), size)[0]
                    expected.append([*moved.tolist(), logits[anchor, row, column].sigmoid().item()])
    cfg = Config(dict(nms_pre=10 ** 6, max_per_img=10 ** 6, nms=dict(type='nms', iou_threshold=1.), min_bbox_size=-1))
    found = model.rpn_head.predict_by_feat(
        *model.rpn_head(features), batch_img_metas=[dict(img_shape=(size, size))], cfg=cfg)[0]
    found = torch.cat([found.bboxes, found.scores[:, None]], 1)
    expected = torch.tensor(expected)
    assert len(expected) == len(found) == 3 * (32 ** 2 + 16 ** 2 + 8 ** 2 + 4 ** 2 + 2 ** 2)
    nearest = torch.cdist(expected, found, p=float('inf')).min(1)
    assert nearest.values.max() < 1e-3 and len(set(nearest.indices.tolist())) == len(found)


@pytest.mark.parametrize('config, layout, all_weights', [
    ('vitdet_mask-rcnn_vit-base_coco', {}, [(10., 10, 5, 5)]),
    ('vitdet_cascade_vit-base_lvis', dict(stages=3, classes=1203),
     [(10., 10, 5, 5), (20., 20, 10, 10), (30., 30, 15, 15)]),
])
def test_regions_mean_the_same(mmdet, config, layout, all_weights):
    model, theirs = filled(config, **layout)
    heads, seed, size = theirs.roi_heads, torch.Generator().manual_seed(1), 128
    x = torch.randn(6, CHANNELS, REGION, REGION, generator=seed)
    corners = torch.rand(6, 2, generator=seed) * 60
    boxes = torch.cat([corners, corners + 20 + 40 * torch.rand(6, 2, generator=seed)], 1)
    stages = list(zip(heads.box_head, heads.box_predictor, model.roi_head.bbox_head, strict=True)) \
        if layout else [(heads.box_head, heads.box_predictor, model.roi_head.bbox_head)]
    for (box_head, predictor, ours), weights in zip(stages, all_weights, strict=True):
        y = box_head(x)
        scores, deltas = predictor.cls_score(y), predictor.bbox_pred(y)
        classes = scores.size(1) - 1
        probabilities = scores.sigmoid() if layout else F.softmax(scores, 1)  # LVIS is trained with a sigmoid
        moved = [decoded(boxes, deltas[:, 4 * k:4 * k + 4], weights, size) for k in range(deltas.size(1) // 4)]
        found = ours.predict_by_feat(
            (torch.cat([torch.zeros(6, 1), boxes], 1), ), *((part, ) for part in ours(x)),
            batch_img_metas=[dict(img_shape=(size, size), scale_factor=(1, 1))])[0]
        assert classes == ours.num_classes and len(moved) == (1 if layout else classes)
        torch.testing.assert_close(found.scores, probabilities)
        torch.testing.assert_close(found.bboxes.reshape(6, -1), torch.cat(moved, 1), rtol=1e-4, atol=1e-3)
    x = torch.randn(3, CHANNELS, 14, 14, generator=seed)
    torch.testing.assert_close(model.roi_head.mask_head(x), heads.mask_head(x))
