"""ViTDet Faster R-CNN with MAE's ViT-B/16 on boxes of your own, in a COCO file: edit the five lines below.

    python tools/train.py configs/detection/vitdet_faster-rcnn_vit-base_custom-coco.py --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-base-p16_in1k/iter_499200.pth

5,000 iterations of 4 images are 20 epochs of 1,000 images: for some hundred to some thousand. The learning rate follows
another batch size. The settings are ours; no number is published for them.
"""
_base_ = './vitdet_faster-rcnn_vit-base_coco.py'

data_root = 'data/custom_coco'
classes = ('cat', 'dog')  # names in the files' "categories"; a single one is written ('cat', )
ann_files = dict(train='annotations/train.json', val='annotations/val.json')  # below data_root, as the images
images = dict(train='train', val='val')
max_iters = 5000

recipe = dict(_delete_=True)
model = dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file=ann_files['train'],
        data_prefix=dict(img=images['train'])))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file=ann_files['val'],
        data_prefix=dict(img=images['val'])))
val_evaluator = dict(ann_file=f'{data_root}/{ann_files["val"]}')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-3, by_epoch=False, begin=250),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
del data_root, classes, ann_files, images, max_iters
