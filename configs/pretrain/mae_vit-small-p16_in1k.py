"""MAE pretraining of ViT-S/16 on ImageNet-1K with ViT-B's recipe and a decoder half as wide and deep.

    bash tools/dist_train.sh configs/pretrain/mae_vit-small-p16_in1k.py 8

The authors publish no number. CrossMAE, whose decoder differs, reports 79.3 % top-1 after 800 epochs (Fu et al., 2024).
"""
_base_ = './mae_vit-base-p16_in1k.py'
recipe = dict(name=None)
model = dict(
    backbone=dict(embed_dim=384, num_heads=6),
    neck=dict(decoder_embed_dim=256, decoder_depth=4, decoder_num_heads=8))
