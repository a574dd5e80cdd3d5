"""Scaling on paper, against numbers worked out by hand."""

import pytest
from tiny.tools import ROOT, run_tool  # noqa: F401

from mae_plugin.benchmark.scaling import Cluster, Model, all_reduce, compute_bound_until, gpu_hours, step

MODEL = Model('tiny', parameters=25e6, images_per_second=1000., fixed=.01)  # 100 MB of gradients
CLUSTER = Cluster(gpus_per_node=4, nvlink=100e9, network=10e9, latency=1e-3, bucket=25e6, loader=8000.)


def test_one_gpu_exchanges_nothing():
    found = step(MODEL, 1, 100, CLUSTER)
    assert (found.exchange, found.limit) == (0, 'compute')
    assert found.seconds == pytest.approx(.11) and found.efficiency == pytest.approx(1 / 1.1)


def test_an_all_reduce_within_and_between_nodes():
    assert all_reduce(100e6, 4, CLUSTER) == pytest.approx(2 * 3 / 4 * 1e-3)
    # two nodes: each GPU's quarter over the network, and one message there and one back
    assert all_reduce(100e6, 8, CLUSTER) == pytest.approx(1.5e-3 + 2 * 1 / 2 * 2.5e-3 + 2e-3)


def test_the_last_bucket_is_always_exposed_and_more_when_the_backward_pass_is_short():
    long, short = step(MODEL, 4, 300, CLUSTER), step(MODEL, 4, 1.5, CLUSTER)
    assert long.exchange == pytest.approx(1.5e-3) and long.exposed == pytest.approx(1.5e-3 / 4)
    assert short.exposed == pytest.approx(1.5e-3 - 2 / 3 * 1.5e-3)


def test_what_limits():
    assert step(MODEL, 4, 300, CLUSTER).limit == 'compute'
    assert step(MODEL, 4, 2, CLUSTER).limit == 'update'
    assert step(MODEL, 4096, 2, CLUSTER).limit == 'gradients'
    slow = Cluster(gpus_per_node=4, loader=400.)
    found = step(MODEL, 8, 300, slow)
    assert found.limit == 'loader' and found.seconds == pytest.approx(300 / 100)  # a GPU's share: 100 images/s


def test_cost_and_reach():
    assert gpu_hours(MODEL, 3_600_000, 1, 100, CLUSTER) == pytest.approx(1.1)
    assert gpu_hours(MODEL, 3_600_000, 4, 300, CLUSTER) == pytest.approx((.31 + 1.5e-3 / 4) / .3)
    assert compute_bound_until(MODEL, 100, CLUSTER) == 2  # at 4, 25 ms of 36


def test_the_tables_of_the_documentation_are_what_the_tool_prints(run_tool):  # noqa: F811
    code, out, err = run_tool('benchmark', 'scaling')
    assert code == 0, err
    assert (ROOT / 'docs' / 'scaling.md').read_text().endswith(out)
    code, out, _ = run_tool('benchmark', 'scaling', '--images-per-second', 6000, 3000, 1500, '--gpus', 8)
    assert code == 0 and 'ViT-B/16 6,000 images/s' in out and '(measured)' in out
