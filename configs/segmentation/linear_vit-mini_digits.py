"""Digits segmented on the built-in scenes, by the encoder of ``configs/pretrain/mae_vit-mini-p8_digits.py``.

    python tools/train.py configs/segmentation/linear_vit-mini_digits.py

One linear layer on the encoder's last map: what is recognised, the encoder recognises. On so small an encoder a head as
deep as UPerNet's (``upernet_vit-mini_digits.py``) is half the network, and the start of the other half matters little.
"""
_base_ = './upernet_vit-mini_digits.py'
model = dict(
    backbone=dict(out_indices=(3, )),
    neck=dict(_delete_=True, type='mae_plugin.SimpleFeaturePyramid', in_channels=128, out_channels=64, scales=(2, ),
              extra_level=False),
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        in_channels=64,
        channels=64,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.,
        num_classes=11,
        loss_decode=dict(type='CrossEntropyLoss', class_weight=[0.1] + [1.0] * 10)),
    auxiliary_head=None)
