# For mmpretrain, default_scope = 'mmpretrain'. ImageNet-1K, or any images in its layout: {train,val}/<class>/*.JPEG
# under data/imagenet, or under IMAGENET_ROOT=/path. 128 per process; 8 processes make 1,024: 1,251 iterations are an
# epoch of 1,281,167 images.
data_root = '{{$IMAGENET_ROOT:data/imagenet}}'
mean_bgr, std_bgr = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        data_prefix='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
            dict(type='RandomFlip', prob=.5, direction='horizontal'),
            dict(type='RandAugment', policies='timm_increasing', num_policies=2, total_level=10, magnitude_level=9,
                 magnitude_std=.5, hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic')),
            dict(type='RandomErasing', erase_prob=.25, mode='rand', min_area_ratio=.02, max_area_ratio=1 / 3,
                 fill_color=mean_bgr, fill_std=std_bgr),
            dict(type='PackInputs'),
        ]))
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        data_prefix='val',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=224),
            dict(type='PackInputs'),
        ]))
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
del data_root, mean_bgr, std_bgr
