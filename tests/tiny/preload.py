"""What the processes of :mod:`tiny.processes` need."""

import matplotlib.figure  # noqa: F401
import mmengine.runner  # noqa: F401
import yapf.yapflib.yapf_api  # noqa: F401

import mae_plugin.datasets.label_checks
import mae_plugin.engine
import mae_plugin.models
import mae_plugin.weights.safe_load  # noqa: F401
import tiny.stream  # noqa: F401
