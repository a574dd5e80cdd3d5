"""ViTDet Cascade Mask R-CNN with MAE's ViT-B/16 on COCO: detectron2's recipe.

    bash tools/dist_train.sh configs/detection/vitdet_cascade_vit-base_coco.py 8 --fit-batch accumulate

100 epochs at batch 64; 12.3 GB an image in detectron2. Published: 54.0 box AP, 46.7 mask AP (Li et al., 2022, Table 5,
and detectron2's projects/ViTDet/README.md; seeds differ by about 0.1). The numbers of the cascade, detectron2's, are
the defaults of ``BoxCascadeRoIHead``: three stages, overlaps of 0.5, 0.6 and 0.7, regression scaled by 10, 20 and 30.
"""
_base_ = ['./vitdet_mask-rcnn_vit-base_coco.py', '../_base_/models/vitdet_cascade.py']
recipe = dict(name='vitdet/cascade/base/coco')
model = _base_.vitdet_cascade
