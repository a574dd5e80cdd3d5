"""MAE pretraining of ViT-H/14 on ImageNet-1K with the exact switches of docs/speed.md on, see that of ViT-B.

    bash tools/dist_train.sh configs/pretrain/mae_vit-huge-p14_in1k-fast.py 8

Where 512 images a GPU do not fit, add ``+model.backbone.with_cp=True``, which computes activations a second time.
"""
_base_ = './mae_vit-huge-p14_in1k.py'
default_hooks = dict(fast=dict(compile=True, timed_attention=True))
optim_wrapper = dict(optimizer=dict(fused=True))
train_cfg = dict(prefetch=True)
