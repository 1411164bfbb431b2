"""The rows of a config's sources: its own, and those that a named mixture stands for."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import ml_collections

from rt2.data import mixtures, specs
from rt2.data.errors import DataError


def named_mixture(config: ml_collections.ConfigDict) -> mixtures.NamedMixture | None:
    """The mixture of config.mixture, from the config's own rows or the shipped table."""
    if not config.mixture:
        return None
    if config.mixture in config.mixtures:
        return mixtures.from_config(config.mixture, config.mixtures[config.mixture].to_dict())
    return mixtures.get(config.mixture)


def training_rows(config: ml_collections.ConfigDict) -> dict[str, ml_collections.ConfigDict]:
    """Name -> row of every source to train on: config.sources with a share, then the mixture's.

    A data set of the mixture that config.sources names too is read as config.sources says. Raises
    DataError where data sets of the mixture, or their dataset specs, are missing.
    """
    rows = {name: row for name, row in config.sources.items() if row.share != 0}
    mixture = named_mixture(config)
    if mixture is None:
        return rows
    places = mixture.find(config.data_dir, config.mixture_without, elsewhere=config.sources)
    kinds = mixture.kinds
    robot = [name for name in places if kinds[name] == "robot"]
    if unknown := [name for name in robot if name not in {*specs.SPECS, *config.dataset_specs}]:
        raise DataError(
            f"no dataset spec for {', '.join(unknown)} of the mixture {mixture.name!r}: add rows "
            "to config.dataset_specs (`python -m rt2.data.inspect DIR` proposes them), or leave "
            f'them out: --config.mixture_without="{tuple([*config.mixture_without, *unknown])}"'
        )
    for name, place in places.items():
        is_robot = kinds[name] == "robot"
        template = config.mixture_robot if is_robot else config.mixture_web
        row = template.copy_and_resolve_references()
        row.path, row.spec = place, name if is_robot else ""
        if place.endswith(".tar"):
            row.split = ""
        rows[name] = row
    return rows


def shares(
    config: ml_collections.ConfigDict, lengths: Mapping[str, int]
) -> dict[str, float | Fraction]:
    """The share of every source of `lengths`, its rows by name.

    Without a named mixture: those of config.sources, on any scale. With one: those of
    config.sources are parts of 1, and the mixture has the rest.
    """
    own = {name: config.sources[name].share for name in lengths if name in config.sources}
    mixture = named_mixture(config)
    if mixture is None:
        return own
    rest = 1 - sum(Fraction(str(share)) for share in own.values())
    if rest <= 0:
        raise DataError(
            f"config.sources have {own} of 1: nothing is left for the mixture {mixture.name!r}"
        )
    members = {name: length for name, length in lengths.items() if name not in own}
    mixed = mixture.shares(members)
    return {
        name: Fraction(str(own[name])) if name in own else rest * mixed[name] for name in lengths
    }
