"""MAE pretraining of ViT-L/16 on ImageNet-1K, otherwise as ViT-B.

    bash tools/dist_train.sh configs/pretrain/mae_vit-large-p16_in1k.py 8

Published: 85.9 % top-1 after end-to-end fine-tuning (He et al., 2022, Table 3).
"""
_base_ = ['./mae_vit-base-p16_in1k.py']
model = dict(backbone=dict(embed_dim=1024, depth=24, num_heads=16))
