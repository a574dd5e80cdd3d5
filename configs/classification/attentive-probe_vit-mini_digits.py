"""Attentive probing on the built-in digits: a learned query attends to the tokens of the frozen encoder.

    python tools/train.py configs/classification/attentive-probe_vit-mini_digits.py
"""
_base_ = './vit-mini_digits.py'
model = dict(
    backbone=dict(out_type='raw', trainable_blocks=0, drop_path_rate=0.),
    neck=dict(type='mae_plugin.AttentivePooling', embed_dim=128, num_heads=4))
train_cfg = dict(max_iters=1600, val_interval=400)
