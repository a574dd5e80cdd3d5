"""MAE pretraining of timm's ViT-B/16 with four register tokens on images of your own.

    python tools/train.py configs/pretrain/mae_timm-vit-base-reg4_images.py --cfg-options \
        train_dataloader.dataset.data_root=IMAGES

``name`` is any plain vision transformer of timm, see docs/backbones.md; this one is without class token, so the four
registers are all that comes before the patches. The rest is ``mae_vit-base-p16_images.py``. No number is published for
this combination. ``configs/classification/timm-vit-base-reg4_custom.py`` fine-tunes it.
"""
_base_ = './mae_vit-base-p16_images.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mae_plugin.TimmViT',
        name='vit_base_patch16_reg4_gap_256',
        img_size=224,
        patch_size=16,
        embed_dim=768,  # this and the next two are the name's: stated to be read
        depth=12,
        num_heads=12,
        freeze_pos_embed=True))
