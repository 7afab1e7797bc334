"""What is recorded of a search: the loss of every path, as if each had been run alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks._tabular import CONTRAST, SPACES, TABULAR
from benchmarks.record_losses import UNIT, losses_file, losses_of_all, record
from stages.data.config import DataConfig
from stages.nas.config import SearchConfig
from stages.nn.supernet import Supernet


def test_each_path_has_the_loss_that_it_has_alone_in_the_order_of_all_paths() -> None:
    torch.manual_seed(0)
    supernet = Supernet(CONTRAST.space).train()
    x_NCHW, labels_N = (
        torch.randn(16, 1, 32, 32).expand(-1, CONTRAST.space.input_channels, -1, -1),
        torch.arange(16) % 10,
    )
    with torch.no_grad(), supernet.architecture_step():
        own, turned = losses_of_all(supernet, x_NCHW, (labels_N, labels_N.flip(0)))
        for number in (0, 1, 17, 100, len(CONTRAST.paths) - 1):
            logits = supernet(x_NCHW, CONTRAST.paths[number])
            assert own[number] == pytest.approx(float(functional.cross_entropy(logits, labels_N)), rel=1e-5)
            other = float(functional.cross_entropy(logits, labels_N.flip(0)))
            assert turned[number] == pytest.approx(other, rel=1e-5)
    assert len(own) == len(turned) == len(CONTRAST.paths)


def test_a_search_is_recorded_in_every_second_step_and_again_alike() -> None:
    tiny = replace(TABULAR, data=DataConfig(train_images=160, architecture_images=100))
    config = SearchConfig(warmup_epochs=1, epochs=1, batch_size=20, learning_rate=0.1, architecture_every=2)
    rows = record(tiny, 3, config)
    assert rows == record(tiny, 3, config)
    for kind in ("true", "shuffled"):
        table = UNIT * np.array(rows[kind])
        assert table.shape == (2, len(TABULAR.paths))
        assert 1.0 < table.mean() < 10.0
        assert len(np.unique(table[0])) > 50, "paths differ"


def test_a_file_that_is_there_holds_all_paths_of_its_space() -> None:
    for of in SPACES.values():
        if losses_file(of).exists():
            with np.load(losses_file(of)) as file:
                assert all(file[name].shape[1] == len(of.paths) for name in file.files)
                assert sorted(file.files)[0] == "shuffled_0"
