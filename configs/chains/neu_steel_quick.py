"""The smallest row of docs/results.md, in about ten minutes on two CPU cores.

    python tools/chain.py configs/chains/neu_steel_quick.py --jobs 2
    python tools/results.py configs/chains/neu_steel_quick.py --no-page

A tenth of the pretraining of ``neu_steel_tiny.py``, then classification with 144 labelled pictures, three seeds.
"""
work_dir = 'work_dirs/neu_steel_quick'
stages = [
    dict(
        name='pretrain',
        config='configs/pretrain/mae_vit-tiny-p16_neu.py',
        cfg_options={
            'train_cfg.max_iters': 1200, 'train_cfg.val_interval': 1200, 'param_scheduler.0.end': 120,
            'param_scheduler.1.begin': 120}),
]
study = dict(
    tasks=dict(classify='configs/classification/vit-tiny_neu.py'),
    starts={'pretrained': 'pretrain', 'from scratch': None},
    scratch=dict(
        classify={'optim_wrapper.paramwise_cfg.layer_decay_rate': 1.0, 'optim_wrapper.optimizer.lr': 1e-3}),
    labels=[10],
    seeds=3)
