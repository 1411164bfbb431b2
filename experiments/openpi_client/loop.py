"""openpi's own loop (`Runtime`, `PolicyAgent`, `ActionChunkBroker`), until stdin ends.

python loop.py PORT [KEY], in the environment of `run.py`; prints a JSON object of findings.
"""

import collections
import json
import sys
import threading
import time

import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.runtime.agents.policy_agent import PolicyAgent
from openpi_client.runtime.environment import Environment
from openpi_client.runtime.runtime import Runtime
from openpi_client.websocket_client_policy import WebsocketClientPolicy

HZ, STEPS = 10, 20  # of an episode; each has a connection of its own


class Robot(Environment):
    """Noise in, actions out; counts the steps and what was wrong with an action."""

    def __init__(self, ended: threading.Event):
        self._ended, self._rng = ended, np.random.default_rng(0)
        self.steps, self.took, self.wrong, self._bounds = 0, [], collections.Counter(), (0, 0)

    def meet(self, metadata: dict) -> None:
        """The server's greeting, whose bounds actions are held to."""
        known = metadata["datasets"].get(metadata["dataset"], {"low": [0, 0], "high": [255, 255]})
        self._bounds = np.array(known["low"]), np.array(known["high"])

    def reset(self) -> None:
        """Begins an episode."""
        self._left = STEPS

    def is_episode_complete(self) -> bool:
        """After `STEPS`, or when it is to end."""
        self._left -= 1
        return self._left <= 0 or self._ended.is_set()

    def get_observation(self) -> dict:
        """As openpi's LIBERO robot sends it."""
        image = self._rng.integers(0, 256, (224, 224, 3), np.uint8)
        self._began, state = time.perf_counter(), np.zeros(8, np.float32)
        cameras = {"observation/image": image, "observation/wrist_image": image}
        return cameras | {"observation/state": state, "prompt": "move to the cup"}

    def apply_action(self, action: dict) -> None:
        """Checks one action."""
        self.took.append(1e3 * (time.perf_counter() - self._began))
        self.steps += 1
        values, (low, high) = action["actions"], self._bounds
        if values.shape != low.shape or not np.isfinite(values).all():
            self.wrong["no action"] += 1
        elif (values < low).any() or (values > high).any():
            self.wrong["out of bounds"] += 1


def main() -> None:
    """Runs episode after episode until stdin ends."""
    port, key = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    ended, failed = threading.Event(), collections.Counter()
    robot, episodes = Robot(ended), 0
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        policy = None
        try:
            policy = WebsocketClientPolicy("127.0.0.1", port, key)
            robot.meet(policy.get_server_metadata())
            agent = PolicyAgent(ActionChunkBroker(policy, action_horizon=1))
            Runtime(robot, agent, [], max_hz=HZ).run()
            episodes += 1
        except Exception as error:  # of whatever kind: it would have ended the robot's program
            failed[f"{type(error).__name__}: {error}"[:200]] += 1
            time.sleep(0.1)
        finally:
            if policy is not None:
                policy._ws.close()  # the client has no word for it
    found = {"steps": robot.steps, "episodes": episodes, "round_trip_ms": robot.took}
    print(json.dumps(found | {"failed": failed, "wrong": robot.wrong}))


if __name__ == "__main__":
    main()
