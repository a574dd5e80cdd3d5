"""MAE pretraining of ViT-Ti/16 on ImageNet-1K with ViT-B's recipe and a small decoder. No number is published."""
_base_ = ['./mae_vit-base-p16_in1k.py']
model = dict(
    backbone=dict(embed_dim=192, num_heads=3),
    neck=dict(decoder_embed_dim=192, decoder_depth=4, decoder_num_heads=6))
