"""CrossMAE pretraining (Fu et al., 2024, arXiv 2401.14391) of ViT-B/16 on ImageNet-1K.

    bash tools/dist_train.sh configs/pretrain/crossmae_vit-base-p16_in1k.py 8

800 epochs at batch 4096. A quarter of the patches is predicted, of three quarters that are hidden. The base learning
rate is MAE's, 1.5e-4, times predicted over hidden patches: 5e-5. All hidden patches: ``--cfg-options
model.masking.pred_ratio=None optim_wrapper.optimizer.lr=1.5e-4``. Published for ViT-B: 83.7 % top-1 after end-to-end
fine-tuning, over prediction ratios from 0.25 to 0.75; to which of them the number belongs, and the parts of the recipe
named here as MAE's, were not checked against the authors' code.
"""
_base_ = './mae_vit-base-p16_in1k.py'
recipe = dict(name=None)
model = dict(
    backbone=dict(out_indices=list(range(12))),
    masking=dict(pred_ratio=0.25),
    neck=dict(_delete_=True, type='mae_plugin.CrossMAEDecoder', decoder_embed_dim=512, decoder_depth=12,
              decoder_num_heads=16))
optim_wrapper = dict(optimizer=dict(lr=5e-5))
train_cfg = dict(max_iters=249_600)  # 800 epochs of 312
