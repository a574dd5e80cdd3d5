# The authors' optimizer and schedule (He et al., 2022, Table 8): AdamW (0.9, 0.95), weight decay 0.05 except for
# parameters of one dimension, linear warm-up from (nearly) 0, then half a cosine to 0, updated at every iteration.
# bfloat16, which needs no loss scaling.
#
# lr is the base rate, for a batch of 256: the real one is lr x batch_size x processes / 256, said at the start.
optim_wrapper = dict(
    type='mae_plugin.AutocastOptimWrapper',
    dtype='bfloat16',
    constructor='mae_plugin.GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05))
auto_scale_lr = dict(enable=True, base_batch_size=256)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=12_480),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=12_480),  # ends with the run
]
train_cfg = dict(type='mae_plugin.KeyedIterTrainLoop', max_iters=499_200, val_interval=5000)
val_cfg = dict()
test_cfg = dict()
