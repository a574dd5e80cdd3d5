"""MAE pretraining of ViT-L/16 on ImageNet-1K with the encoder's linear layers in fp8: not the authors' numerics.

    pip install torchao
    bash tools/dist_train.sh configs/pretrain/mae_vit-large-p16_in1k-fp8.py 8

Otherwise mae_vit-large-p16_in1k.py, whose checkpoints it reads and writes. For GPUs of sm_89 and later (Ada, Hopper);
neither speed nor accuracy was measured. See docs/distributed.md.
"""
_base_ = './mae_vit-large-p16_in1k.py'
recipe = dict(name=None)  # of nobody's
custom_hooks = [dict(type='mae_plugin.Float8Hook')]
