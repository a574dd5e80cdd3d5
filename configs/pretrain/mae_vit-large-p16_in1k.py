"""MAE pretraining of ViT-L/16 on ImageNet-1K, otherwise as ViT-B, normalised pixels.

    bash tools/dist_train.sh configs/pretrain/mae_vit-large-p16_in1k.py 8

Cost: 800 of the 1600 epochs took the authors 42 hours on 64 V100 (their PRETRAIN.md). Published: 85.9 % top-1 after
end-to-end fine-tuning (He et al., 2022, Table 3; four seeds +- 0.07, FINETUNE.md); after 800 epochs 85.4 (Table 1d).
"""
_base_ = './mae_vit-base-p16_in1k.py'
recipe = dict(name='pretrain/normalised/large')
model = dict(backbone=dict(embed_dim=1024, depth=24, num_heads=16))
