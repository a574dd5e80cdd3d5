"""Fine-tuning of MAE's ViT-B/16 on Places365 (standard): 365 kinds of scenes.

    bash tools/dist_train.sh configs/classification/vit-base_places365.py 8

Published top-1 (He et al., 2022, Table 6): ViT-B 57.9, L 59.4, H 59.8, H at 448 pixels 60.3 %. The authors take the
settings of ImageNet (Table 9) and tune rate and epochs for each data set, which they do not publish: the rate of
ImageNet and 50 epochs, at batch 1024 (8 GPUs x 128) of 1,803,460 images, are ours.

Below data/places365 lie data_large_standard/ and val_large/ (or the images of 256 pixels, under these names), and the
lists of the official file list: train.txt is places365_train_standard.txt without the slash each line begins with
(``sed 's|^/||'``), val.txt is places365_val.txt.
"""
_base_ = './vit-base_in1k.py'
recipe = dict(_delete_=True, batch_size=1024)
model = dict(data_preprocessor=dict(num_classes=365), head=dict(num_classes=365))
train_dataloader = dict(
    dataset=dict(data_root='data/places365', data_prefix='data_large_standard', ann_file='train.txt'))
val_dataloader = dict(dataset=dict(data_root='data/places365', data_prefix='val_large', ann_file='val.txt'))
test_dataloader = val_dataloader
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75), optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=8805),  # 5 epochs of 1,761
    dict(type='CosineAnnealingLR', eta_min_ratio=2.5e-4, by_epoch=False, begin=8805),
]
train_cfg = dict(max_iters=88_050, val_interval=8805)
