# MAE with ViT-B/16 at 224 px (He et al., 2022). Sizes of the image, the patch and the channels are given once, here on
# the backbone; decoder and target get them from there.
model = dict(
    type='mae_plugin.MaskedAutoencoder',
    data_preprocessor=dict(
        type='mae_plugin.MAEDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type='mae_plugin.PlainViT',
        img_size=224,
        patch_size=16,
        in_chans=3,
        embed_dim=768,
        depth=12,
        num_heads=12,
        freeze_pos_embed=True),
    masking=dict(type='mae_plugin.RandomMasking', mask_ratio=0.75),
    neck=dict(type='mae_plugin.MAEDecoder', decoder_embed_dim=512, decoder_depth=8, decoder_num_heads=16),
    head=dict(
        type='mae_plugin.PixelReconstructionHead', target=dict(type='mae_plugin.PixelTarget', norm_pix=True)))
