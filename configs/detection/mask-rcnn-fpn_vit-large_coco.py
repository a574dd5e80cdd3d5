"""Mask R-CNN with FPN on MAE's ViT-L/16 on COCO, the MAE paper's own protocol (He et al., 2022, appendix A.3).

    bash tools/dist_train.sh configs/detection/mask-rcnn-fpn_vit-large_coco.py 8 --fit-batch accumulate

Published: 53.3 box AP, 47.2 mask AP (Table 4). Its numbers were searched and not released, and no reproduction of the
large model is known: the settings are those of ``mask-rcnn-fpn_vit-base_coco.py``, and the drop path rate is ours.
"""
_base_ = ['./mask-rcnn-fpn_vit-base_coco.py', '../_base_/models/vit-large.py']
model = dict(
    backbone=dict(**_base_.vitdet_large, drop_path_rate=0.2, out_indices=(5, 11, 17, 23)),
    neck=[
        dict(type='mae_plugin.TapPyramid', in_channels=1024),
        dict(type='FPN', in_channels=[1024] * 4, out_channels=256, num_outs=5, norm_cfg=dict(type='BN')),
    ])
