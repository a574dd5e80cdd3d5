"""ViTDet with four global blocks and without relative position. ViT-B/16 on COCO.

    bash tools/dist_train.sh configs/detection/vitdet_mask-rcnn_vit-base_coco-global.py 8 --fit-batch accumulate

What the alternatives ``-conv`` and ``-none`` compare with. Published: 51.2 box AP, 45.5 mask AP (Li et al., 2022,
Tables 4 and 8). The rest is the recipe of ``vitdet_mask-rcnn_vit-base_coco.py``.
"""
_base_ = './vitdet_mask-rcnn_vit-base_coco.py'
recipe = dict(_delete_=True, batch_size=64)
model = dict(backbone=dict(rel_pos=None))
