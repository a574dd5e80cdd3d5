"""MAE pretraining of ViT-B/16 on images of your own with the exact switches of docs/speed.md on.

    python tools/train.py configs/pretrain/mae_vit-base-p16_images-fast.py \\
        --cfg-options train_dataloader.dataset.data_root=/my/images

The same mathematics as ``mae_vit-base-p16_images.py``, see there for the schedule.
Checked on the CPU, not yet on a GPU.
"""
_base_ = './mae_vit-base-p16_images.py'
default_hooks = dict(fast=dict(compile=True, timed_attention=True))
optim_wrapper = dict(optimizer=dict(fused=True))
train_cfg = dict(prefetch=True)
