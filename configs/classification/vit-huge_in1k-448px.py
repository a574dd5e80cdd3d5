"""End-to-end fine-tuning of MAE's ViT-H/14 on ImageNet-1K at 448 pixels, from pretraining at 224.

    bash tools/dist_train.sh configs/classification/vit-huge_in1k-448px.py 32

50 epochs at batch 1024 (32 GPUs x 32). Published: 87.8 % top-1 (He et al., 2022, Table 3). The recipe is not
published, and the authors' scripts do not pass the size on to the model. Known (their code): positions are resampled
bicubically when the weights are loaded, and evaluation resizes to 448 and crops nothing but the longer side. All else
is that of 224 pixels, as mmpretrain guessed, which reports 87.3 % (and evaluates on 448 of 512 pixels).
"""
_base_ = './vit-huge_in1k.py'
recipe = dict(name='finetune/normalised/huge-448')
# The positions are resampled once, from the file, and trained on the larger grid.
model = dict(backbone=dict(img_size=448, init_cfg=dict(resize=True)))
train_pipeline = [
    _base_.load_image,
    dict(type='mae_plugin.TimmTransform', input_size=448, is_training=True, scale=(0.08, 1.0), interpolation='bicubic',
         hflip=0.5, color_jitter=None, auto_augment='rand-m9-mstd0.5-inc1'),
    dict(type='PackInputs'),
]
test_pipeline = [
    _base_.load_image,
    dict(type='mae_plugin.TimmTransform', input_size=448, interpolation='bicubic', crop_pct=1.0),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=32, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
