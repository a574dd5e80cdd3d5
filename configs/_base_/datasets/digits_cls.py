# For mmpretrain, default_scope = 'mmpretrain'. One of ten digits on each of 1,000 images of 96x96; 500 for
# validation. 1,000 iterations of 32 are 32 epochs. A mirrored digit is no digit: no flip.
_base_ = './digit_scenes.py'

images = dict(
    type='CustomDataset', data_root='data/digit_scenes/classification', metainfo=dict(classes=list('0123456789')))
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        **images,
        data_prefix='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=96, crop_ratio_range=(.6, 1.), aspect_ratio_range=(.9, 1.1),
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
            dict(type='Resize', scale=(96, 96), backend='pillow', interpolation='bicubic'),
            dict(type='PackInputs'),
        ]))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
del images
