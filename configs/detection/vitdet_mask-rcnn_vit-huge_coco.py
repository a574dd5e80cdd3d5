"""ViTDet Mask R-CNN with MAE's ViT-H/14 on COCO: detectron2's recipe. The patch filters are resized from 14 to 16.

    bash tools/dist_train.sh configs/detection/vitdet_mask-rcnn_vit-huge_coco.py 8 --fit-batch accumulate

75 epochs at batch 64; 31.5 GB an image in detectron2. Norms and positions decay too. Published: 56.7 box AP, 50.1 mask
AP (Li et al., 2022, Table 5); 56.7 and 50.2 in detectron2's projects/ViTDet/README.md; seeds differ by about 0.1.
detectron2's file warms up for 187.5 iterations, the share of the run that its 100 epochs have; the paper says 250.
"""
_base_ = ['./vitdet_mask-rcnn_vit-base_coco.py', '../_base_/models/vit-huge.py']
recipe = dict(name='vitdet/mask-rcnn/huge/coco')
model = dict(backbone=dict(**_base_.vitdet_huge, drop_path_rate=0.5), neck=dict(in_channels=1280))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9, no_decay=()))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=False, milestones=[122_916, 133_159], gamma=0.1),
]
train_cfg = dict(max_iters=138_281, val_interval=9219)
