"""MAE pretraining of ViT-H/14 on ImageNet-1K, otherwise as ViT-B, normalised pixels.

    bash tools/dist_train.sh configs/pretrain/mae_vit-huge-p14_in1k.py 8

Cost: 800 of the 1600 epochs took the authors 34.5 hours on 128 TPUv3 cores (He et al., 2022, Table 2). Published: 86.9
% top-1 after end-to-end fine-tuning at 224 pixels, 87.8 at 448 (Table 3).
"""
_base_ = './mae_vit-base-p16_in1k.py'
recipe = dict(name='pretrain/normalised/huge')
model = dict(backbone=dict(patch_size=14, embed_dim=1280, depth=32, num_heads=16))
