"""MAE pretraining of ViT-S/16 on ImageNet-1K with ViT-B's recipe and a decoder half as wide. No number is published."""
_base_ = ['./mae_vit-base-p16_in1k.py']
model = dict(
    backbone=dict(embed_dim=384, num_heads=6),
    neck=dict(decoder_embed_dim=256, decoder_depth=4, decoder_num_heads=8))
