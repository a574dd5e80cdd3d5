"""Mask R-CNN with FPN on MAE's ViT-B/16 on COCO, the MAE paper's own protocol (He et al., 2022, appendix A.3).

    bash tools/dist_train.sh configs/detection/mask-rcnn-fpn_vit-base_coco.py 8 --fit-batch accumulate

Published: 50.3 box AP, 44.9 mask AP (Table 4). Its learning rate, decay and length were searched and not released: the
numbers here are those of hustvl/MIMDet's unofficial reproduction, which reaches 50.4 and 44.9 (100 epochs at batch 64).
Ours differs from it in this: every block has a relative position table of its own (there one for all windowed blocks
and one for all global ones), the position embedding is the pretrained one, resampled and trained (there computed for
64x64 patches and fixed), images are flipped before they are resized and cropped (there after it), and they are padded
with zeros after normalising (there with grey before it).
"""
_base_ = './vitdet_mask-rcnn_vit-base_coco.py'
recipe = dict(_delete_=True, batch_size=64)
sync_bn = 'torch'  # with several processes, BN's statistics are those of all
model = dict(
    backbone=dict(
        out_indices=(2, 5, 8, 11), window_size=16, rel_pos=dict(type='mae_plugin.RelPosBias', size=64)),
    neck=[
        dict(type='mae_plugin.TapPyramid', in_channels=768),
        dict(type='FPN', in_channels=[768] * 4, out_channels=256, num_outs=5, norm_cfg=dict(type='BN')),
    ],
    roi_head=dict(
        bbox_head=dict(norm_cfg=dict(_delete_=True, type='BN')),
        mask_head=dict(norm_cfg=dict(_delete_=True, type='BN'))))
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay_rate=1., no_decay=('norm', 'pos_embed', 'rel_pos')),
    optimizer=dict(lr=1.6e-4, weight_decay=0.2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=461),  # a quarter of an epoch
    dict(type='CosineAnnealingLR', eta_min=0., by_epoch=False, begin=461),
]
