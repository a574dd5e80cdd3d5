"""Width and depth of the encoder: learning rates, decoder and number of images stay the same.

    python tools/ablate.py configs/ablations/neu_size.py
"""
_base_ = './_base_/neu.py'
title = 'Encoder'
cells = {
    f'{depth} blocks of {width}': dict(
        pretrain={
            'model.backbone.embed_dim': width, 'model.backbone.num_heads': width // 64,
            'model.backbone.depth': depth},
        linear={
            'model.backbone.embed_dim': width, 'model.backbone.num_heads': width // 64,
            'model.backbone.depth': depth, 'model.neck.input_features': width, 'model.head.in_channels': width},
        segment={
            'model.backbone.embed_dim': width, 'model.backbone.num_heads': width // 64,
            'model.backbone.depth': depth, 'model.backbone.out_indices': [depth - 1], 'model.neck.in_channels': width})
    for depth, width in ((4, 192), (12, 192), (12, 384))
}
