"""MAE pretraining of ViT-Ti/16 on the built-in scenes of digits: no data needed, for trying out a real ViT.

    python tools/train.py configs/pretrain/mae_vit-tiny-p16_digits.py

The demo takes the smaller ``mae_vit-mini-p8_digits.py``, which learns more in the same time on a CPU.
"""
_base_ = './mae_vit-mini-p8_digits.py'
model = dict(
    backbone=dict(img_size=128, patch_size=16, embed_dim=192, depth=12, num_heads=3),
    neck=dict(decoder_embed_dim=128, decoder_depth=2, decoder_num_heads=4))
