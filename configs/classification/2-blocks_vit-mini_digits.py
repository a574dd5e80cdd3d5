"""Partial fine-tuning on the built-in digits: only the last 2 of 4 blocks are trained, and the head.

    python tools/train.py configs/classification/2-blocks_vit-mini_digits.py
"""
_base_ = './half-block_vit-mini_digits.py'
model = dict(backbone=dict(trainable_blocks=2))
