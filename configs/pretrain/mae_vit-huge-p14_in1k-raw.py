"""MAE pretraining of ViT-H/14 on ImageNet-1K with raw pixels, 800 epochs, otherwise as ViT-B.

    bash tools/dist_train.sh configs/pretrain/mae_vit-huge-p14_in1k-raw.py 8

Published: after 1600 epochs 86.2 % top-1 by end-to-end fine-tuning (He et al., 2022, Table 7).
"""
_base_ = './mae_vit-base-p16_in1k-raw.py'
recipe = dict(name='pretrain/raw/huge')
model = dict(backbone=dict(patch_size=14, embed_dim=1280, depth=32, num_heads=16))
