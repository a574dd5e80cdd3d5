"""ViTDet Cascade Mask R-CNN with MAE's ViT-L/16 on COCO: detectron2's recipe.

    bash tools/dist_train.sh configs/detection/vitdet_cascade_vit-large_coco.py 8 --fit-batch accumulate

100 epochs at batch 64; 22.3 GB an image in detectron2. Published: 57.6 box AP, 49.8 mask AP (Li et al., 2022, Table
5); 57.6 and 50.0 in detectron2's projects/ViTDet/README.md; seeds differ by about 0.1.
"""
_base_ = ['./vitdet_mask-rcnn_vit-large_coco.py', '../_base_/models/vitdet_cascade.py']
recipe = dict(name='vitdet/cascade/large/coco')
model = _base_.vitdet_cascade
