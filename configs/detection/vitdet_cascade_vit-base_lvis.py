"""ViTDet Cascade Mask R-CNN with MAE's ViT-B/16 on LVIS v1: detectron2's recipe. Needs the package ``lvis``.

    bash tools/dist_train.sh configs/detection/vitdet_cascade_vit-base_lvis.py 8 --fit-batch accumulate

100 epochs at batch 64. Published: 43.0 box AP, 38.9 mask AP (detectron2's projects/ViTDet/README.md; seeds
differ by about 0.3).
"""
_base_ = ['./vitdet_mask-rcnn_vit-base_lvis.py', '../_base_/models/vitdet_cascade.py']
recipe = dict(name='vitdet/cascade/base/lvis')
model = _base_.vitdet_cascade
