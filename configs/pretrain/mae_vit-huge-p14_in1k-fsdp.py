"""MAE pretraining of ViT-H/14 on ImageNet-1K, shared out over the GPUs (FSDP): for memory, not for speed.

    bash tools/dist_train.sh configs/pretrain/mae_vit-huge-p14_in1k-fsdp.py 8

The numbers are those of mae_vit-huge-p14_in1k.py, and so are the checkpoints; see docs/distributed.md.
"""
_base_ = ['./mae_vit-huge-p14_in1k.py', '../_base_/fsdp.py']
