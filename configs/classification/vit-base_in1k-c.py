"""A ViT-B/16 fine-tuned on ImageNet-1K, tested on ImageNet-C: 15 corruptions in 5 severities.

    python tools/test.py configs/classification/vit-base_in1k-c.py work_dirs/vit-base_in1k/iter_125100.pth

75 times the 50,000 images of validation, below data/imagenet-c in any folders that end in
<corruption>/<severity>/<synset>. They are stored at 224 pixels and are taken as they are, as the set's authors do;
which transforms MAE's authors had is not published. Published mean corruption error, relative to AlexNet's, lower is
better (He et al., 2022, Table 13): ViT-B 51.7, L 41.8, H 33.8, H at 448 pixels 36.8 %. For L and H, a config with
``_base_`` './vit-large_in1k.py' or './vit-huge_in1k.py' instead, the rest as here; at 448 pixels without the pipeline.
"""
_base_ = './vit-base_in1k.py'
recipe = dict(_delete_=True, batch_size=1024)  # not the published test
test_pipeline = [
    _base_.load_image,
    dict(type='mae_plugin.TimmTransform', input_size=224, interpolation='bicubic', crop_pct=1.0),
    dict(type='PackInputs'),
]
test_dataloader = dict(
    dataset=dict(data_root='data/imagenet-c', data_prefix='', with_label=False, pipeline=test_pipeline))
test_evaluator = dict(_delete_=True, type='mae_plugin.MeanCorruptionError')
