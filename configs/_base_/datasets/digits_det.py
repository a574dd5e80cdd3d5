# For mmdet, default_scope = 'mmdet'. Boxes of two to four digits on each of 1,000 images of 96x96; 300 for
# validation. 1,000 iterations of 4 are 4 epochs. A mirrored digit is no digit: no flip.
_base_ = './digit_scenes.py'

images = dict(
    type='CocoDataset', data_root='data/digit_scenes/detection', metainfo=dict(classes=tuple('0123456789')))
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **images,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='RandomResize', scale=(96, 96), ratio_range=(.8, 1.25), keep_ratio=True),
            dict(type='RandomCrop', crop_type='absolute', crop_size=(96, 96), recompute_bbox=True),
            dict(type='FilterAnnotations', min_gt_bbox_wh=(4, 4), keep_empty=False),
            dict(type='PackDetInputs'),
        ]))
val_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **images,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val'),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(96, 96), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
        ]))
val_evaluator = dict(
    type='CocoMetric', ann_file='data/digit_scenes/detection/annotations/val.json', metric='bbox')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
del images
