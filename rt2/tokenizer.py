"""Text <-> token ids, and action bins <-> token ids.

The project's own tokenizer is a SentencePiece model trained on the text of its shards, with the
integers 0..999 as single pieces, as PaLI-X's has (RT-2, section 3.2). Ids 0 and 1 are pad and end,
as in T5, PaLM and Gemma; an encoder-decoder starts from pad. What else is special (unknown, the
beginning of a text) is read from the model. Sentinels of span corruption are control pieces: no
text can produce them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import sentencepiece

from rt2.actions import ActionSpec
from rt2.errors import UserError

PAD, EOS = 0, 1
_UNKNOWN = 2  # of a tokenizer that is trained here
INTEGERS = 1000
_SENTINEL = "<extra_id_{}>"


class TokenizerError(UserError):
    """Text that does not fit, or a vocabulary that cannot carry the actions."""


class Tokenizer:
    """A SentencePiece model, held as its serialised bytes."""

    def __init__(self, model: bytes):
        self.model = model
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        ids = (self._pieces.pad_id(), self._pieces.eos_id())
        if ids != (PAD, EOS):
            raise TokenizerError(
                f"pad and end are {ids}, expected {(PAD, EOS)}: the models here take 0 for padding "
                "and 1 for the end, as T5, PaLM and Gemma do. Train the SentencePiece model with "
                "pad_id=0, eos_id=1"
            )

    def __reduce__(self):
        return Tokenizer, (self.model,)

    @classmethod
    def train(cls, text: Iterable[str], vocab_size: int, sentinels: int = 0) -> Tokenizer:
        """A tokenizer of at most `vocab_size` pieces for `text`, 0..999 being one piece each.

        `sentinels` of the pieces are kept for span corruption (T5 has 100).
        """
        if vocab_size <= INTEGERS + sentinels + 3:
            raise TokenizerError(f"vocab_size {vocab_size} leaves no room beside 0..999")
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text),
            model_writer=model,
            vocab_size=vocab_size,
            model_type="bpe",
            character_coverage=1.0,
            hard_vocab_limit=False,
            user_defined_symbols=[f"▁{i}" for i in range(INTEGERS)],
            control_symbols=[_SENTINEL.format(i) for i in range(sentinels)],
            pad_id=PAD,
            eos_id=EOS,
            unk_id=_UNKNOWN,
            bos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
        return cls(model.getvalue())

    @property
    def size(self) -> int:
        """Number of pieces."""
        return self._pieces.get_piece_size()

    @property
    def digest(self) -> str:
        """SHA-256 of the model: two runs with the same digest read text alike."""
        return hashlib.sha256(self.model).hexdigest()

    @property
    def unknown(self) -> int:
        """The id of what the model has no piece for."""
        return self._pieces.unk_id()

    @property
    def bos(self) -> int:
        """The id that begins a text, -1 where the model has none (T5)."""
        return self._pieces.bos_id()

    @property
    def reserved(self) -> frozenset[int]:
        """Ids that stand for no piece of text: control pieces, unknown, sentinels, single bytes."""
        pieces = self._pieces
        kinds = (pieces.is_control, pieces.is_unknown, pieces.is_byte)
        special = {i for i in range(self.size) if any(is_kind(i) for is_kind in kinds)}
        return frozenset(special | set(self.sentinels))

    @property
    def sentinels(self) -> tuple[int, ...]:
        """The ids that stand for hidden spans, in order; none where the model has no such piece."""
        found = []
        while (i := self._pieces.piece_to_id(_SENTINEL.format(len(found)))) != self.unknown:
            found.append(i)
        return tuple(found)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without an end token."""
        return self._pieces.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` up to the first end token; pad is skipped."""
        ids = [int(i) for i in ids]
        ids = ids[: ids.index(EOS)] if EOS in ids else ids
        return self._pieces.decode([i for i in ids if i != PAD])

    def padded(
        self, text: str, length: int, *, begin: bool = False, end: bool = False
    ) -> np.ndarray:
        """int32 [length] ids of `text`, padded with 0; raises TokenizerError rather than cut.

        `begin` and `end` say whether the pieces of that name stand around it.
        """
        ids = [self.bos] * begin + self.encode(text) + [EOS] * end
        if len(ids) > length:
            raise TokenizerError(
                f"{len(ids)} tokens do not fit in {length}: {text!r}. Raise the prefix_length or "
                "target_length of the config, or shorten the text"
            )
        return np.array(ids + [PAD] * (length - len(ids)), np.int32)


@dataclasses.dataclass(frozen=True)
class ActionVocabulary:
    """Which token stands for bin k, the same for every slot: `ids[k]`.

    `integer`: the token of the integer k (PaLI-X). `overwrite`: the least frequent tokens, whose
    meaning as text is given up (PaLM-E).
    """

    kind: str
    ids: tuple[int, ...]

    def __post_init__(self):
        if len(set(self.ids)) != len(self.ids):
            raise TokenizerError("two bins share a token id: actions would not be decodable")
        if {PAD, EOS} & set(self.ids):
            raise TokenizerError("a bin is mapped to pad or end")

    @classmethod
    def integer(cls, tokenizer: Tokenizer, spec: ActionSpec) -> ActionVocabulary:
        """Bin k is the token of the integer k; raises TokenizerError where k is not one token."""
        pieces = [tokenizer.encode(str(k)) for k in range(max(spec.bins))]
        split = [k for k, ids in enumerate(pieces) if len(ids) != 1 or ids[0] == tokenizer.unknown]
        if split:
            raise TokenizerError(
                f"the integers {split[:5]}... are not single tokens of this tokenizer: "
                "use --config.action_vocabulary=overwrite"
            )
        return cls("integer", tuple(ids[0] for ids in pieces))

    @classmethod
    def overwrite(
        cls, tokenizer: Tokenizer, spec: ActionSpec, corpus: Iterable[str]
    ) -> ActionVocabulary:
        """The ids that `corpus` uses least, the highest first among equals; none that is reserved.

        Raises TokenizerError where the tokenizer has fewer.
        """
        counts: Counter[int] = Counter()
        for text in corpus:
            counts.update(tokenizer.encode(text))
        candidates = set(range(tokenizer.size)) - tokenizer.reserved
        bins = max(spec.bins)
        if len(candidates) < bins:
            raise TokenizerError(
                f"{len(candidates)} pieces of this tokenizer are text, {bins} bins need one each: "
                "take a larger one, or fewer bins"
            )
        rarest = sorted(candidates, key=lambda i: (counts[i], -i))[:bins]
        return cls("overwrite", tuple(rarest))

    def tokens(self, bins: np.ndarray) -> np.ndarray:
        """Token ids int32, of the shape of `bins`."""
        return np.array(self.ids, np.int32)[bins]

    def bins(self, tokens: np.ndarray) -> np.ndarray:
        """Bins int32, of the shape of `tokens`; raises TokenizerError on a non-action token."""
        lookup = {token: k for k, token in enumerate(self.ids)}
        tokens = np.asarray(tokens)
        try:
            flat = [lookup[int(token)] for token in tokens.reshape(-1)]
        except KeyError as error:
            raise TokenizerError(f"token {error} stands for no action bin") from None
        return np.array(flat, np.int32).reshape(tokens.shape)

    def allowed(self, spec: ActionSpec) -> np.ndarray:
        """The grammar of an action as token ids: int32 [slots, max bins], -1 where unused."""
        table = np.full((len(spec.slots), max(spec.bins)), -1, np.int32)
        for row, count in zip(table, spec.bins, strict=True):
            row[:count] = self.ids[:count]
        return table
