"""MAE pretraining of ViT-H/14 on ImageNet-1K, otherwise as ViT-B.

    bash tools/dist_train.sh configs/pretrain/mae_vit-huge-p14_in1k.py 8

Published: 86.9 % top-1 after end-to-end fine-tuning (He et al., 2022, Table 3).
"""
_base_ = ['./mae_vit-base-p16_in1k.py']
model = dict(backbone=dict(patch_size=14, embed_dim=1280, depth=32, num_heads=16))
