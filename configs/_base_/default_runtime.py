# What every run shares; counted in iterations. The scope is left to the configs: tasks set their library's.
default_hooks = dict(
    runtime_info=dict(type='mae_plugin.MeanLossHook'),  # the logged loss is the mean over the ranks
    # The same step executed faster; off until their parity was measured on a GPU. cuda_graph: pretraining only.
    fast=dict(type='mae_plugin.FastStepHook', compile=False, timed_attention=False, cuda_graph=False),
    timer=dict(type='IterTimerHook'),
    throughput=dict(type='mae_plugin.ThroughputHook', mfu=None),  # images_per_s, data_wait; mfu on a GPU
    # Images that cannot be read are replaced and listed in bad_images.csv; more than this share of them stop the run.
    bad_images=dict(type='mae_plugin.BadImagesHook', max_share=0.01, interval=200),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=5000, max_keep_ckpts=2),
    # Of pretraining: four held-out images as the model sees and predicts them, in vis_data of the work directory.
    reconstruction=dict(type='mae_plugin.ReconstructionHook', interval=5000, num_images=4),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # What a checkpoint says of itself, and what may differ from that of the file a run starts from, as ['mean', 'std'].
    card=dict(type='mae_plugin.CheckpointCardHook', allow=[]),
    plain=dict(type='mae_plugin.PlainCheckpointHook'))  # tensors, numbers and text only, which any tool reads

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))  # without a GPU the tools take gloo

# Several processes exchange gradients while the backward pass goes on, in place, and look for no parameters without:
# every one that is trained is used, or the run stops and names it.
model_wrapper_cfg = dict(
    type='mae_plugin.DistributedDataParallel',
    find_unused_parameters=False,
    broadcast_buffers=False,
    gradient_as_bucket_view=True,
    static_graph=False)

log_processor = dict(
    type='LogProcessor',
    window_size=50,
    by_epoch=False,
    mean_pattern=r'^[^/]*(loss|time|grad_norm)')  # of training: not the loss of a validation, as mae/masked_loss
log_level = 'INFO'
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])

# Drop path and mixup differ between the processes; what pretraining draws is a function of the seed and the image.
randomness = dict(seed=0, diff_rank_seed=True)
load_from = None
resume = False
