"""ViTDet Mask R-CNN with MAE's ViT-B/16 on COCO.

    bash tools/dist_train.sh configs/detection/vitdet_mask-rcnn_vit-base_coco.py 8 --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-base-p16_in1k/iter_499200.pth

100 epochs at batch 64 (ViTDet: 64 GPUs x 1), 184,375 iterations; the learning rate follows another batch, the number
of iterations does not. Published: 51.6 box AP, 45.9 mask AP (Li et al., 2022, Table 5). Different from detectron2's
recipe: all parameters of one dimension go without weight decay, crops move independently in x and y, test images are
not padded to a square.
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/coco_instance.py',
    '../_base_/models/vitdet_mask-rcnn_vit-base.py', '../_base_/schedules/finetune.py'
]
# Training images are padded with zeros, after normalising, to one size.
model = dict(
    data_preprocessor=dict(batch_augments=[dict(type='BatchFixedSizePad', size=(1024, 1024), pad_mask=True)]))
# mmcv's RoIAlign has no bfloat16.
optim_wrapper = dict(
    dtype='float16',
    paramwise_cfg=dict(layer_decay_rate=0.7),
    optimizer=dict(lr=1e-4, weight_decay=0.1))
auto_scale_lr = dict(base_batch_size=64)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=False, milestones=[163_889, 177_546], gamma=0.1),
]
train_cfg = dict(max_iters=184_375, val_interval=9219)
