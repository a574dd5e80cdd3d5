# What every fine-tuning shares: AdamW with layer-wise learning rates, counted in iterations. The numbers are in the
# configs. lr is the base rate for auto_scale_lr.base_batch_size images: the real one is scaled with the batch of all
# processes, and said at the start.
optim_wrapper = dict(
    type='mae_plugin.AutocastOptimWrapper',
    dtype='bfloat16',
    constructor='mae_plugin.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', betas=(0.9, 0.999)))
auto_scale_lr = dict(enable=True, base_batch_size=256)
train_cfg = dict(type='IterBasedTrainLoop')
val_cfg = dict()
test_cfg = dict()
