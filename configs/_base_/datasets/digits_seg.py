# For mmseg, default_scope = 'mmseg'. Background and ten digits on the images of digits_det.py: 1,000 of 96x96, 300
# for validation. 1,000 iterations of 8 are 8 epochs. A mirrored digit is no digit: no flip.
_base_ = './digit_scenes.py'

images = dict(
    type='BaseSegDataset',
    data_root='data/digit_scenes/segmentation',
    metainfo=dict(
        classes=('background', *'0123456789'),
        palette=[[0, 0, 0], [230, 25, 75], [60, 180, 75], [255, 225, 25], [0, 130, 200], [245, 130, 48], [145, 30, 180],
                 [70, 240, 240], [240, 50, 230], [210, 245, 60], [250, 190, 212]]))
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **images,
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=(96, 96), ratio_range=(.8, 1.25), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(96, 96)),
            dict(type='PackSegInputs'),
        ]))
val_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **images,
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(96, 96), keep_ratio=True),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ]))
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_dataloader = val_dataloader
test_evaluator = val_evaluator
del images
