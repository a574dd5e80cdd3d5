"""Partial fine-tuning of MAE's ViT-L/16 on ImageNet-1K: only the MLP of the last block is trained, and the head.

    bash tools/dist_train.sh configs/classification/partial-half-block_vit-large_in1k.py 8

Published: 79.1 % top-1, the best of 50, 100 and 200 epochs (He et al., 2022, section 4.3), where the linear probe of
the same weights has 73.5; here are 50.
"""
_base_ = './vit-large_in1k-raw.py'
recipe = dict(name='partial/large/half')
model = dict(backbone=dict(trainable_blocks=0.5))
