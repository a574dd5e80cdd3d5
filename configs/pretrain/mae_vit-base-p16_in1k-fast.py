"""MAE pretraining of ViT-B/16 on ImageNet-1K with the exact switches of docs/speed.md on.

    bash tools/dist_train.sh configs/pretrain/mae_vit-base-p16_in1k-fast.py 8

The same mathematics as ``mae_vit-base-p16_in1k.py``: float32 loss to 1e-6, gradients to 1e-5, checked on the CPU, not
yet on a GPU. For batches of 64 and less on one GPU add ``default_hooks.fast.cuda_graph=True``.
"""
_base_ = './mae_vit-base-p16_in1k.py'
default_hooks = dict(fast=dict(compile=True, timed_attention=True))
optim_wrapper = dict(optimizer=dict(fused=True))
train_cfg = dict(prefetch=True)
