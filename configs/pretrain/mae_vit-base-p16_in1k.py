"""MAE pretraining of ViT-B/16 on ImageNet-1K: the recipe of the authors' released weights, normalised pixels.

    bash tools/dist_train.sh configs/pretrain/mae_vit-base-p16_in1k.py 8

1600 epochs at batch 4096: 8 GPUs x 512. With fewer, add ``--fit-batch accumulate``. Published: 83.6 % top-1 after
end-to-end fine-tuning (He et al., 2022, Table 3; four seeds of fine-tuning 83.57 +- 0.08, the authors' FINETUNE.md),
67.8 by linear probing. No labels are read: below data/imagenet, or IMAGENET_ROOT, train/ and val/ are any trees of
images.
"""
_base_ = ['../_base_/default_runtime.py', '../_base_/mae_pretrain.py']
recipe = dict(name='pretrain/normalised/base', batch_size=4096)
data_root = '{{$IMAGENET_ROOT:data/imagenet}}'
# Of 1,281,167 images 312 x 4096 are an epoch, as the authors drop the last, short batch.
train_dataloader = dict(
    batch_size=512,
    sampler=dict(epoch_multiple=4096),
    dataset=dict(data_root=f'{data_root}/train', holdout=0))
val_dataloader = dict(dataset=dict(data_root=f'{data_root}/val', holdout=0, split='train'))
test_dataloader = val_dataloader
del data_root
