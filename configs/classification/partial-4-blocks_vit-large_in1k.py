"""Partial fine-tuning of MAE's ViT-L/16 on ImageNet-1K: only the last 4 of 24 blocks are trained, and the head.

    bash tools/dist_train.sh configs/classification/partial-4-blocks_vit-large_in1k.py 8

50 epochs at batch 1024 (8 GPUs x 128), otherwise the settings of full fine-tuning, for a ViT-L of 800 epochs of
pretraining on raw pixels (He et al., 2022, section 4.3 and Fig. 9). Each point of the figure is the best of 50, 100 and
200 epochs, of which is not said; fewer blocks need more. Published: of this point only that it is 2.6 % above MoCo
v3; tuning all blocks gives 84.9 %. Ours: the mean of the patch tokens is what is classified, as in full fine-tuning.
"""
_base_ = './vit-large_in1k-raw.py'
recipe = dict(name='partial/large/4')
model = dict(backbone=dict(trainable_blocks=4))
