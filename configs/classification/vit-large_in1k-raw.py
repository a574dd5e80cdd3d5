"""End-to-end fine-tuning of a ViT-L/16 that MAE pretrained on raw pixels: the baseline recipe of the paper.

    bash tools/dist_train.sh configs/classification/vit-large_in1k-raw.py 8

50 epochs at batch 1024 (8 GPUs x 128), the settings of He et al. (2022), Table 9. Published: 84.9 % top-1 after 800
epochs of pretraining (Table 1, the default of all ablations), 85.1 % after 1600 (Table 7).
"""
_base_ = './vit-large_in1k.py'
recipe = dict(name='finetune/raw/large')
model = dict(
    backbone=dict(
        drop_path_rate=0.1,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-large-p16_in1k-raw/iter_249600.pth')))
