"""ViTDet Cascade Mask R-CNN with MAE's ViT-H/14 on COCO: detectron2's recipe.

    bash tools/dist_train.sh configs/detection/vitdet_cascade_vit-huge_coco.py 8 --fit-batch accumulate

75 epochs at batch 64; 32.9 GB an image in detectron2. Published: 58.7 box AP, 50.9 mask AP (Li et al., 2022, Table 5);
58.7 and 51.0 in detectron2's projects/ViTDet/README.md; seeds differ by about 0.1.
"""
_base_ = ['./vitdet_mask-rcnn_vit-huge_coco.py', '../_base_/models/vitdet_cascade.py']
recipe = dict(name='vitdet/cascade/huge/coco')
model = _base_.vitdet_cascade
