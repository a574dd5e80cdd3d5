"""Width of the decoder as a share of the encoder's (He et al., 2022, Table 1b: 128 to 1024 of 1024).

    python tools/ablate.py configs/ablations/decoder_width.py
"""
_base_ = './_base_/digits.py'
title = 'Decoder width, of the encoder'
cells = {
    name: dict(pretrain={'model.neck.decoder_embed_dim': dict(cpu=eighths * 16, gpu=eighths * 48)})
    for name, eighths in {'1/8': 1, '1/4': 2, '1/2': 4, '3/4': 6, '1': 8}.items()
}
paper = {
    '1/8': {'fine-tune': 84.9, 'linear': 69.1},
    '1/4': {'fine-tune': 84.8, 'linear': 71.3},
    '1/2': {'fine-tune': 84.9, 'linear': 73.5},
    '3/4': {'fine-tune': 84.4, 'linear': 73.1},
    '1': {'fine-tune': 84.3, 'linear': 73.1},
}
