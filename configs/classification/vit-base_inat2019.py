"""Fine-tuning of MAE's ViT-B/16 on iNaturalist 2019: 1,010 species.

    bash tools/dist_train.sh configs/classification/vit-base_inat2019.py 8

Published top-1 (He et al., 2022, Table 6): ViT-B 80.5, L 83.4, H 85.7, H at 448 pixels 88.3 %. Rate and 100
epochs of 265,213 images are ours; see ``vit-base_inat2018.py``, also for the lists to make.
"""
_base_ = './vit-base_inat2018.py'
model = dict(data_preprocessor=dict(num_classes=1010), head=dict(num_classes=1010))
train_dataloader = dict(dataset=dict(data_root='data/inat2019'))
val_dataloader = dict(dataset=dict(data_root='data/inat2019'))
test_dataloader = val_dataloader
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=1290),  # 5 epochs of 258
    dict(type='CosineAnnealingLR', eta_min_ratio=2.5e-4, by_epoch=False, begin=1290),
]
train_cfg = dict(max_iters=25_800, val_interval=2580)
