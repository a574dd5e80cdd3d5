# Each process keeps a share of parameters, gradients and moments (FSDP); every transformer block is a unit that is
# fetched when it runs. SHARD_GRAD_OP keeps the fetched parameters until the backward pass is done: more memory, a third
# less to send. HYBRID_SHARD shares out within a machine. Not in force in a single process.
runner_type = 'FlexibleRunner'
strategy = dict(
    type='mae_plugin.FSDPStrategy',
    model_wrapper=dict(type='MMFullyShardedDataParallel', sharding_strategy='FULL_SHARD', use_orig_params=True))
