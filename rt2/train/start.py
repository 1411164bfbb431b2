"""What a run starts from beside parameters: tokenizer, action vocabulary, preprocessing."""

from __future__ import annotations

import logging
import pathlib
import time
from collections.abc import Mapping

import jax
import ml_collections

from rt2.errors import ConfigError
from rt2.models import variants
from rt2.preprocess import Preprocess
from rt2.tokenizer import ActionVocabulary, Tokenizer
from rt2.train import init_from, inputs
from rt2.train.sources import Source

CORPUS_ROWS = 40_000  # web rows that a tokenizer is trained on
VOCABULARIES = ("integer", "overwrite")

log = logging.getLogger(__name__)


def make_preprocess(
    config: ml_collections.ConfigDict, sources: Mapping[str, Source], workdir: pathlib.Path
) -> Preprocess:
    """The preprocessing that the config and its data call for."""
    codecs = inputs.fit_codecs(sources)
    tokenizer = make_tokenizer(config, sources, workdir)
    if tokenizer.bos >= 0 and not config.prompt.bos:
        log.warning(
            "the tokenizer has a piece that begins a text, and --config.prompt.bos=False leaves it "
            "out: weights of Gemma and PaliGemma were trained with it"
        )
    specs = [codec.spec for codec in codecs.values()]
    widest = max(specs, key=lambda spec: max(spec.bins)) if specs else None
    if config.action_vocabulary not in VOCABULARIES:
        raise ConfigError(
            f"action_vocabulary={config.action_vocabulary!r}: expected one of {VOCABULARIES}"
        )
    if widest is None:
        vocabulary = ActionVocabulary("integer", ())
    elif config.action_vocabulary == "integer":
        vocabulary = ActionVocabulary.integer(tokenizer, widest)
    else:
        text = inputs.corpus(sources, CORPUS_ROWS)
        vocabulary = ActionVocabulary.overwrite(tokenizer, widest, text)
    return Preprocess(
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        codecs=codecs,
        image_size=variants.vision(config.model.variant, config.model.image_size).image_size,
        history=config.history,
        cameras=tuple(config.cameras),
        prefix_length=config.prefix_length,
        target_length=config.target_length,
        state_codecs=inputs.state_codecs(sources),
        bos=config.prompt.bos,
        suffix=config.prompt.suffix,
    )


def make_tokenizer(
    config: ml_collections.ConfigDict, sources: Mapping[str, Source], workdir: pathlib.Path
) -> Tokenizer:
    """The tokenizer of config.tokenizer.path, of init_from, or a new one kept in `workdir`."""
    kept = workdir / "tokenizer.model"
    if config.tokenizer.path:
        return Tokenizer(pathlib.Path(config.tokenizer.path).read_bytes())
    if (saved := init_from.tokenizer(config.init_from)) is not None:
        return saved
    while jax.process_index() and not kept.exists():
        time.sleep(0.5)  # process 0 trains it; if it fails, it ends this one too
    if kept.exists():
        return Tokenizer(kept.read_bytes())
    log.info("training a tokenizer of %d pieces", config.tokenizer.vocab_size)
    text = inputs.corpus(sources, CORPUS_ROWS)
    tokenizer = Tokenizer.train(text, config.tokenizer.vocab_size, config.tokenizer.sentinels)
    part = kept.with_suffix(".part")
    part.write_bytes(tokenizer.model)
    part.rename(kept)  # whole or not there, for those who wait for it
    return tokenizer
