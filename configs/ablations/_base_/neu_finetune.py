# What matters for fine-tuning on pictures of steel: tasks from the encoder of configs/chains/neu_steel_tiny.py, which
# has to be there, with 30 % of the labels.
work_dir = 'work_dirs/ablations'
note = 'From the encoder of configs/chains/neu_steel_tiny.py, with 30 % of the labels.'
metrics = {'AP': ('detect', 'coco/bbox_mAP'), 'AP50': ('detect', 'coco/bbox_mAP_50'), 'mIoU': ('segment', 'mIoU')}
_some = {
    'model.backbone.init_cfg.checkpoint': 'work_dirs/neu_steel_tiny/pretrain/iter_12000.pth',
    'train_dataloader.dataset.share': 0.3}
stages = [
    dict(name='detect', config='configs/detection/vitdet_faster-rcnn_vit-tiny_neu.py', cfg_options=_some),
    dict(name='segment', config='configs/segmentation/fcn_vit-tiny_neu.py', cfg_options=_some),
]
del _some
