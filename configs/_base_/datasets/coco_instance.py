# For mmdet, default_scope = 'mmdet'. COCO 2017 boxes and masks: {train,val}2017/ and annotations/ under data/coco, or
# under COCO_ROOT=/path. 2 per process; 64 in all are ViTDet's batch: 1,832 iterations are an epoch of the 117,266
# images that have a box. The pipelines are the recipe's, in the config.
data_root = '{{$COCO_ROOT:data/coco}}'

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True)))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True))
val_evaluator = dict(
    type='CocoMetric', ann_file=f'{data_root}/annotations/instances_val2017.json', metric=['bbox', 'segm'])
test_dataloader = val_dataloader
test_evaluator = val_evaluator
del data_root
