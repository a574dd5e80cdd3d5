work_dir = 'work_dirs/tiny_chain'
_config = 'tests/tiny/tiny_config.py'
_init = {'model.backbone.init_cfg': dict(type='Pretrained', checkpoint='')}
stages = [
    dict(name='prepare', command=['python', '-c', 'print("prepared")']),
    dict(name='pretrain', config=_config, cfg_options={'train_cfg.max_iters': 4}),
    dict(name='detect', config=_config, cfg_options=_init, init_from='pretrain'),
    dict(name='scratch', config=_config),
]
