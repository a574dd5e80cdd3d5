"""MAE pretraining of ViT-B/16 on ImageNet-1K with raw pixels, 800 epochs: the default of the paper's ablations.

    bash tools/dist_train.sh configs/pretrain/mae_vit-base-p16_in1k-raw.py 8

Published: after 1600 epochs (``--cfg-options train_cfg.max_iters=499200``) 83.3 % top-1 by end-to-end fine-tuning (He
et al., 2022, Table 7); after 800 for ViT-L only. The files that the authors released to look at reconstructions are of
this family.
"""
_base_ = './mae_vit-base-p16_in1k.py'
recipe = dict(name='pretrain/raw/base')
model = dict(head=dict(target=dict(norm_pix=False)))
train_cfg = dict(max_iters=249_600)
