"""Fine-tuning of MAE's ViT-B/16 on iNaturalist 2018: 8,142 species.

    bash tools/dist_train.sh configs/classification/vit-base_inat2018.py 8

Published top-1 (He et al., 2022, Table 6): ViT-B 75.4, L 80.1, H 83.0, H at 448 pixels 86.8 %. The authors take the
settings of ImageNet (Table 9) and tune rate and epochs for each data set, which they do not publish: the rate of
ImageNet and 100 epochs, at batch 1024 (8 GPUs x 128) of 437,513 images, are ours.

Below data/inat2018 lie the images, as they are unpacked, and two lists, which this makes of the official annotations:

    for part in train val; do python -c "import json, sys; data = json.load(open(sys.argv[1])); \
        files = {image['id']: image['file_name'] for image in data['images']}; \
        [print(files[entry['image_id']], entry['category_id']) for entry in data['annotations']]" \
        ${part}2018.json > $part.txt; done
"""
_base_ = './vit-base_in1k.py'
recipe = dict(_delete_=True, batch_size=1024)
model = dict(data_preprocessor=dict(num_classes=8142), head=dict(num_classes=8142))
train_dataloader = dict(dataset=dict(data_root='data/inat2018', data_prefix='', ann_file='train.txt'))
val_dataloader = dict(dataset=dict(data_root='data/inat2018', data_prefix='', ann_file='val.txt'))
test_dataloader = val_dataloader
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75), optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=2135),  # 5 epochs of 427
    dict(type='CosineAnnealingLR', eta_min_ratio=2.5e-4, by_epoch=False, begin=2135),
]
train_cfg = dict(max_iters=42_700, val_interval=4270)
