# For mmdet, default_scope = 'mmdet'. COCO 2017 boxes and masks: {train,val}2017/ and annotations/ under data/coco, or
# under COCO_ROOT=/path. Large-scale jitter to 1024x1024 as in ViTDet: the crop is not padded here, the data
# preprocessor pads with zeros after normalising (BatchFixedSizePad of 1024). 2 per process; 64
# in all are ViTDet's batch: 1,832 iterations are an epoch of the 117,266 images that have a box.
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
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='RandomFlip', prob=.5),
            dict(type='RandomResize', scale=(1024, 1024), ratio_range=(.1, 2.), keep_ratio=True),
            dict(type='RandomCrop', crop_type='absolute', crop_size=(1024, 1024), recompute_bbox=True,
                 allow_negative_crop=True),
            dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
            dict(type='PackDetInputs'),
        ]))
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
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(1024, 1024), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
        ]))
val_evaluator = dict(
    type='CocoMetric', ann_file=f'{data_root}/annotations/instances_val2017.json', metric=['bbox', 'segm'])
test_dataloader = val_dataloader
test_evaluator = val_evaluator
del data_root
