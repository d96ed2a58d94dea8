"""Two processes train one model: equal weights, different tokens, and runs that resume."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.training.distributed import ProcessGroup
from latent_ingest.connector.training.texts import Source, TrainingTexts
from latent_ingest.connector.training.trainer import Trainer

from .test_trainer import SMALL


@pytest.mark.slow
def test_two_processes_train_one_model(corpus: Path, tmp_path: Path, backbone: Backbone) -> None:
    script = Path(__file__).with_name("two_processes.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    subprocess.run(
        [*torchrun, "--standalone", script, corpus, tmp_path],
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    first, second = (torch.load(tmp_path / f"process-{rank}.pt") for rank in (0, 1))
    assert all(map(torch.equal, first["began"], second["began"]))
    ours, resumed = first["weights"]
    for other in (resumed, *second["weights"]):
        assert ours.keys() == other.keys()
        assert all(torch.equal(ours[name], other[name]) for name in ours)
    assert first["data"].shape == (SMALL.batch_tokens // 2, 384)
    assert not torch.isin(first["data"], second["data"]).all()
    alone = Trainer(backbone, TrainingTexts([Source(str(corpus))]), tmp_path / "alone", SMALL).run()
    assert first["mse"] == pytest.approx(alone.normalized_mse, rel=0.05)


def test_a_batch_that_cannot_be_shared_out_is_refused(
    corpus: Path, tmp_path: Path, backbone: Backbone
) -> None:
    texts = TrainingTexts([Source(str(corpus))])
    with pytest.raises(InputError, match="500 tokens cannot be divided evenly among 3 processes"):
        Trainer(backbone, texts, tmp_path / "m", SMALL, processes=ProcessGroup(0, 3))
