"""End-to-end fine-tuning of a ViT-B/16 that MAE pretrained on raw pixels: the baseline recipe of the paper.

    bash tools/dist_train.sh configs/classification/vit-base_in1k-raw.py 8

100 epochs at batch 1024 (8 GPUs x 128), the settings of He et al. (2022), Table 9; the recipe of the released weights,
``vit-base_in1k.py``, has another rate and layer decay. Published: 83.3 % top-1 after 1600 epochs of pretraining
(Table 7); the checkpoint named here has 800, for which no number of ViT-B is published. Random erasing and the least
rate are of the authors' code; the paper does not mention them.
"""
_base_ = './vit-base_in1k.py'
recipe = dict(name='finetune/raw/base')
model = dict(
    backbone=dict(init_cfg=dict(checkpoint='work_dirs/mae_vit-base-p16_in1k-raw/iter_249600.pth')))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75), optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=6255),
    dict(type='CosineAnnealingLR', eta_min_ratio=2.5e-4, by_epoch=False, begin=6255),  # to 1e-6 of 4e-3
]
