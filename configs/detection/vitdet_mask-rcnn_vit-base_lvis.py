"""ViTDet Mask R-CNN with MAE's ViT-B/16 on LVIS v1: detectron2's recipe. Needs the package ``lvis``.

    bash tools/dist_train.sh configs/detection/vitdet_mask-rcnn_vit-base_lvis.py 8 --fit-batch accumulate

100 epochs at batch 64, 156,250 iterations; rare classes are repeated, and the loss is federated. Published: 40.2 box
AP, 38.2 mask AP (detectron2's projects/ViTDet/README.md; seeds differ by about 0.3). Data under data/lvis, or under
LVIS_ROOT=/path: annotations/lvis_v1_{train,val}.json and COCO's train2017/ and val2017/.
"""
_base_ = './vitdet_mask-rcnn_vit-base_coco.py'
recipe = dict(name='vitdet/mask-rcnn/base/lvis')
data_root = '{{$LVIS_ROOT:data/lvis}}'

train_dataloader = dict(
    sampler=dict(_delete_=True, type='mae_plugin.RepeatFactorSampler', threshold=0.001),
    dataset=dict(
        type='LVISV1Dataset',
        data_root=data_root,
        ann_file='annotations/lvis_v1_train.json',
        data_prefix=dict(img='')))  # the annotations name {train,val}2017/*.jpg
val_dataloader = dict(
    dataset=dict(
        type='LVISV1Dataset',
        data_root=data_root,
        ann_file='annotations/lvis_v1_val.json',
        data_prefix=dict(img='')))
val_evaluator = dict(
    type='mae_plugin.LVISInstanceMetric', ann_file=f'{data_root}/annotations/lvis_v1_val.json')
test_dataloader = val_dataloader
test_evaluator = val_evaluator

model = dict(
    roi_head=dict(
        bbox_head=dict(
            num_classes=1203,
            loss_cls=dict(
                _delete_=True,
                type='mae_plugin.FederatedLoss',
                ann_file=f'{data_root}/annotations/lvis_v1_train.json',
                num_sample=50,
                freq_power=0.5)),
        mask_head=dict(num_classes=1203)),
    test_cfg=dict(rcnn=dict(score_thr=0.02, max_per_img=300)))
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=False, milestones=[138_889, 150_463], gamma=0.1),
]
train_cfg = dict(max_iters=156_250, val_interval=30_000)
del data_root
