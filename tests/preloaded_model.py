"""The shipped model and the command, loaded once in the process that the others are forked from."""

import torch

import latent_ingest.cli.commands.indexing.ingest  # noqa: F401 - the children find it loaded
from latent_ingest.connector.encoding.encoder import LatentEncoder

torch.set_num_threads(1)  # a pool of threads would not survive the fork
ENCODER = LatentEncoder.load(device="cpu", dtype="float32")
