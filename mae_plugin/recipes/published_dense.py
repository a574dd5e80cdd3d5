"""The published recipes of detection and segmentation as plain data.

ViTDet is facebookresearch/detectron2 02b5c4e2 ``projects/ViTDet/configs``, file by file; UPerNet is the reproduction
that reaches 48.15 mIoU, implus/mae_segmentation 772c0c1, for the paper's learning rate was never published. Heads are
written in mmdet's and mmseg's vocabulary; where mmdet has no part that does what detectron2 does, in this plugin's.
"""

import copy

from .lr_curve import polynomial, steps
from .published import ANY, Fact, Recipe, encoder, said

_D2 = 'detectron2, projects/ViTDet/configs/'
_COMMON = {'normalisation': "ImageNet's mean and deviation, red first", 'optimizer': 'AdamW', 'optimizer eps': 1e-8,
           'optimizer betas': (0.9, 0.999), 'gradient clipping': None, 'precision': 'half precision',
           'loss scale': 'dynamic', 'short batches': 'none', 'order of images': 'random',
           'moving average of the weights': None, 'resumes by itself': False,
           'images beyond the last whole batch': ANY, 'lr follows the batch': ANY, 'trained': 'everything',
           'weight decay of weights': 'yes'}

# -- ViTDet ----------------------------------------------------------------------------------------------------------

_VITDET = {
    **said(f'{_D2}COCO/mask_rcnn_vitdet_b_100ep.py; configs/common/optim.py', {
        **_COMMON, 'weight decay': 0.1, 'gradients are sent in': 'float16', 'weight decay of biases': 'yes',
        'weight decay of relative position': 'yes'}),
    **said('detectron2/engine/defaults.py: seed + rank', {'seeds of the processes': 'one each'}),
    **said('detectron2/solver/build.py:203-229: LayerNorm2d is no norm there', {'weight decay of other norms': 'yes'}),
    **said(f'{_D2}common/coco_loader_lsj.py', {
        'train flip': 0.5, 'train resize to fit': (1024, 1024), 'train resize range': (0.1, 2.),
        'train keeps the aspect': True, 'train interpolation': 'bilinear (PIL)', 'train crop size': 1024,
        'train boxes': 'of the cropped masks', 'train order of transforms': ('flip', 'resize', 'crop'),
        'train masks as': 'polygons'}),
    **said('detectron2/data/transforms/augmentation_impl.py:332-344', {'train crop moves': 'in x and y by one draw'}),
    **said('detectron2/data/dataset_mapper.py', {
        'train crops without an object': 'stay', 'train images left without an object': 'stay'}),
    **said('detectron2/data/build.py: filter_images_with_only_crowd_annotations', {
        'images without an object': 'left out', 'least side of an image': 0}),
    **said('configs/common/models/mask_rcnn_vitdet.py: square_pad', {
        'train padded to': 1024, 'train padding': '0 after normalisation', 'test padded to': 1024,
        'test padding': '0 after normalisation'}),
    **said(f'{_D2}common/coco_loader_lsj.py', {
        'test resize to fit': (1024, 1024), 'test keeps the aspect': True, 'test interpolation': 'bilinear (PIL)'}),
    **said('detectron2/modeling/backbone/vit.py:408-455', {
        'detector': 'MaskRCNN', 'pyramid.width': 256, 'pyramid.strides': (4., 8., 16., 32.),
        'pyramid.extra level': True, 'pyramid.norm eps': 1e-6, 'pyramid.initial convolutions': "PyTorch's"})}

_NORM = dict(type='mae_plugin.LayerNorm2d', eps=1e-6)
_XYWH = dict(type='DeltaXYWHBBoxCoder', target_means=(0., 0., 0., 0.))
_SMOOTH = dict(type='L1Loss', loss_weight=1.)
_STRIDES = (4, 8, 16, 32)


def _roi(size: int) -> dict:
    return dict(type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=size, sampling_ratio=0),
                out_channels=256, featmap_strides=_STRIDES)


def _nms(threshold: float) -> dict:
    return dict(type='nms', iou_threshold=threshold)


_MASK_RCNN = dict(
    rpn_head=dict(
        type='RPNHead', in_channels=256, feat_channels=256, num_convs=2,
        anchor_generator=dict(type='AnchorGenerator', scales=(8, ), ratios=(0.5, 1., 2.), strides=(*_STRIDES, 64)),
        bbox_coder=dict(_XYWH, target_stds=(1., 1., 1., 1.)),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.), loss_bbox=_SMOOTH),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=_roi(7),
        bbox_head=dict(
            type='Shared4Conv1FCBBoxHead', in_channels=256, conv_out_channels=256, fc_out_channels=1024,
            roi_feat_size=7, num_classes=80, norm_cfg=_NORM, bbox_coder=dict(_XYWH, target_stds=(.1, .1, .2, .2)),
            reg_class_agnostic=False, loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.),
            loss_bbox=_SMOOTH, init_cfg=[
                dict(type='Caffe2Xavier', override=dict(name='shared_fcs')),
                dict(type='Normal', std=0.01, override=dict(name='fc_cls')),
                dict(type='Normal', std=0.001, override=dict(name='fc_reg'))]),
        mask_roi_extractor=_roi(14),
        mask_head=dict(
            type='mae_plugin.SmallInitMaskHead', num_convs=4, in_channels=256, conv_out_channels=256, num_classes=80,
            norm_cfg=_NORM, loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.))),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(type='mae_plugin.BestOverlapAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.,
                          match_low_quality=True, ignore_iof_thr=-1),
            sampler=dict(type='RandomSampler', num=256, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
            allowed_border=-1, pos_weight=-1),
        rpn_proposal=dict(nms_pre=2000, max_per_img=1000, nms=_nms(0.7), min_bbox_size=0),
        rcnn=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5,
                          match_low_quality=False, ignore_iof_thr=-1),
            sampler=dict(type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
            mask_size=28, pos_weight=-1)),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=1000, nms=_nms(0.7), min_bbox_size=0),
        rcnn=dict(score_thr=0.05, nms=_nms(0.5), max_per_img=100, mask_thr_binary=0.5)))

# size: drop path on COCO and on LVIS, layer decay, global blocks; the sizes of H decay norms and positions, too.
_VITDET_SIZES = {'base': (0.1, 0.1, 0.7, (2, 5, 8, 11)), 'large': (0.4, 0.4, 0.8, (5, 11, 17, 23)),
                 'huge': (0.5, 0.4, 0.9, (7, 15, 23, 31))}


def _heads(cascade: bool, lvis: bool) -> Fact:
    heads = copy.deepcopy(_MASK_RCNN)
    box_head = heads['roi_head']['bbox_head']
    if cascade:
        heads['roi_head'].update(
            type='mae_plugin.BoxCascadeRoIHead', stage_ious=(0.5, 0.6, 0.7),
            stage_stds=tuple((1 / w, 1 / w, 2 / w, 2 / w) for w in (10, 20, 30)))
        box_head['reg_class_agnostic'] = True
    if lvis:
        box_head.update(num_classes=1203, loss_cls=dict(type='mae_plugin.FederatedLoss', num_sample=50, freq_power=0.5))
        heads['roi_head']['mask_head']['num_classes'] = 1203
        heads['test_cfg']['rcnn'].update(score_thr=0.02, max_per_img=300)
    kind = 'cascade_mask_rcnn' if cascade else 'mask_rcnn'
    return Fact(heads, f'{_D2}{"LVIS" if lvis else "COCO"}/{kind}_vitdet_*.py; configs/common/models/mask_rcnn_fpn.py')


def _vitdet(size: str, cascade: bool, lvis: bool) -> Recipe:
    drop_path, lvis_drop_path, decay, global_blocks = _VITDET_SIZES[size]
    decayed = 'yes' if size == 'huge' else 'no'
    facts = {
        **_VITDET,
        **encoder(size, 'configs/common/models/mask_rcnn_vitdet.py:25-41', patch=(16, 16), grid_of_positions=(14, 14),
                  class_token=False, window=14, global_blocks=global_blocks,
                  drop_path=lvis_drop_path if lvis else drop_path,
                  output='maps without a norm', relative_position='decomposed', relative_position_grid=(64, 64),
                  maps_of_blocks=global_blocks[-1:]),
        **said(f'{_D2}COCO/mask_rcnn_vitdet_{size[0]}_*.py', {
            'layer decay': decay, 'weight decay of norms of the encoder': decayed,
            'weight decay of the position embedding': decayed})}
    if lvis:
        facts.update(said(f'{_D2}LVIS/mask_rcnn_vitdet_b_100ep.py', {'repeat factor of rare classes': 0.001}))
        curve = steps(1e-4 if size == 'huge' else 2e-4, 250, 0.001, (138_889, 150_463), 156_250)
    elif size == 'huge':  # [ViTDet] Table 11: 250 of warm-up; detectron2's file comes to 187.5
        curve = steps(1e-4, 250, 0.001, (122_916, 133_159), 138_281)
    else:
        curve = steps(1e-4, 250, 0.001, (163_889, 177_546), 184_375)
    return Recipe(facts, curve, 64, images=None, scales=False, heads=_heads(cascade, lvis))


# -- UPerNet ---------------------------------------------------------------------------------------------------------

_SEG = 'implus/mae_segmentation, configs/'
_CE = dict(type='CrossEntropyLoss', use_sigmoid=False)
_SYNC_BN = dict(type='SyncBN')
_UPERNET = dict(
    decode_head=dict(
        type='UPerHead', in_channels=(768, ) * 4, in_index=(0, 1, 2, 3), pool_scales=(1, 2, 3, 6), channels=768,
        dropout_ratio=0.1, num_classes=150, norm_cfg=_SYNC_BN, align_corners=False,
        loss_decode=dict(_CE, loss_weight=1.)),
    auxiliary_head=dict(
        type='FCNHead', in_channels=768, in_index=2, channels=256, num_convs=1, concat_input=False, dropout_ratio=0.1,
        num_classes=150, norm_cfg=_SYNC_BN, align_corners=False, loss_decode=dict(_CE, loss_weight=0.4)),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))
_UPERNET_FACTS = {
    **said(f'{_SEG}mae/upernet_mae_base_12_512_slide_160k_ade20k.py', {
        **_COMMON, 'weight decay': 0.05, 'layer decay': 0.65, 'gradients are sent in': 'float32'}),
    **said('mmcv_custom/layer_decay_optimizer_constructor.py:43: names with "backbone." never match', {
        'weight decay of the class token': 'yes', 'weight decay of the position embedding': 'yes'}),
    # The run of 48.15 had --seed 0 for all processes (README.md, tools/train.py), which is no part of the method.
    **said('README.md', {'seeds of the processes': ANY}),
    **said('mmcv_custom/layer_decay_optimizer_constructor.py:43', {
        'weight decay of relative position': 'yes', 'weight decay of layer scale': 'no', 'weight decay of biases': 'no',
        'weight decay of norms of the encoder': 'no', 'weight decay of other norms': 'no'}),
    **said(f'{_SEG}_base_/datasets/ade20k.py', {
        'train resize to fit': (2048, 512), 'train resize range': (0.5, 2.), 'train keeps the aspect': True,
        'train interpolation': 'bilinear (OpenCV)', 'train crop size': 512,
        'train crop with at most of one class': 0.75, 'train flip': 0.5, 'train photometric distortion': True,
        'train padded to': 512,
        'train padding': '0 after normalisation', 'train padding of the map': 255,
        'train order of transforms': ('resize', 'crop', 'flip', 'distortion'), 'test resize to fit': (2048, 512),
        'test keeps the aspect': True, 'test interpolation': 'bilinear (OpenCV)', 'test scales': 'one'}),
    **said('backbone/mae.py:325-339', {
        'segmenter': 'EncoderDecoder', 'pyramid.rescales': (4, 2, 1, .5), 'pyramid.norm': 'SyncBN'}),
    **encoder('base', f'{_SEG}mae/upernet_mae_base_12_512_slide_160k_ade20k.py', drop_path=0.1, layer_scale=1.,
              relative_position='bias', relative_position_grid=(32, 32), grid_of_positions=(32, 32),
              output='maps without a norm', maps_of_blocks=(3, 5, 7, 11))}

DENSE_RECIPES: dict[str, Recipe] = {
    **{f'vitdet/{kind}/{size}/{data}': _vitdet(size, kind == 'cascade', data == 'lvis')
       for kind in ('mask-rcnn', 'cascade') for size in _VITDET_SIZES for data in ('coco', 'lvis')},
    'upernet/base': Recipe(
        _UPERNET_FACTS, polynomial(1e-4, 1500, 1e-6, 160_000), 16, images=None, scales=False,
        heads=Fact(_UPERNET, f'{_SEG}_base_/models/upernet.py'))}
DENSE_RECIPES['upernet/base/multi-scale'] = DENSE_RECIPES['upernet/base']._replace(facts={
    **_UPERNET_FACTS, **said("mmseg's table: 48.70 with multiple scales", {'test scales': '6, mirrored too'})})
