"""Fine-tuning of MAE's ViT-B/16 on Places205: 205 kinds of scenes.

    bash tools/dist_train.sh configs/classification/vit-base_places205.py 8

Published top-1 (He et al., 2022, Table 6): ViT-B 63.9, L 65.8, H 65.9, H at 448 pixels 66.8 %. Rate and 50 epochs of
2,448,873 images are ours; see ``vit-base_places365.py``.

Below data/places205 lie images/, and train.txt and val.txt, which are the official train_places205.csv and
val_places205.csv with blanks for the commas (``tr , ' '``).
"""
_base_ = './vit-base_places365.py'
model = dict(data_preprocessor=dict(num_classes=205), head=dict(num_classes=205))
train_dataloader = dict(dataset=dict(data_root='data/places205', data_prefix='images'))
val_dataloader = dict(dataset=dict(data_root='data/places205', data_prefix='images'))
test_dataloader = val_dataloader
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=11_955),  # 5 epochs of 2,391
    dict(type='CosineAnnealingLR', eta_min_ratio=2.5e-4, by_epoch=False, begin=11_955),
]
train_cfg = dict(max_iters=119_550, val_interval=11_955)
