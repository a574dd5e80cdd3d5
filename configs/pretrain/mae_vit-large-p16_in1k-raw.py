"""MAE pretraining of ViT-L/16 on ImageNet-1K with raw pixels, 800 epochs: the paper's ablations start from it.

    bash tools/dist_train.sh configs/pretrain/mae_vit-large-p16_in1k-raw.py 8

Cost: 15.4 hours on 128 TPUv3 cores (He et al., 2022, Table 2). Published: 84.9 % top-1 by end-to-end fine-tuning, 73.5
by linear probing (Table 1); after 1600 epochs 85.1 (Table 7).
"""
_base_ = './mae_vit-base-p16_in1k-raw.py'
recipe = dict(name='pretrain/raw/large')
model = dict(backbone=dict(embed_dim=1024, depth=24, num_heads=16))
