# Images without labels: a folder of any depth, a list, a tar or a zip. Crops, flips and masks are functions of
# (seed, epoch, image). One image in 100 is held out for validation, with fixed crops and masks.
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),  # whole batches come from the workers, to be pinned as one
    sampler=dict(type='mae_plugin.KeyedSampler'),
    dataset=dict(
        type='mae_plugin.UnlabelledImages',
        data_root='data/images',
        holdout=0.01,
        split='train',
        pipeline=[
            dict(type='mae_plugin.KeyedRandomResizedCrop', size=224, scale=(0.2, 1.0)),
            dict(type='mae_plugin.KeyedRandomFlip'),
            dict(type='mae_plugin.PackUnlabelled'),
        ]))
val_dataloader = dict(
    batch_size=256,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mae_plugin.UnlabelledImages',
        data_root=None,  # the tools put in that of train_dataloader
        holdout=0.01,
        split='val',
        max_images=5000,
        pipeline=[
            dict(type='mae_plugin.ResizeCenterCrop', size=224),
            dict(type='mae_plugin.PackUnlabelled'),
        ]))
val_evaluator = dict(type='mae_plugin.MaskedReconstruction')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
