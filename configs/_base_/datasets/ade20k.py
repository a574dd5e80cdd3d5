# For mmseg, default_scope = 'mmseg'. ADE20K, 150 classes: {images,annotations}/{training,validation}/ under
# data/ade/ADEChallengeData2016, or under ADE20K_ROOT=/path. 2 per process; 8 processes make 16: 1,263 iterations are an
# epoch of 20,210 images. The pipelines are in the configs.
data_root = '{{$ADE20K_ROOT:data/ade/ADEChallengeData2016}}'

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation')))
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_dataloader = val_dataloader
test_evaluator = val_evaluator
del data_root
