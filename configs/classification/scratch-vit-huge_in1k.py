"""Supervised training of ViT-H/14 on ImageNet-1K from scratch: what MAE is compared with.

    bash tools/dist_train.sh configs/classification/scratch-vit-huge_in1k.py 8

200 epochs at batch 4096 (8 GPUs x 512), the settings of He et al. (2022), Table 11. Published: 83.1 % top-1 with the
moving average of the weights, 80.9 % without.
"""
_base_ = './scratch-vit-large_in1k.py'
recipe = dict(name='scratch/huge')
model = dict(backbone=dict(patch_size=14, embed_dim=1280, depth=32), head=dict(in_channels=1280))
