import dataclasses
import re

import pytest
from jax.sharding import AbstractMesh

from rt2.errors import ConfigError
from rt2.models import variants
from rt2.models.build import Model
from rt2.models.decoder_only import DecoderConfig
from rt2.models.pali import PaliConfig
from rt2.models.palme import PalmeConfig
from rt2.train.sharding import MESH_AXES, STRATEGIES, parameter_shardings

# facts of the papers: exact sums over the published sizes, no head and no pooling
VISION = {
    "B/16": 85_797_120,
    "ViT-B/16": 85_797_120 + 768,
    "L/16": 303_299_584,
    "So400m/14": 412_442_352,
    "g/14": 1_011_199_616,
    "G/14": 1_842_772_352,
    "e/14": 3_805_417_728,
    "22B/14": 21_750_251_520,
}
TEXT = {
    "T5 base": 247_577_856,
    "T5 large": 783_150_080,
    "T5 XL": 2_849_757_184,
    "T5 XXL": 11_135_332_352,
    "mT5 base": 582_401_280,
    "mT5 large": 1_229_581_312,
    "mT5 XL": 3_742_619_648,
    "mT5 XXL": 12_921_057_280,
    "UL2-3B": 2_849_757_184,
    "UL2-20B": 19_591_209_984,
    "UL2 50+50": 32_248_939_520,
    "PaLM-8B": 8_632_012_800,
    "Gemma-2B": 2_508_531_712,
}
ASSEMBLIES = {
    "base": ("B/16", "T5 base"),
    "base_vit": ("ViT-B/16", "T5 base"),
    "pali_3b": ("G/14", "mT5 large"),
    "pali3_5b": ("G/14", "UL2-3B"),
    "palix_55b": ("22B/14", "UL2 50+50"),
    "palme_12b": ("e/14", "PaLM-8B"),
    "paligemma_3b": ("So400m/14", "Gemma-2B"),
}


def make(variant, vocab=32_100, image_size=0):
    return Model(
        variants.config(variant, vocab=vocab, dtype="bfloat16", remat="full", image_size=image_size)
    )


def count(model, part):
    return sum(s.size for path, s in model.shapes.items() if path.startswith(part))


@pytest.mark.parametrize("name", VISION)
def test_vision_towers_have_the_published_number_of_parameters(name):
    model = Model(PaliConfig(variants.VISION[name], variants.TEXT["T5 base"]))
    assert count(model, "vision/") == VISION[name]


@pytest.mark.parametrize("name", TEXT)
def test_text_models_have_the_published_number_of_parameters(name):
    text = variants.TEXT[name]
    family = PalmeConfig if isinstance(text, DecoderConfig) else PaliConfig
    model = Model(family(variants.VISION["B/16"], text))
    assert count(model, "text/") == TEXT[name]


@pytest.mark.parametrize("name", ASSEMBLIES)
def test_assemblies_are_their_parts_and_a_projection(name, project):
    model = make(name)
    tower, text = ASSEMBLIES[name]
    narrow, wide = model.config.vision.width, model.config.text.width
    assert model.size == VISION[tower] + TEXT[text] + (narrow + 1) * wide
    assert Model.from_json(model.to_json()) == model
    for text in (variants.__doc__, (project / "README.md").read_text("utf-8")):
        assert re.search(rf"\| `{name}` .* {model.size:,} ", text)


def test_the_blocks_of_vit_22b_alone_are_its_published_count():
    model = Model(PaliConfig(variants.VISION["22B/14"], variants.TEXT["T5 base"]))
    blocks = {path: s.size for path, s in model.shapes.items() if path.startswith("vision/blocks/")}
    assert sum(n for path, n in blocks.items() if path.endswith("kernel")) == 48 * 12 * 6144**2
    biased = {path.split("/")[2] for path in blocks if path.endswith("bias")}
    assert biased == {"mlp"}


@pytest.mark.parametrize("name", variants.VARIANTS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_array_of_every_variant_can_be_laid_out(name, strategy):
    mesh = AbstractMesh((1, 16, 4), MESH_AXES)
    model = make(name)
    placed = parameter_shardings(model, strategy, mesh)
    if strategy == "fsdp+tp" and model.size > 1e9:  # all but vectors, MQA's keys, odd widths
        whole = sum(
            model.shapes[path].size for path, where in placed.items() if not any(where.spec)
        )
        assert whole < 0.001 * model.size


def test_every_part_is_counted_and_every_assembly_is_known():
    own = {"debug", "mini", "tiny", "small"}
    assert set(VISION) | own | {"siglip_debug"} == set(variants.VISION)
    assert set(TEXT) | own | {"palme_debug", "gemma_debug"} == set(variants.TEXT)
    assert set(ASSEMBLIES) | own | {"palme_debug", "paligemma_debug"} == set(variants.VARIANTS)


def test_a_published_table_keeps_its_rows_and_a_larger_tokenizer_extends_it():
    rows = {vocab: make("base", vocab).shapes["text/embedding"].shape[0] for vocab in (6000, 32500)}
    assert rows == {6000: 32_128, 32500: 32_512}
    assert make("base", 6000).config.text.vocab == 6000
    assert make("tiny", 6000).shapes["text/embedding"].shape[0] == 6016


def test_any_resolution_that_the_patches_fill():
    assert make("pali_3b", image_size=448).shapes["vision/position"].shape == (1024, 1664)
    with pytest.raises(ConfigError, match="294, 308"):
        make("pali_3b", image_size=300)
    with pytest.raises(ConfigError, match="nearest: 14"):
        make("pali_3b", image_size=-5)


def test_the_class_token_is_one_more_parameter():
    tower = dataclasses.replace(variants.VISION["debug"], class_token=True)
    model = Model(PaliConfig(tower, dataclasses.replace(variants.TEXT["debug"], vocab=256)))
    assert model.shapes["vision/class_token"].shape == (32,)


def test_unknown_variant_names_the_nearest():
    with pytest.raises(ConfigError, match="'palix_55b'"):
        variants.vision("palix55b", 0)
