"""Target: tokens of DALL-E's discrete VAE with cross-entropy, 85.3 % fine-tuned and 71.6 % linear (MAE, He et al.,
2022, Table 1d, ViT-L; BEiT, Bao et al., 2022). Needs mmpretrain. Here a tiny encoder with random weights, which needs
no download and teaches little; the published one: checkpoint=FILE and no encoder, see docs/targets.md.

    python tools/train.py configs/parts/target_tokens.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(head=dict(
    _delete_=True,
    type='mae_plugin.TokenPredictionHead',
    target=dict(type='mae_plugin.DALLETarget', encoder=dict(n_hid=8, n_blk_per_group=1, vocab_size=64))))
