"""MAE pretraining of ViT-B/16 on ImageNet-1K: the recipe of the authors' released weights.

    bash tools/dist_train.sh configs/pretrain/mae_vit-base-p16_in1k.py 8

1600 epochs at batch 4096 (8 GPUs x 512), normalised pixels. Published: 83.6 % top-1 after end-to-end fine-tuning
(He et al., 2022, Table 3; four seeds 83.57 +- 0.08). ``data_root`` is any folder of images; no labels are read.
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/pretrain_224.py', '../_base_/models/mae_vit-base.py',
    '../_base_/schedules/pretrain.py'
]
# The authors' iterations: they drop the last, short batch of an epoch, so 1600 epochs are 1600 x 312 = 499,200, and 40
# of warm-up are 12,480. The keyed stream drops nothing: the same iterations see each image 1,596 times.
train_dataloader = dict(batch_size=512, dataset=dict(data_root='data/imagenet/train', holdout=0))
val_dataloader = dict(dataset=dict(data_root='data/imagenet/val', holdout=0, split='train'))
test_dataloader = dict(dataset=dict(data_root='data/imagenet/val', holdout=0, split='train'))
