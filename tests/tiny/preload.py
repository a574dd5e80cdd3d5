"""What the processes of :mod:`tiny.processes` need."""

import matplotlib.figure
import mmengine._strategy
import mmengine.runner
import yapf.yapflib.yapf_api  # noqa: F401

import mae_plugin.datasets.label_checks
import mae_plugin.engine
import mae_plugin.models
import mae_plugin.weights.safe_load  # noqa: F401
