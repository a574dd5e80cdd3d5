"""Partial fine-tuning on the built-in digits: only the last block is trained, and the head.

    python tools/train.py configs/classification/1-block_vit-mini_digits.py
"""
_base_ = './half-block_vit-mini_digits.py'
model = dict(backbone=dict(trainable_blocks=1))
