"""Linear probing of MAE's ViT-H/14 on ImageNet-1K, otherwise as ViT-B.

    bash tools/dist_train.sh configs/classification/linear-probe_vit-huge_in1k.py 8

50 epochs, which the authors found enough, at batch 16384 (8 GPUs x 2048). Published: 76.6 % top-1 (He et al., 2022,
Table 12), 77.2 with the authors' released code.
"""
_base_ = ['./linear-probe_vit-base_in1k.py', '../_base_/models/vit-huge.py']
recipe = dict(name='linear-probe/huge')
model = dict(backbone=_base_.vit_huge, neck=dict(input_features=1280), head=dict(in_channels=1280))
train_cfg = dict(max_iters=3900)
