# For mmdet, default_scope = 'mmdet'. Boxes and masks of two to four digits on each of 1,000 images of 128x128; 300 for
# validation. 1,000 iterations of 16 are 16 epochs. A mirrored digit is no digit: no flip. One class for all digits,
# which minutes on a CPU suffice for; annotations/{train,val}.json tell the ten apart.
_base_ = './digit_scenes.py'

images = dict(
    type='CocoDataset', data_root='data/digit_scenes/detection', metainfo=dict(classes=('digit', )))
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **images,
        ann_file='annotations/train_digit.json',
        data_prefix=dict(img='train'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='RandomResize', scale=(128, 128), ratio_range=(.8, 1.25), keep_ratio=True),
            dict(type='RandomCrop', crop_type='absolute', crop_size=(128, 128), recompute_bbox=True),
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
        ann_file='annotations/val_digit.json',
        data_prefix=dict(img='val'),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(128, 128), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
        ]))
val_evaluator = dict(
    type='CocoMetric', ann_file='data/digit_scenes/detection/annotations/val_digit.json', metric=['bbox', 'segm'])
test_dataloader = val_dataloader
test_evaluator = val_evaluator
del images
