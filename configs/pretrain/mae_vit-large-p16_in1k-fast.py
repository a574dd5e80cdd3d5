"""MAE pretraining of ViT-L/16 on ImageNet-1K with the exact switches of docs/speed.md on, see that of ViT-B.

    bash tools/dist_train.sh configs/pretrain/mae_vit-large-p16_in1k-fast.py 8
"""
_base_ = './mae_vit-large-p16_in1k.py'
default_hooks = dict(fast=dict(compile=True, timed_attention=True))
optim_wrapper = dict(optimizer=dict(fused=True))
train_cfg = dict(prefetch=True)
