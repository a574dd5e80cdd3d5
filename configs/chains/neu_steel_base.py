"""What pretraining on one's own images is worth, on a GPU: ViT-B/16 on pictures of steel, at full length.

    python tools/chain.py configs/chains/neu_steel_base.py      # --jobs 8: a run on each of eight GPUs

As ``neu_steel_tiny.py``, with an encoder of the base size. Not yet run.
"""
_base_ = './neu_steel_small.py'
work_dir = 'work_dirs/neu_steel_base'
config = 'configs/pretrain/mae_vit-base-p16_neu.py'
stages = [
    dict(name='pretrain', config=config),
    dict(name='pretrain_10', config=config, cfg_options={'+train_dataloader.dataset.max_images': 423}),
]
study = dict(
    tasks=dict(
        classify='configs/classification/vit-base_neu.py',
        detect='configs/detection/vitdet_faster-rcnn_vit-base_neu.py',
        segment='configs/segmentation/upernet_vit-base_neu.py'))
del config
