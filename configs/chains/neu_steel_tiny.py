"""What pretraining on one's own images is worth, on two CPU cores: ViT-Ti/16 on pictures of steel.

    python tools/chain.py configs/chains/neu_steel_tiny.py --jobs 2

Two pretrainings, on all 4,227 pictures and on a tenth of them; then classification, detection and segmentation from
each, and from scratch, with 100, 30 and 10 % of the labels, three times: 81 short runs, a few hours. docs/results.md
has what came out.
"""
_base_ = './_base_/steel_study.py'
work_dir = 'work_dirs/neu_steel_tiny'
stages = [
    dict(name='pretrain', config='configs/pretrain/mae_vit-tiny-p16_neu.py'),
    dict(
        name='pretrain_10',
        config='configs/pretrain/mae_vit-tiny-p16_neu.py',
        cfg_options={'+train_dataloader.dataset.max_images': 423}),
]
# Learning rates that fall towards the first layers are for layers that have learned something. The rates were chosen by
# a run each, with all labels and seed 0: from scratch 1e-3 or 3e-4, classification from the encoder 1e-3 or 4e-4.
rate, decay = 'optim_wrapper.optimizer.lr', 'optim_wrapper.paramwise_cfg.layer_decay_rate'
study = dict(
    tasks=dict(
        classify='configs/classification/vit-tiny_neu.py',
        detect='configs/detection/vitdet_faster-rcnn_vit-tiny_neu.py',
        segment='configs/segmentation/fcn_vit-tiny_neu.py'),
    scratch=dict(
        classify={decay: 1.0, rate: 1e-3}, detect={decay: 1.0, rate: 3e-4}, segment={decay: 1.0, rate: 3e-4}))
del rate, decay
