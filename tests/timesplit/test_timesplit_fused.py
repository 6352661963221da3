"""BatchNorm in a layer's kernel, with statistics over several processes: SyncBatchNorm, and time splitting."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests import split_fused as jobs
from tfexplore import LIF, FoldTime, fuse, timesplit


@pytest.mark.parametrize("uneven", [False, True], ids=["", "uneven"])
def test_sync_batch_norm_of_two_processes_is_one_of_all(crews, uneven) -> None:
    for found in crews(2, 60).run(jobs.synchronised, uneven):
        assert max(found.values()) < 1e-10, found


@pytest.mark.parametrize("size", [1, 3])
def test_a_fused_network_split_in_time_is_the_network(crews, size) -> None:
    if size == 1:
        with timesplit.ranks() as alone:
            of_ranks = [jobs.split_apart(alone)]
    else:
        of_ranks = crews(size, 60).run(jobs.split_apart)
    for found in of_ranks:
        assert max(found) < 1e-10, found


def test_one_value_for_each_channel_names_the_module() -> None:
    net = fuse(nn.Sequential(FoldTime(nn.BatchNorm1d(2)), LIF()))
    with timesplit.ranks() as alone:
        split = timesplit.TimeSplit(net, ranks=alone)
        with pytest.raises(
            ValueError, match=r"^'0\.0' has one value per channel over all ranks, so no variance; give it more, or use "
        ):
            split(torch.ones(1, 1, 2))
