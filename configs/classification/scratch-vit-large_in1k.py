"""Supervised training of ViT-L/16 on ImageNet-1K from scratch: what MAE is compared with.

    bash tools/dist_train.sh configs/classification/scratch-vit-large_in1k.py 8

200 epochs at batch 4096 (8 GPUs x 512), the settings of He et al. (2022), Table 11. Published: 82.6 % top-1 with the
moving average of the weights, 81.5 % without.
"""
_base_ = './scratch-vit-base_in1k.py'
recipe = dict(name='scratch/large')
model = dict(
    backbone=dict(embed_dim=1024, depth=24, num_heads=16, drop_path_rate=0.2), head=dict(in_channels=1024))
train_cfg = dict(max_iters=62_400)
