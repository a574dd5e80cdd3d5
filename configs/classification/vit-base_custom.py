"""Fine-tuning of MAE's ViT-B/16 on classes of your own: edit the lines below ``_base_``.

    python tools/train.py configs/classification/vit-base_custom.py --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-base-p16_in1k/iter_499200.pth

The images of a class lie in <data_root>/train/<class>/ and <data_root>/val/<class>/, of any kind that pretraining
reads. Ours: 5,000 iterations of 64 images are 320 epochs of 1,000 images and 32 of 10,000. Augmentation and rates are
those of ImageNet, which suit photographs. The learning rate follows the batch. For a ViT-S see
``vit-small_custom.py``.
"""
_base_ = './vit-base_in1k.py'
data_root = 'data/my_images'
num_classes = 2
img_size = 224
hflip = 0.5  # 0 where a mirror image is another thing
max_iters = 5000  # at least 40

recipe = None
model = dict(data_preprocessor=dict(num_classes=num_classes), head=dict(num_classes=num_classes))
dataset = dict(data_root=data_root, extensions=('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff'))
train_pipeline = [
    dict(type='mae_plugin.LoadImage'),
    dict(type='mae_plugin.TimmTransform', input_size=img_size, is_training=True, scale=(0.08, 1.0),
         interpolation='bicubic', hflip=hflip, color_jitter=None, auto_augment='rand-m9-mstd0.5-inc1'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='mae_plugin.LoadImage'),
    dict(type='mae_plugin.TimmTransform', input_size=img_size, interpolation='bicubic', crop_pct=224 / 256),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=64, dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(batch_size=64, dataset=dict(**dataset, pipeline=test_pipeline))
val_evaluator = dict(topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=max_iters // 20),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-4, by_epoch=False, begin=max_iters // 20),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
del data_root, num_classes, img_size, hflip, max_iters, dataset
