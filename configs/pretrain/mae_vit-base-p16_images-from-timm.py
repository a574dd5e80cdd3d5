"""MAE pretraining on images of your own, the encoder started from weights of timm, the decoder afresh.

    python tools/train.py configs/pretrain/mae_vit-base-p16_images-from-timm.py --cfg-options \
        train_dataloader.dataset.data_root=IMAGES

``timm://NAME`` is any plain ViT of timm with class token and one position for each patch; timm downloads it. Another
one may want another ``data_preprocessor``: if so, the run stops with the mean and standard deviation that it was
trained with. The length and the learning rate are ours; no number is published.
"""
_base_ = './mae_vit-base-p16_images-continue.py'
model = dict(
    init_cfg=None,
    backbone=dict(
        init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint='timm://vit_base_patch16_224.augreg_in21k')),
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]))
