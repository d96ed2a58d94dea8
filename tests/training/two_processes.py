"""What each process of test_distributed.py does: an interrupted and a whole run.

torchrun --nproc-per-node 2 two_processes.py CORPUS FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from test_trainer import SMALL

from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.training import embeddings
from latent_ingest.connector.training.distributed import ProcessGroup
from latent_ingest.connector.training.metrics import TrainingProgress
from latent_ingest.connector.training.optimization import Optimization
from latent_ingest.connector.training.texts import Source, TrainingTexts
from latent_ingest.connector.training.trainer import Trainer


def main(corpus: str, folder: Path) -> None:
    embeddings.TEXTS_PER_BLOCK = 8
    device = torch.device("cpu")
    processes = ProcessGroup.join(device)
    backbone = Backbone.load(device="cpu", dtype="float32")

    def start(name: str, *, resume: bool = False, stop_after: int = 0) -> Trainer:
        def stop(progress: TrainingProgress) -> None:
            if progress.step == stop_after:
                trainer.stop()

        trainer = Trainer(
            backbone,
            TrainingTexts([Source(corpus)]),
            folder / name,
            SMALL,
            resume=resume,
            processes=processes,
            on_step=stop,
        )
        return trainer

    optimization = Optimization(backbone, SMALL, processes)
    texts = list(TrainingTexts([Source(corpus)]).round())[processes.rank :: 2]
    optimization.initialize(embeddings.embedded(backbone, texts[:20]))
    began = [each.detach().clone() for each in optimization.objective.parameters()]
    whole = start("whole")
    report = whole.run()
    try:
        start("cut", stop_after=5).run()
    except KeyboardInterrupt:
        resumed = start("cut", resume=True)
    resumed.run()
    weights = [trainer._optimization.objective.state_dict() for trainer in (whole, resumed)]
    data = next(resumed._batches)
    torch.save(
        {"weights": weights, "data": data, "mse": report.normalized_mse, "began": began},
        folder / f"process-{processes.rank}.pt",
    )
    processes.leave()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
