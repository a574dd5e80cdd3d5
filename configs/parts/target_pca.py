"""Target: the 96 largest coefficients of each patch, 84.6 % fine-tuned and 72.3 % linear (MAE, He et al., 2022,
Table 1d, ViT-L: principal components of the training images).

Here those of the cosine transform, which need no data; with principal components as in the paper:

    python tools/fit_pca.py configs/parts/target_pca.py --out work_dirs/pca_digits.npz
    python tools/train.py configs/parts/target_pca.py --cfg-options model.head.target.basis=work_dirs/pca_digits.npz
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(head=dict(target=dict(_delete_=True, type='mae_plugin.PCATarget', components=96, basis='dct')))
