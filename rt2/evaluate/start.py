"""Pre-trained weights as a policy that answers questions and knows no action."""

import pathlib

import jax

from rt2.inference.policy import Policy, describe
from rt2.models.build import Model
from rt2.models.weights import own
from rt2.models.weights.files import WeightsError, open_tensors
from rt2.models.weights.load import load
from rt2.preprocess import Preprocess


def load_start(file: pathlib.Path) -> Policy:
    """The policy of a file such as `experiments/pretrain/run.py` writes; WeightsError otherwise."""
    assets = own.described(open_tensors(file))
    if assets is None or "preprocess" not in assets:
        raise WeightsError(
            f"{file}: has no preprocessing beside its weights: name a start that was made from "
            "image-text data by this project, as experiments/pretrain/run.py writes it"
        )
    preprocess = Preprocess.from_json(assets["preprocess"])
    model = Model.from_json(assets["model"])
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params = load(file, model, dict.fromkeys(model.shapes, here))
    known = {**assets, "config": {"sources": {}}, "eval": {}, "step": 0}
    return Policy(model, model.apart(params), preprocess, describe(preprocess, known))
