# For mmpretrain, default_scope = 'mmpretrain'. One of ten digits on each of 1,000 images of 128x128; 500 for
# validation. 1,000 iterations of 64 are 64 epochs. A mirrored digit is no digit: no flip.
_base_ = './digit_scenes.py'

images = dict(
    type='CustomDataset', data_root='data/digit_scenes/classification', metainfo=dict(classes=list('0123456789')))
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        **images,
        data_prefix='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=128, crop_ratio_range=(.6, 1.), aspect_ratio_range=(.9, 1.1),
                 backend='pillow', interpolation='bicubic'),
            dict(type='PackInputs'),
        ]))
val_dataloader = dict(
    batch_size=100,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        **images,
        data_prefix='val',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(128, 128), backend='pillow', interpolation='bicubic'),
            dict(type='PackInputs'),
        ]))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
del images
