"""End-to-end fine-tuning of a ViT-H/14 that MAE pretrained on raw pixels: the baseline recipe of the paper.

    bash tools/dist_train.sh configs/classification/vit-huge_in1k-raw.py 8

50 epochs at batch 1024 (8 GPUs x 128), the settings of He et al. (2022), Table 9. Published: 86.2 % top-1 after 1600
epochs of pretraining (Table 7); the checkpoint named here has 800, so that less is to be expected.
"""
_base_ = './vit-huge_in1k.py'
recipe = dict(name='finetune/raw/huge')
model = dict(
    backbone=dict(
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-huge-p14_in1k-raw/iter_249600.pth')))
