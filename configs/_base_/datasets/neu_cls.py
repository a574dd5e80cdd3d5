# For mmpretrain, default_scope = 'mmpretrain'. The dominant one of six defects: 1,440 images of 200x200, 360 for
# validation. 1,000 iterations of 64 are 44 epochs.
_base_ = './neu.py'

images = dict(
    type='CustomDataset',
    data_root='data/neu',
    data_prefix='detection/images',
    metainfo=dict(classes=['crazing', 'inclusion', 'patches', 'pitted_surface', 'rolled-in_scale', 'scratches']))
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mae_plugin.LabelShare',
        share=1.,  # of the labelled images
        seed=0,
        dataset=dict(
            **images,
            ann_file='classification/train.txt',
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='RandomResizedCrop', scale=224, crop_ratio_range=(.3, 1.), backend='pillow',
                     interpolation='bicubic'),
                dict(type='RandomFlip', prob=.5, direction='horizontal'),
                dict(type='RandomFlip', prob=.5, direction='vertical'),
                dict(type='PackInputs'),
            ])))
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        **images,
        ann_file='classification/val.txt',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(224, 224), backend='pillow', interpolation='bicubic'),
            dict(type='PackInputs'),
        ]))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
del images
