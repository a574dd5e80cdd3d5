# For mmseg, default_scope = 'mmseg'. Background and three defects: 3,630 images of 200x200, 840 to test on.
# 1,000 iterations of 16 are 4.4 epochs.
_base_ = './neu.py'

images = dict(
    type='BaseSegDataset',
    data_root='data/neu/segmentation',
    metainfo=dict(
        classes=('background', 'inclusion', 'patches', 'scratches'),
        palette=[[0, 0, 0], [230, 25, 75], [60, 180, 75], [255, 225, 25]]))
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
            data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations'),
                dict(type='RandomResize', scale=(224, 224), ratio_range=(.75, 1.5), keep_ratio=True),
                dict(type='RandomCrop', crop_size=(224, 224)),
                dict(type='RandomFlip', prob=.5, direction='horizontal'),
                dict(type='RandomFlip', prob=.5, direction='vertical'),
                dict(type='PackSegInputs'),
            ])))
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **images,
        data_prefix=dict(img_path='images/test', seg_map_path='annotations/test'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(224, 224), keep_ratio=True),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ]))
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_dataloader = val_dataloader
test_evaluator = val_evaluator
del images
