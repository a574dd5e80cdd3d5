"""ViTDet Cascade Mask R-CNN with MAE's ViT-H/14 on LVIS v1: detectron2's recipe. Needs the package ``lvis``.

    bash tools/dist_train.sh configs/detection/vitdet_cascade_vit-huge_lvis.py 8 --fit-batch accumulate

100 epochs at batch 64. Published: 51.5 box AP, 46.6 mask AP (detectron2's projects/ViTDet/README.md; seeds
differ by about 0.3).
"""
_base_ = ['./vitdet_mask-rcnn_vit-huge_lvis.py', '../_base_/models/vitdet_cascade.py']
recipe = dict(name='vitdet/cascade/huge/lvis')
model = _base_.vitdet_cascade
