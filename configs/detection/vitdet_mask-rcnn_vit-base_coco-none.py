"""ViTDet with windows alone: nothing carries information between them. ViT-B/16 on COCO.

    bash tools/dist_train.sh configs/detection/vitdet_mask-rcnn_vit-base_coco-none.py 8 --fit-batch accumulate

Published: 48.9 box AP without relative position (Li et al., 2022, Table 8), as here. The rest is the recipe of
``vitdet_mask-rcnn_vit-base_coco.py``.
"""
_base_ = './vitdet_mask-rcnn_vit-base_coco.py'
recipe = dict(_delete_=True, batch_size=64)
model = dict(backbone=dict(rel_pos=None, window_block_indexes=[*range(12)]))
