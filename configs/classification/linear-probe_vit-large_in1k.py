"""Linear probing of MAE's ViT-L/16 on ImageNet-1K, otherwise as ViT-B.

    bash tools/dist_train.sh configs/classification/linear-probe_vit-large_in1k.py 8

50 epochs, which the authors found enough, at batch 16384 (8 GPUs x 2048). Published: 75.8 % top-1 (He et al., 2022,
Table 12), 76.0 with the authors' released code.
"""
_base_ = ['./linear-probe_vit-base_in1k.py', '../_base_/models/vit-large.py']
recipe = dict(name='linear-probe/large')
model = dict(backbone=_base_.vit_large, neck=dict(input_features=1024), head=dict(in_channels=1024))
train_cfg = dict(max_iters=3900)
