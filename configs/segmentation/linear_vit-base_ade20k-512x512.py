"""A linear layer on the frozen ViT-B/16 of MAE, on ADE20K: a cheap probe of what patches know.

    bash tools/dist_train.sh configs/segmentation/linear_vit-base_ade20k-512x512.py 8 --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-base-p16_in1k/iter_499200.pth

40,000 iterations at batch 16, without gradients in the encoder. Ours; MAE's authors publish no number. As in their
linear probe of classification, what the layer sees is normalised without affine parameters (BatchNorm), and nothing of
the encoder is trained: no relative position, no layer scale.
"""
_base_ = './upernet_vit-base_ade20k-512x512.py'
recipe = dict(_delete_=True, batch_size=16)
model = dict(
    backbone=dict(trainable_blocks=0, out_indices=(11, ), init_values=None, drop_path_rate=0., rel_pos=None),
    neck=dict(_delete_=True, type='mae_plugin.BatchNormMap', in_channels=768),
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        in_channels=768,
        channels=768,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.,
        num_classes=150,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss')),
    auxiliary_head=None)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.), optimizer=dict(lr=1e-3, weight_decay=1e-4))
train_cfg = dict(max_iters=40_000, val_interval=4000)
