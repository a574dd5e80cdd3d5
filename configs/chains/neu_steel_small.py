"""What pretraining on one's own images is worth, on a GPU: ViT-S/16 on pictures of steel, at full length.

    python tools/chain.py configs/chains/neu_steel_small.py      # --jobs 8: a run on each of eight GPUs

As ``neu_steel_tiny.py``, with the configs of ``neu_steel.py``. Not yet run.
"""
_base_ = './_base_/steel_study.py'
work_dir = 'work_dirs/neu_steel_small'
stages = [
    dict(name='pretrain', config='configs/pretrain/mae_vit-small-p16_neu.py'),
    dict(
        name='pretrain_10',
        config='configs/pretrain/mae_vit-small-p16_neu.py',
        cfg_options={'+train_dataloader.dataset.max_images': 423}),
]
all_layers = {'optim_wrapper.paramwise_cfg.layer_decay_rate': 1.0}
study = dict(
    tasks=dict(
        classify='configs/classification/vit-small_neu.py',
        detect='configs/detection/vitdet_faster-rcnn_vit-small_neu.py',
        segment='configs/segmentation/upernet_vit-small_neu.py'),
    scratch=dict(classify=all_layers, detect=all_layers, segment=all_layers))
del all_layers
