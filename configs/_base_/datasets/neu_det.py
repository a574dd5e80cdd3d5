# For mmdet, default_scope = 'mmdet'. Boxes of six defects: 1,440 images of 200x200, 360 for validation, enlarged to
# 448: 28x28 patches of 16, four windows of 14x14. 1,000 iterations of 16 are 11 epochs.
_base_ = './neu.py'

images = dict(
    type='CocoDataset',
    data_root='data/neu/detection',
    data_prefix=dict(img='images'),
    metainfo=dict(classes=('crazing', 'inclusion', 'patches', 'pitted_surface', 'rolled-in_scale', 'scratches')))
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mae_plugin.LabelShare',
        share=1.,  # of the labelled images
        seed=0,
        dataset=dict(
            **images,
            ann_file='annotations/train.json',
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True),
                dict(type='RandomFlip', prob=[.25, .25, .25], direction=['horizontal', 'vertical', 'diagonal']),
                dict(type='RandomResize', scale=(448, 448), ratio_range=(.8, 1.5), keep_ratio=True),
                dict(type='RandomCrop', crop_type='absolute', crop_size=(448, 448)),
                dict(type='FilterAnnotations', min_gt_bbox_wh=(4, 4), keep_empty=False),
                dict(type='PackDetInputs'),
            ])))
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **images,
        ann_file='annotations/val.json',
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(448, 448), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
        ]))
val_evaluator = dict(type='CocoMetric', ann_file='data/neu/detection/annotations/val.json', metric='bbox')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
del images
