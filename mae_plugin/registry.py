"""Registries of the scope ``mae_plugin``: what a config names as ``mae_plugin.X``.

MMEngine imports this module, and then the ``locations``, when it first meets the prefix, so configs need no
``custom_imports``. Nothing here may fail to import: MMEngine swallows the ImportError and reports "not in the
registry".
"""

from importlib import import_module

from mmengine import registry as mm

_SCOPE = 'mae_plugin'

# Parts that are made of mmpretrain's, mmdet's or mmseg's classes: their module is imported when one is first named, so
# that nothing else needs the library.
IN_LIBRARIES: dict[str, str] = {
    'BestOverlapAssigner': 'mae_plugin.integrations.mmdet',
    'BoxCascadeRoIHead': 'mae_plugin.integrations.mmdet',
    'DALLETarget': 'mae_plugin.integrations.mmpretrain',
    'FixedSizeCrop': 'mae_plugin.integrations.mmdet',
    'LVISInstanceMetric': 'mae_plugin.integrations.mmdet',
    'MixupDataPreprocessor': 'mae_plugin.integrations.mmpretrain',
    'SmallInitMaskHead': 'mae_plugin.integrations.mmdet',
}


class Registry(mm.Registry):
    """MMEngine's registry, which also finds the parts that need a library."""

    def get(self, key: str):
        """The class of a name, or None."""
        module = IN_LIBRARIES.get(key.removeprefix(f'{_SCOPE}.'))
        if module is not None:
            import_module(module)
        return super().get(key)


MODELS = Registry('model', parent=mm.MODELS, scope=_SCOPE, locations=['mae_plugin.models'])
WEIGHT_INITIALIZERS = Registry(
    'weight initializer', parent=mm.WEIGHT_INITIALIZERS, scope=_SCOPE, locations=['mae_plugin.models'])

TASK_UTILS = Registry('task util', parent=mm.TASK_UTILS, scope=_SCOPE, locations=['mae_plugin.models'])

DATASETS = Registry('dataset', parent=mm.DATASETS, scope=_SCOPE, locations=['mae_plugin.datasets'])
FUNCTIONS = Registry('function', parent=mm.FUNCTIONS, scope=_SCOPE, locations=['mae_plugin.datasets'])
DATA_SAMPLERS = Registry('data sampler', parent=mm.DATA_SAMPLERS, scope=_SCOPE, locations=['mae_plugin.datasets'])
TRANSFORMS = Registry('transform', parent=mm.TRANSFORMS, scope=_SCOPE, locations=['mae_plugin.datasets'])

HOOKS = Registry('hook', parent=mm.HOOKS, scope=_SCOPE, locations=['mae_plugin.engine'])
LOOPS = Registry('loop', parent=mm.LOOPS, scope=_SCOPE, locations=['mae_plugin.engine'])
METRICS = Registry('metric', parent=mm.METRICS, scope=_SCOPE, locations=['mae_plugin.engine'])
OPTIMIZERS = Registry('optimizer', parent=mm.OPTIMIZERS, scope=_SCOPE, locations=['mae_plugin.engine'])
OPTIM_WRAPPERS = Registry(
    'optimizer wrapper', parent=mm.OPTIM_WRAPPERS, scope=_SCOPE, locations=['mae_plugin.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor', parent=mm.OPTIM_WRAPPER_CONSTRUCTORS, scope=_SCOPE,
    locations=['mae_plugin.engine'])
MODEL_WRAPPERS = Registry('model wrapper', parent=mm.MODEL_WRAPPERS, scope=_SCOPE, locations=['mae_plugin.engine'])
STRATEGIES = Registry('strategy', parent=mm.STRATEGIES, scope=_SCOPE, locations=['mae_plugin.engine'])
