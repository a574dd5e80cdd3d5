# What all ablations of the paper share here (He et al., 2022, section 4.1), on the built-in scenes of digits. As in the
# paper, 75 % of the patches are hidden, targets are raw pixels, and the decoder has half the encoder's width. Then all
# weights are fine-tuned, or one layer on the frozen class token is trained, with 4,000 labelled scenes or more.
work_dir = 'work_dirs/ablations'
note = "A very small model on synthetic scenes: it shows the tool and tendencies, not the paper's numbers."
metrics = {'fine-tune': ('finetune', 'accuracy/top1'), 'linear': ('linear', 'accuracy/top1')}
stages = [
    dict(
        name='pretrain',
        config='configs/pretrain/mae_vit-mini-p8_digits.py',
        cfg_options={'model.masking.mask_ratio': 0.75, 'model.neck.decoder_depth': 2}),
    dict(name='finetune', config='configs/classification/vit-mini_digits.py', init_from='pretrain'),
    dict(name='linear', config='configs/classification/linear-probe_vit-mini_digits.py', init_from='pretrain'),
]


def _stage(task, root, pretrain, labelled, val, **options):
    """The data of a stage: more labels than the demo has, so that chance decides less; and more ``options``."""
    data = dict(type='digit_scenes', root=root, pretrain_train=pretrain, classification_train=labelled,
                classification_val=val, detection_train=1, detection_val=1)
    folders = [f'{root}/{task}/{split}' if task == 'pretrain' else f'{root}/{task}' for split in ('train', 'val')]
    return {
        'prepare_data': data, 'train_dataloader.dataset.data_root': folders[0],
        'val_dataloader.dataset.data_root': folders[1], **options}


def _length(iterations, saved):
    """Validated at the end."""
    return {'train_cfg.max_iters': iterations, 'train_cfg.val_interval': iterations,
            'default_hooks.checkpoint.interval': saved}


_cpu = dict(root='data/digit_scenes_ablations', pretrain=4000, labelled=4000, val=2000)
_gpu = dict(root='data/digit_scenes_large', pretrain=50_000, labelled=8000, val=4000)
# A ViT of the small width and 12 blocks; learning rates are those of the configs, for these batches.
_small = {'model.backbone.embed_dim': 384, 'model.backbone.depth': 12, 'model.backbone.num_heads': 6,
          'optim_wrapper.dtype': 'bfloat16'}
_classifier = {**_small, 'model.head.in_channels': 384, 'train_dataloader.batch_size': 128,
               'train_dataloader.num_workers': 12, 'auto_scale_lr.base_batch_size': 128}
sizes = dict(
    # About 18 minutes a cell on one core: 160,000 scenes without labels, 40 epochs, then twice 19,200 with. After 2,000
    # iterations of pretraining in place of 10,000, fine-tuning and probe stay near chance.
    cpu=dict(
        pretrain=_stage('pretrain', **_cpu, **_length(10_000, 1000)),
        finetune=_stage('classification', **_cpu, **_length(600, 300)),
        linear=_stage('classification', **_cpu, **_length(600, 300))),
    # Meant for about 6 minutes a cell on one GPU: 1,024,000 scenes without labels. Not measured yet.
    gpu=dict(
        pretrain=_stage('pretrain', **_gpu, **_length(4000, 1000), **_small, **{
            'model.neck.decoder_embed_dim': 192, 'model.neck.decoder_depth': 4, 'model.neck.decoder_num_heads': 6,
            'train_dataloader.batch_size': 256, 'train_dataloader.num_workers': 12,
            'auto_scale_lr.base_batch_size': 256}),
        finetune=_stage('classification', **_gpu, **_length(1000, 500), **_classifier),
        linear=_stage('classification', **_gpu, **_length(1000, 500), **_classifier, **{
            'model.neck.input_features': 384})))
del _stage, _length, _cpu, _gpu, _small, _classifier
