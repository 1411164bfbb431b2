"""Imported random weights compute what `transformers` computes with them.

`make test` compares with recorded outputs. `make parity` (marked oracle) computes them anew with
the live package, holds the recorded ones to them and, with RECORD=1, replaces them.
"""

import json
import os
import re

import numpy as np
import pytest

TOLERANCE = 1e-4


def test_outputs_are_those_recorded(case, write, recorded):
    ours = case.run(case.load(write(case.tensors)))
    theirs = recorded(case.name)
    assert theirs.std() > 0.05
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


@pytest.mark.oracle
def test_outputs_are_those_of_transformers(case, write, recorded, record, batch):
    transformers = pytest.importorskip(
        "transformers", reason='needs .venv/bin/pip install -e ".[oracle]"'
    )
    torch = pytest.importorskip("torch", reason='needs .venv/bin/pip install -e ".[oracle]"')
    torch.manual_seed(0)
    path = write(case.tensors)
    kind, config, call = ORACLES[case.name]
    config = getattr(transformers, f"{kind[0]}Config")(**config)
    (path.parent / "config.json").write_text(json.dumps(config.to_dict()))
    model, said = getattr(transformers, kind[0] + kind[1]).from_pretrained(
        path.parent, output_loading_info=True, attn_implementation="eager", dtype=torch.float32
    )
    assert not said["unexpected_keys"] and not said["mismatched_keys"]
    assert all(re.search(r"(^|\.)(head|pooler)\.", key) for key in said["missing_keys"])
    with torch.no_grad():
        theirs = call(model.eval(), {k: torch.from_numpy(v) for k, v in batch.items()}).numpy()
    if os.environ.get("RECORD"):
        record(case.name, theirs)
    np.testing.assert_allclose(recorded(case.name), theirs, atol=1e-5)
    np.testing.assert_allclose(case.run(case.load(path)), theirs, atol=TOLERANCE)


def _seq2seq(model, x):
    return model(
        input_ids=x["prefix"].long(),
        attention_mask=x["mask"].long(),
        decoder_input_ids=x["target"].long(),
    ).logits


def _pixels(x):
    return (x["image"][:, 0].float() / 127.5 - 1).permute(0, 3, 1, 2)


def _causal(model, x):
    return model(input_ids=x["prefix"].long()).logits


def _paligemma(model, x):
    import torch

    image = torch.full((2, 9), IMAGE_TOKEN)
    ids = torch.cat([image, x["prefix"].long(), x["target"][:, :-1].long()], dim=1)
    causal = torch.arange(ids.shape[1]).ge(16).long().expand(2, -1)
    logits = model(input_ids=ids, pixel_values=_pixels(x), token_type_ids=causal).logits
    return logits[:, 15:]


IMAGE_TOKEN = 127
_T5 = dict(
    vocab_size=128,
    d_model=16,
    d_ff=24,
    num_heads=3,
    d_kv=8,
    num_layers=2,
    num_decoder_layers=3,
    feed_forward_proj="gated-gelu",
    tie_word_embeddings=False,
)
_TOWER = dict(
    hidden_size=24,
    num_hidden_layers=2,
    intermediate_size=40,
    num_attention_heads=2,
    patch_size=4,
    image_size=12,
)
_GEMMA = dict(
    vocab_size=128,
    hidden_size=16,
    intermediate_size=40,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=8,
    num_hidden_layers=2,
    pad_token_id=0,
)
_PALIGEMMA = dict(
    vision_config=_TOWER | {"model_type": "siglip_vision_model", "projection_dim": 16},
    text_config=_GEMMA | {"model_type": "gemma"},
    image_token_index=IMAGE_TOKEN,
    projection_dim=16,
)
_LM = "ForConditionalGeneration"
ORACLES = {  # (family, class), its config, how it is called
    "t5": (("T5", _LM), _T5, _seq2seq),
    "mt5": (("MT5", _LM), _T5 | {"vocab_size": 250}, _seq2seq),
    "ul2": (("T5", _LM), _T5 | {"feed_forward_proj": "gated-silu"}, _seq2seq),
    "vit": (
        ("ViT", "Model"),
        _TOWER,
        lambda model, x: model(pixel_values=_pixels(x)).last_hidden_state[:, 1:],
    ),
    "siglip": (
        ("SiglipVision", "Model"),
        _TOWER,
        lambda model, x: model(pixel_values=_pixels(x)).last_hidden_state,
    ),
    "gemma": (("Gemma", "ForCausalLM"), _GEMMA, _causal),
    "paligemma": (("PaliGemma", _LM), _PALIGEMMA, _paligemma),
}
