# Fine-tuning: AdamW with layer-wise learning rates, linear warm-up, half a cosine to nearly 0, in iterations. The
# smallest rate is a share of the group's own: the authors' 1e-6 of 2e-3.
# lr is the base rate, for a batch of 256: the real one is lr x batch_size x processes / 256, said at the start.
optim_wrapper = dict(
    type='mae_plugin.AutocastOptimWrapper',
    dtype='bfloat16',
    constructor='mae_plugin.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65),
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05))
auto_scale_lr = dict(enable=True, base_batch_size=256)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=6255),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-4, by_epoch=False, begin=6255),  # ends with the run
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=125_100, val_interval=12_510)
val_cfg = dict()
test_cfg = dict()
