"""A denoising autoencoder (Vincent et al., 2010, section 3.3): a quarter of the pixels black or white.

All patches are seen and predicted; without the line of the masking it denoises and fills in at once.

    python tools/train.py configs/parts/corrupt_salt-and-pepper.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(
    masking=dict(_delete_=True, type='mae_plugin.NoMasking'),
    corruption=dict(type='mae_plugin.SaltAndPepper', ratio=0.25))
