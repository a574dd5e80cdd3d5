"""Pretraining of a tiny masked autoencoder on the images of data/images, in float32."""
_base_ = ['../../configs/_base_/default_runtime.py', '../../configs/_base_/mae_pretrain.py']
model = dict(
    backbone=dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3),
    neck=dict(decoder_embed_dim=32, decoder_depth=2, decoder_num_heads=4))
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(holdout=0))
val_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(holdout=0, split='train'))
test_dataloader = val_dataloader
optim_wrapper = dict(dtype='float32', optimizer=dict(lr=1e-2))
auto_scale_lr = dict(base_batch_size=4)
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4)]
train_cfg = dict(max_iters=6, val_interval=6)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=3), reconstruction=dict(interval=None))
log_processor = dict(window_size=1)
