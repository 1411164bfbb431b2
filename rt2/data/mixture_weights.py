"""Published weights of data sets in mixtures, as their sources give them."""

from collections.abc import Mapping

# RT-2 gives no weights among its web data. These are the sizes, in million examples, of the
# mixture that PaLI was pre-trained on (PaLI, its table of the mixture).
PALIX_WEB = {
    "webli": 1000,
    "webli_ocr": 100,
    "span_corruption": 100,
    "cc3m_35l": 100,
    "vq2a_cc3m": 100,
    "vqg": 100,
    "object_aware_vqa": 50,
    "object_detection": 16,
}

# Frequencies of the web data in PaLM-E's full mixture (PaLM-E, table 6).
PALME_WEB = {
    "webli": 100,
    "vq2a": 25,
    "vqg": 10,
    "cc3m": 25,
    "object_aware_vqa": 10,
    "okvqa": 1,
    "vqav2": 1,
    "coco": 1,
    "wikipedia": 1,
}

# Octo, octo/data/oxe/oxe_dataset_mixes.py, RT_X_MIX and OXE_MAGIC_SOUP.
RTX = {
    "fractal20220817_data": 0.54087122203,
    "kuka": 0.8341046294,
    "bridge_dataset": 1.0,
    "taco_play": 2.0,
    "jaco_play": 2.0,
    "berkeley_cable_routing": 3.0,
    "roboturk": 1.0,
    "nyu_door_opening_surprising_effectiveness": 5.0,
    "viola": 2.0,
    "berkeley_autolab_ur5": 1.0,
    "toto": 1.0,
}
MAGIC_SOUP = {
    "fractal20220817_data": 0.54087122203,
    "kuka": 0.8341046294,
    "bridge_dataset": 1.0,
    "taco_play": 2.0,
    "jaco_play": 1.0,
    "berkeley_cable_routing": 1.0,
    "roboturk": 2.0,
    "nyu_door_opening_surprising_effectiveness": 1.0,
    "viola": 2.0,
    "berkeley_autolab_ur5": 2.0,
    "toto": 1.0,
    "language_table": 0.1,
    "stanford_hydra_dataset_converted_externally_to_rlds": 2.0,
    "austin_buds_dataset_converted_externally_to_rlds": 1.0,
    "nyu_franka_play_dataset_converted_externally_to_rlds": 3.0,
    "furniture_bench_dataset_converted_externally_to_rlds": 0.1,
    "ucsd_kitchen_dataset_converted_externally_to_rlds": 2.0,
    "austin_sailor_dataset_converted_externally_to_rlds": 1.0,
    "austin_sirius_dataset_converted_externally_to_rlds": 1.0,
    "bc_z": 0.2,
    "dlr_edan_shared_control_converted_externally_to_rlds": 1.0,
    "iamlab_cmu_pickup_insert_converted_externally_to_rlds": 1.0,
    "utaustin_mutex": 1.0,
    "berkeley_fanuc_manipulation": 2.0,
    "cmu_stretch": 1.0,
}

WRIST_ONLY = "nyu_door_opening_surprising_effectiveness"  # no camera but the wrist's


def as_openvla(robot: Mapping[str, float], *gone: str) -> dict[str, float]:
    """OpenVLA's form of an Octo mixture: BridgeData V2 under its own name, some data sets gone."""
    names = {"bridge_dataset": "bridge_orig"}
    return {names.get(name, name): w for name, w in robot.items() if name not in gone}
