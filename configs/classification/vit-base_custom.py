"""Fine-tuning of MAE's ViT-B/16 on classes of your own: edit the three lines below ``_base_``.

    python tools/train.py configs/classification/vit-base_custom.py --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-base-p16_in1k/iter_499200.pth

The images of a class lie in <data_root>/train/<class>/ and <data_root>/val/<class>/. Ours: 5,000 iterations of 64
images are 320 epochs of 1,000 images and 32 of 10,000. Augmentation and rates are those of ImageNet, which suit
photographs; set ``hflip=0`` in ``train_pipeline`` where a mirror image is another thing. The learning rate follows the
batch.
"""
_base_ = './vit-base_in1k.py'
data_root = 'data/my_images'
num_classes = 2
max_iters = 5000

recipe = None
model = dict(data_preprocessor=dict(num_classes=num_classes), head=dict(num_classes=num_classes))
train_dataloader = dict(batch_size=64, dataset=dict(data_root=data_root))
val_dataloader = dict(batch_size=64, dataset=dict(data_root=data_root))
val_evaluator = dict(topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=max_iters // 20),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-4, by_epoch=False, begin=max_iters // 20),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
del data_root, num_classes, max_iters
