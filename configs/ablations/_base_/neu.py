# What matters for pretraining on 4,227 pictures of steel. Every cell is a short pretraining of ViT-Ti/16, judged at low
# cost: kNN and a linear layer on frozen features for the six defects, and a short fine-tuning on the label maps.
work_dir = 'work_dirs/ablations'
note = 'Short runs on one CPU core: for what to try first, not for what is reached in the end.'
metrics = {'kNN': ('pretrain', 'knn/top1'), 'linear': ('linear', 'accuracy/top1'), 'mIoU': ('segment', 'mIoU')}
stages = [
    dict(name='pretrain', config='configs/pretrain/mae_vit-tiny-p16_neu.py'),
    dict(name='linear', config='configs/classification/linear-probe_vit-tiny_neu.py', init_from='pretrain'),
    dict(name='segment', config='configs/segmentation/fcn_vit-tiny_neu.py', init_from='pretrain'),
]
sizes = dict(
    # About eight minutes a cell on one core.
    cpu=dict(
        pretrain={
            'train_cfg.max_iters': 1200, 'train_cfg.val_interval': 1200, 'default_hooks.checkpoint.interval': 400,
            'param_scheduler.0.end': 120, 'param_scheduler.1.begin': 120},
        linear={},
        segment={}))
