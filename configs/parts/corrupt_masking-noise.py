"""A denoising autoencoder (Vincent et al., 2008, section 2.3): a quarter of the pixels set to the mean.

All patches are seen and predicted; without the line of the masking it denoises and fills in at once.

    python tools/train.py configs/parts/corrupt_masking-noise.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(
    masking=dict(_delete_=True, type='mae_plugin.NoMasking'),
    corruption=dict(type='mae_plugin.MaskingNoise', ratio=0.25))
