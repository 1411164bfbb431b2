"""Named mixtures: which data sets, and how much of each."""

import concurrent.futures
import dataclasses
from collections.abc import Collection, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from rt2.data import remote, storage
from rt2.data.errors import DataError, nearest
from rt2.data.mixture_weights import (
    MAGIC_SOUP,
    PALIX_WEB,
    PALME_WEB,
    RTX,
    WRIST_ONLY,
    as_openvla,
)
from rt2.data.storage import Url

UNLISTED_VERSIONS = ("1.0.0", "0.1.0")  # those that the public robot sets have


@dataclasses.dataclass(frozen=True)
class NamedMixture:
    """Weights of robot and web data sets by name.

    robot_share: part of the rows that are robot data, or None where the weights alone decide.
    by_size: a weight counts for each example of the data set (Octo's and OpenVLA's
        `balance_weights`), so that equal weights finish their epochs together; otherwise for the
        data set as a whole.
    source: where the weights are published.
    """

    name: str
    robot: Mapping[str, float]
    web: Mapping[str, float]
    robot_share: float | None
    by_size: bool
    source: str

    @property
    def kinds(self) -> dict[str, str]:
        """Data set -> "robot" or "web"."""
        return dict.fromkeys(self.robot, "robot") | dict.fromkeys(self.web, "web")

    def shares(self, lengths: Mapping[str, int]) -> dict[str, Fraction]:
        """The share of each data set of `lengths`, its number of examples by name; they sum to 1.

        Data sets that are left out give their share to the others of their kind, if there are any.
        """
        kinds = self.kinds
        weights = {
            name: Fraction(str((self.robot if kinds[name] == "robot" else self.web)[name]))
            * (length if self.by_size else 1)
            for name, length in lengths.items()
        }
        sums = {"robot": Fraction(0), "web": Fraction(0)}
        for name, weight in weights.items():
            sums[kinds[name]] += weight
        if self.robot_share is None or not all(sums.values()):
            total = sum(sums.values())
            return {name: weight / total for name, weight in weights.items()}
        robot = Fraction(str(self.robot_share))
        parts = {"robot": robot, "web": 1 - robot}
        return {name: parts[kinds[name]] * w / sums[kinds[name]] for name, w in weights.items()}

    def find(
        self, data_dir: Path | str, without: Collection[str], elsewhere: Collection[str] = ()
    ) -> dict[str, str]:
        """Where the data sets lie below `data_dir`, by name.

        Those of `without` are left out, those of `elsewhere` (any names) are not looked for.
        Each is a TFDS set `data_dir`/NAME/VERSION (the newest version) or `data_dir`/NAME, or tars
        `data_dir`/NAME/*.tar. `data_dir` may be a URL; over HTTP, where folders cannot be listed,
        only NAME and NAME/VERSION with one of UNLISTED_VERSIONS are looked for. Raises DataError,
        naming all that are missing and how to leave them out, and for names in `without` that the
        mixture does not have.
        """
        for name in without:
            if name not in self.kinds:
                hint = nearest(name, self.kinds)
                raise DataError(f"mixture_without: {self.name!r} has no data set {name!r}: {hint}")
        wanted = [name for name in self.kinds if name not in {*without, *elsewhere}]
        if not wanted:
            raise DataError(
                f"no data set of the mixture {self.name!r} is left: mixture_without and "
                "config.sources name them all"
            )
        if not str(data_dir):
            raise DataError(
                f"data_dir='': the mixture {self.name!r} needs the folder or URL of its data sets"
            )
        root = storage.at(data_dir)
        found = dict(zip(wanted, _located([root / name for name in wanted]), strict=True))
        if missing := [name for name, place in found.items() if place is None]:
            raise DataError(
                f"{len(missing)} of {len(wanted)} data sets of the mixture {self.name!r} are "
                f"not in {data_dir}: {', '.join(missing)}. Put each into {data_dir}/NAME/VERSION, "
                "give it a place of its own in config.sources, or leave it out: "
                f'--config.mixture_without="{tuple([*without, *missing])}"'
            )
        return {name: str(place) for name, place in found.items()}


def _located(folders: list[Path | Url]) -> list[Path | Url | None]:
    if all(isinstance(folder, Path) for folder in folders):
        return [locate(folder) for folder in folders]
    with concurrent.futures.ThreadPoolExecutor(remote.CONCURRENCY) as pool:
        return list(pool.map(locate, folders))


def locate(folder: Path | Url) -> Path | Url | None:
    """The TFDS version folder (the newest) or the glob of tars in `folder`; None if neither."""
    if storage.exists(folder / "dataset_info.json"):
        return folder
    is_url = isinstance(folder, Url)
    names = storage.names(folder) if is_url or folder.is_dir() else []
    inside = [folder / name for name in (UNLISTED_VERSIONS if names is None else names)]
    versions = [place for place in inside if storage.exists(place / "dataset_info.json")]
    if versions:
        return max(versions, key=_version)
    return folder / "*.tar" if any(name.endswith(".tar") for name in names or ()) else None


def _version(folder: Path | Url) -> tuple[tuple[int, ...], str]:
    parts = folder.name.split(".")
    return tuple(int(part) for part in parts if part.isdecimal()), folder.name


_OCTO = "Octo, octo/data/oxe/oxe_dataset_mixes.py; `balance_weights` of its pre-training"
_OPENVLA = "OpenVLA, prismatic/vla/datasets/rlds/oxe/mixtures.py"
_KITCHEN = {"fractal20220817_data": 1.0}  # the public part of RT-2's robot data
_PALIX = "RT-2, appendices B and D (about 50 % robot data); PaLI for the web data"
_PALME = "RT-2, appendices B and D (about 66 % robot data); PaLM-E, table 6, for the web data"
_RTX_OPENVLA = as_openvla(RTX, WRIST_ONLY)
_SOUP_OPENVLA = as_openvla(MAGIC_SOUP, WRIST_ONLY, "bc_z")

MIXTURES = {
    mixture.name: mixture
    for mixture in (
        NamedMixture("rt2_palix", _KITCHEN, PALIX_WEB, 0.5, False, _PALIX),
        NamedMixture("rt2_palme", _KITCHEN, PALME_WEB, 0.66, False, _PALME),
        NamedMixture("rtx", RTX, {}, None, True, _OCTO),
        NamedMixture("oxe_magic_soup", MAGIC_SOUP, {}, None, True, _OCTO),
        NamedMixture("rtx_openvla", _RTX_OPENVLA, {}, None, True, _OPENVLA),
        NamedMixture("oxe_magic_soup_openvla", _SOUP_OPENVLA, {}, None, True, _OPENVLA),
    )
}


def get(name: str) -> NamedMixture:
    """The row `name` of MIXTURES. Raises DataError with the nearest valid name."""
    if name not in MIXTURES:
        raise DataError(f"unknown mixture {name!r}: {nearest(name, MIXTURES)}")
    return MIXTURES[name]


def from_config(name: str, row: Mapping[str, Any]) -> NamedMixture:
    """The mixture that a config's own row describes: the fields of NamedMixture but `name`.

    Raises DataError for an unknown or missing field, a weight that is not positive or a
    `robot_share` outside 0..1.
    """
    fields = [field.name for field in dataclasses.fields(NamedMixture) if field.name != "name"]
    for key in row.keys() - set(fields):
        raise DataError(f"mixture {name!r}: unknown field {key!r}: {nearest(key, fields)}")
    if missing := [field for field in fields if field not in row]:
        raise DataError(f"mixture {name!r}: missing fields: {', '.join(missing)}")
    mixture = NamedMixture(name, **row)
    for dataset, weight in {**mixture.robot, **mixture.web}.items():
        if not weight > 0:
            raise DataError(f"mixture {name!r}: the weight of {dataset} is {weight}: leave it out")
    if both := mixture.robot.keys() & mixture.web.keys():
        raise DataError(f"mixture {name!r}: {', '.join(sorted(both))} is both robot and web data")
    if mixture.robot_share is not None and not 0 < mixture.robot_share < 1:
        raise DataError(f"mixture {name!r}: robot_share={mixture.robot_share} is not in 0..1")
    return mixture
