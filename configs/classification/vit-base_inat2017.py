"""Fine-tuning of MAE's ViT-B/16 on iNaturalist 2017: 5,089 species.

    bash tools/dist_train.sh configs/classification/vit-base_inat2017.py 8

Published top-1 (He et al., 2022, Table 6): ViT-B 70.5, L 75.7, H 79.3, H at 448 pixels 83.4 %. Rate and 100
epochs of 579,184 images are ours; see ``vit-base_inat2018.py``, also for the lists to make.
"""
_base_ = './vit-base_inat2018.py'
model = dict(data_preprocessor=dict(num_classes=5089), head=dict(num_classes=5089))
train_dataloader = dict(dataset=dict(data_root='data/inat2017'))
val_dataloader = dict(dataset=dict(data_root='data/inat2017'))
test_dataloader = val_dataloader
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=2825),  # 5 epochs of 565
    dict(type='CosineAnnealingLR', eta_min_ratio=2.5e-4, by_epoch=False, begin=2825),
]
train_cfg = dict(max_iters=56_500, val_interval=5650)
