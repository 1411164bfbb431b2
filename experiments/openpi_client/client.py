"""Asks a server through the unmodified openpi-client package; prints a JSON object of findings.

Runs in an environment of its own, which has openpi-client and not this project:
python client.py PORT REQUESTS, or python client.py PORT REQUESTS hold where every reply is to hold
"""

import json
import sys
import time

import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.image_tools import resize_with_pad
from openpi_client.websocket_client_policy import WebsocketClientPolicy

PROMPT = "move to the cup"


def forms(image: np.ndarray) -> dict[str, dict]:
    """One image as each of openpi's example robots sends it."""
    shown = resize_with_pad(image, 224, 224)
    state = np.zeros(8, np.float32)
    first = np.ascontiguousarray(shown.transpose(2, 0, 1))
    wrists = {"cam_left_wrist": first, "cam_right_wrist": first}
    return {
        "libero": {
            "observation/image": shown,
            "observation/wrist_image": shown,
            "observation/state": state,
            "prompt": PROMPT,
        },
        "droid": {
            "observation/exterior_image_1_left": shown,
            "observation/wrist_image_left": shown,
            "observation/joint_position": state[:7],
            "observation/gripper_position": state[:1],
            "prompt": PROMPT,
        },
        "aloha": {
            "images": {"cam_high": first, "cam_low": first, **wrists},
            "state": np.zeros(14),
            "prompt": PROMPT,
        },
    }


def valid(reply: dict, described: dict) -> bool:
    """Whether the actions are one row, finite and within the bounds that the metadata states."""
    actions = reply["actions"]
    return bool(
        actions.shape == (1, len(described["low"]))
        and actions.dtype == np.float32
        and np.isfinite(actions).all()
        and (actions > described["low"]).all()
        and (actions < described["high"]).all()
    )


def refusal(port: int, observation: dict) -> str:
    """What the client raises for an observation that the server refuses."""
    try:
        WebsocketClientPolicy("127.0.0.1", port).infer(observation)
    except RuntimeError as error:
        return str(error)
    return "nothing was raised"


def held(policy: WebsocketClientPolicy, requests: int) -> int:
    """How many replies say that they hold and move nothing, or are refused with that word."""
    stayed, rng = 0, np.random.default_rng(1)
    for _ in range(requests):
        image = rng.integers(0, 256, (240, 320, 3), np.uint8)
        try:
            reply = policy.infer(forms(image)["libero"])
            stayed += reply["hold"] is True and not reply["actions"].any()
        except RuntimeError as error:
            stayed += '"code": "hold"' in str(error)
    return stayed


def main() -> None:
    """Asks, checks, prints."""
    port, requests = int(sys.argv[1]), int(sys.argv[2])
    policy = WebsocketClientPolicy("127.0.0.1", port)
    if sys.argv[3:] == ["hold"]:
        print(json.dumps({"held": int(held(policy, requests))}))
        return
    metadata = policy.get_server_metadata()
    described = metadata["datasets"][metadata["dataset"]]
    rng = np.random.default_rng(0)
    found = {"metadata": sorted(metadata), "valid": {}, "round_trip_ms": [], "server_ms": []}
    for name in forms(np.zeros((8, 8, 3), np.uint8)):
        found["valid"][name] = 0
        for _ in range(requests):
            coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
            observation = forms(coarse.repeat(40, 0).repeat(40, 1))[name]
            began = time.perf_counter()
            reply = policy.infer(observation)
            found["round_trip_ms"].append(1e3 * (time.perf_counter() - began))
            found["server_ms"].append(reply["server_timing"]["infer_ms"])
            found["valid"][name] += valid(reply, described)
    broker = ActionChunkBroker(policy, action_horizon=1)
    step = broker.infer(observation)
    found["broker"] = list(step["actions"].shape) == [len(described["low"])]
    found["refusal"] = refusal(port, {**observation, "imagse": 1})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
