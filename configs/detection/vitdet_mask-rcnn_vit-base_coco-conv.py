"""ViTDet without global attention: residual convolutions carry information between the windows. ViT-B/16 on COCO.

    bash tools/dist_train.sh configs/detection/vitdet_mask-rcnn_vit-base_coco-conv.py 8 --fit-batch accumulate

All blocks see windows of 14 patches; four convolutional bottlenecks follow the last block of each quarter. Published:
51.0 box AP without relative position (Li et al., 2022, Table 8), as here, against 51.2 of four global blocks and 48.9
of windows alone. The rest is the recipe of ``vitdet_mask-rcnn_vit-base_coco.py``; that the ablation trained so, too, is
what the paper says.
"""
_base_ = './vitdet_mask-rcnn_vit-base_coco.py'
recipe = dict(_delete_=True, batch_size=64)
model = dict(
    backbone=dict(
        rel_pos=None, window_block_indexes=[*range(12)], conv_block_indexes=(2, 5, 8, 11)))
