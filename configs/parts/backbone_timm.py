"""A plain vision transformer of timm as backbone: its name, and its arguments where they differ.

    python tools/train.py configs/parts/backbone_timm.py

The names are those of https://github.com/huggingface/pytorch-image-models (Wightman, 2019). Here it is the ViT-Ti of
the name, shrunk to the size of the mini model on 96 pixels.
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(
    backbone=dict(
        _delete_=True, type='mae_plugin.TimmViT', name='vit_tiny_patch16_224', img_size=96, patch_size=8,
        embed_dim=128, depth=4, num_heads=4, freeze_pos_embed=True))
