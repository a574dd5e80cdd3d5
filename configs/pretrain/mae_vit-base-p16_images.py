"""MAE pretraining of ViT-B/16 on images of your own.

    python tools/train.py configs/pretrain/mae_vit-base-p16_images.py --cfg-options \
        train_dataloader.dataset.data_root=IMAGES

IMAGES is a folder of any depth, a list file, a tar or a zip. 100,000 iterations of 256 images, 20 epochs of 1.28
million images or 6,400 of 4,000: choose ``train_cfg.max_iters`` before the start, the learning rate follows. Below
10,000 shorten the warm-up, too: ``param_scheduler.0.end`` and ``param_scheduler.1.begin``, a twentieth of the whole.
Other sizes of image and patch are one setting each, ``model.backbone.img_size`` and ``model.backbone.patch_size``. The
schedule is ours; optimizer, crops and masks are the authors'.
"""
_base_ = ['../_base_/default_runtime.py', '../_base_/mae_pretrain.py']
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=5000),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=5000),
]
train_cfg = dict(max_iters=100_000)
