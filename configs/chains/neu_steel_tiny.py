"""What pretraining on one's own images is worth, on two CPU cores: ViT-Ti/16 on pictures of steel.

    python tools/chain.py configs/chains/neu_steel_tiny.py --jobs 2

Two pretrainings, on all 4,227 pictures and on a tenth of them; then classification, detection and segmentation from
each, and from scratch, with 100, 30 and 10 % of the labels, three times: 81 short runs, a few hours. docs/results.md
has what came out.
"""
work_dir = 'work_dirs/neu_steel_tiny'
stages = [
    dict(name='pretrain', config='configs/pretrain/mae_vit-tiny-p16_neu.py'),
    dict(
        name='pretrain_10',
        config='configs/pretrain/mae_vit-tiny-p16_neu.py',
        cfg_options={'+train_dataloader.dataset.max_images': 423}),
]
# Learning rates that fall towards the first layers are for layers that have learned something.
all_layers = {'optim_wrapper.paramwise_cfg.layer_decay_rate': 1.0}
study = dict(
    tasks=dict(
        classify='configs/classification/vit-tiny_neu.py',
        detect='configs/detection/vitdet_faster-rcnn_vit-tiny_neu.py',
        segment='configs/segmentation/fcn_vit-tiny_neu.py'),
    starts={'pretrained': 'pretrain', 'pretrained on 10 %': 'pretrain_10', 'from scratch': None},
    scratch=dict(classify=all_layers, detect=all_layers, segment=all_layers),
    labels=[100, 30, 10],
    seeds=3)
del all_layers
