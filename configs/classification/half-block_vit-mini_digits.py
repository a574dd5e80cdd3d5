"""Partial fine-tuning on the built-in digits: only the MLP of the last block is trained, and the head.

    python tools/train.py configs/classification/half-block_vit-mini_digits.py
"""
_base_ = './vit-mini_digits.py'
model = dict(backbone=dict(trainable_blocks=0.5))
