"""ViTDet Mask R-CNN with MAE's ViT-L/16 on COCO: detectron2's recipe.

    bash tools/dist_train.sh configs/detection/vitdet_mask-rcnn_vit-large_coco.py 8 --fit-batch accumulate

100 epochs at batch 64; 20.9 GB an image in detectron2. Published: 55.6 box AP, 49.2 mask AP (Li et al., 2022, Table 5);
55.5 and 49.2 in detectron2's projects/ViTDet/README.md; seeds differ by about 0.1.
"""
_base_ = ['./vitdet_mask-rcnn_vit-base_coco.py', '../_base_/models/vit-large.py']
recipe = dict(name='vitdet/mask-rcnn/large/coco')
model = dict(backbone=dict(**_base_.vitdet_large, drop_path_rate=0.4), neck=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
