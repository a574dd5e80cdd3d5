"""MAE pretraining of ViT-Ti/16 on ImageNet-1K with ViT-B's recipe and a small decoder.

    bash tools/dist_train.sh configs/pretrain/mae_vit-tiny-p16_in1k.py 8

The authors publish no number.
"""
_base_ = './mae_vit-base-p16_in1k.py'
recipe = dict(name=None)
model = dict(
    backbone=dict(embed_dim=192, num_heads=3),
    neck=dict(decoder_embed_dim=192, decoder_depth=4, decoder_num_heads=6))
