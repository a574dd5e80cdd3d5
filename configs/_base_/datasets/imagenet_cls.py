# For mmpretrain, default_scope = 'mmpretrain'. ImageNet-1K, or any images in its layout: {train,val}/<class>/*.JPEG
# under data/imagenet, or under IMAGENET_ROOT=/path. 128 per process; 8 processes make 1,024: 1,251 iterations are an
# epoch of 1,281,167 images. Tested on the middle 224 of 256 pixels, as is usual; the transforms of training are in
# the configs.
data_root = '{{$IMAGENET_ROOT:data/imagenet}}'

# The pixels that torchvision's data sets give, as the authors' have them: the orientation noted in a file is ignored.
# mode='fast' decodes and resizes faster, at most a level beside in the mean.
load_image = dict(type='mae_plugin.LoadImage', mode='exact', ignore_orientation=True)
test_pipeline = [
    load_image,
    dict(type='mae_plugin.TimmTransform', input_size=224, interpolation='bicubic', crop_pct=224 / 256),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='CustomDataset', data_root=data_root, data_prefix='train'))
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='CustomDataset', data_root=data_root, data_prefix='val', pipeline=test_pipeline))
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
del data_root
