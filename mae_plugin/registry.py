"""Registries of the scope ``mae_plugin``: what a config names as ``mae_plugin.X``.

MMEngine imports this module, and then the ``locations``, when it first meets the prefix, so configs need no
``custom_imports``. Nothing here may fail to import: MMEngine swallows the ImportError and reports "not in the
registry".
"""

from mmengine import registry as mm

_SCOPE = 'mae_plugin'

MODELS = mm.Registry('model', parent=mm.MODELS, scope=_SCOPE, locations=['mae_plugin.models'])
WEIGHT_INITIALIZERS = mm.Registry(
    'weight initializer', parent=mm.WEIGHT_INITIALIZERS, scope=_SCOPE, locations=['mae_plugin.models'])

DATASETS = mm.Registry('dataset', parent=mm.DATASETS, scope=_SCOPE, locations=['mae_plugin.datasets'])
DATA_SAMPLERS = mm.Registry('data sampler', parent=mm.DATA_SAMPLERS, scope=_SCOPE, locations=['mae_plugin.datasets'])
TRANSFORMS = mm.Registry('transform', parent=mm.TRANSFORMS, scope=_SCOPE, locations=['mae_plugin.datasets'])

HOOKS = mm.Registry('hook', parent=mm.HOOKS, scope=_SCOPE, locations=['mae_plugin.engine'])
LOOPS = mm.Registry('loop', parent=mm.LOOPS, scope=_SCOPE, locations=['mae_plugin.engine'])
METRICS = mm.Registry('metric', parent=mm.METRICS, scope=_SCOPE, locations=['mae_plugin.engine'])
OPTIM_WRAPPERS = mm.Registry(
    'optimizer wrapper', parent=mm.OPTIM_WRAPPERS, scope=_SCOPE, locations=['mae_plugin.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = mm.Registry(
    'optimizer wrapper constructor', parent=mm.OPTIM_WRAPPER_CONSTRUCTORS, scope=_SCOPE,
    locations=['mae_plugin.engine'])
