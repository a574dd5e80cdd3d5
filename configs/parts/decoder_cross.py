"""CrossMAE's decoder (Fu et al., 2024): mask tokens look at features of all blocks of the encoder, and at no other.

    python tools/train.py configs/parts/decoder_cross.py

A third of the hidden patches is predicted; the learning rate follows that share, as in the paper.
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(
    backbone=dict(out_indices=(0, 1, 2, 3)),
    masking=dict(mask_ratio=0.75, pred_ratio=0.25),
    neck=dict(_delete_=True, type='mae_plugin.CrossMAEDecoder', decoder_embed_dim=64, decoder_depth=4,
              decoder_num_heads=2))
optim_wrapper = dict(optimizer=dict(lr=1e-3 / 3))
