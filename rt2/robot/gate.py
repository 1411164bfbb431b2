"""The gate between a policy and an arm: what is not surely good becomes a hold.

    gate = Gate(limits, Rules(), low, high, send)      # send(Command) moves the arm
    gate.arm(pose)                                     # the operator's word, and the only start
    stamp = gate.observe(image)
    gate.act(reply["actions"][0], stamp, reply["terminate"])

It is not a safety-rated function (ISO 10218, ISO 13849): the arm's own limits and emergency stop
remain. A hold repeats the pose of the last command, with the gripper as it was. A latched gate has
sent its hold and sends nothing more, so that nothing fights whoever moves the arm by hand, until
the operator arms it again; requests made before that are never obeyed.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import zlib
from collections.abc import Callable

import numpy as np

from rt2.robot.limits import Limits


@dataclasses.dataclass(frozen=True)
class Rules:
    """Times in seconds, by the monotonic clock."""

    period: float = 0.2  # between commands; a longer pause earns no longer move
    max_age: float = 0.3  # of the observation, when its action is executed
    silence: float = 0.5  # without a good action: hold and latch
    clips: int = 10  # commands in a row that limits had to cut: hold and latch
    frozen: int = 3  # equal frames in a row: the camera has stopped


@dataclasses.dataclass(frozen=True)
class Stamp:
    """Which observation an action answers; made by `Gate.observe`."""

    epoch: int  # of the arming; a stamp of an earlier one is void
    seq: int
    taken: float  # seconds of the gate's clock
    row: int = 0  # of an action chunk


@dataclasses.dataclass(frozen=True)
class Command:
    """What the arm is sent: where to be."""

    pose: np.ndarray  # float64 [D]
    change: np.ndarray  # float64 [D], from the pose before; zeros of a hold
    hold: bool
    reason: str  # of a hold
    clipped: tuple[str, ...]  # axes on which a limit cut what was asked for
    fence: int  # the lease this arming has; a driver refuses a lower one than it has seen


class Gate:
    """Lets through finite, bounded, fresh actions; holds, and latches, on everything else.

    `low` and `high`, float [D], bound what the policy can mean to say (its data set's bounds, in
    the metadata). Every method may be called from any thread; `send` is called under the gate's
    lock, so that no command follows a stop.
    """

    def __init__(
        self,
        limits: Limits,
        rules: Rules,
        low: np.ndarray,
        high: np.ndarray,
        send: Callable[[Command], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self.limits, self.rules = limits, rules
        self._low, self._high = np.array(low, np.float64), np.array(high, np.float64)
        self._send, self._clock, self._lock = send, clock, threading.RLock()
        self.reason = "not armed yet"  # of the latch; empty while actions are let through
        self.epoch = self._fence = 0
        self._pose = self._velocity = np.zeros(len(limits.axes))

    def arm(self, pose: np.ndarray, fence: int = 0) -> None:
        """Opens the gate at the arm's measured pose; older requests are void from now on.

        Raises LimitError where the pose is not finite or outside the workspace.
        """
        with self._lock:
            self._pose = self.limits.check(pose)
            self._velocity = np.zeros_like(self._pose)
            self.epoch, self._fence, self.reason = self.epoch + 1, fence, ""
            self._seq, self._done = 0, (0, 0)
            self._digest, self._equal, self._taken, self._clips = None, 0, -np.inf, 0
            self._commanded = self._fed = self._clock()

    def observe(self, image: np.ndarray, taken: float | None = None) -> Stamp:
        """The stamp of a frame; `taken` is its time by the gate's clock, now if not given.

        Latches where the camera repeats itself or its clock runs backwards.
        """
        with self._lock:
            now = self._clock()
            taken = now if taken is None else taken
            stamp = Stamp(self.epoch, self._seq + 1 if not self.reason else 0, taken)
            if self.reason:
                return stamp
            digest = zlib.crc32(np.ascontiguousarray(image).data)
            self._equal = self._equal + 1 if digest == self._digest else 1
            if self._equal >= self.rules.frozen:
                self._latch(f"camera: {self._equal} equal frames in a row")
            elif not self._taken <= taken <= now:
                self._latch("camera: a frame from the future, or older than the one before")
            self._digest, self._taken, self._seq = digest, taken, self._seq + 1
            return stamp

    def act(
        self, action: np.ndarray, stamp: Stamp, terminate: bool = False, hold: bool = False
    ) -> Command:
        """Sends the arm what an action [D] comes to; returns the command, a hold if not good.

        `hold` is the policy's own: it meant to say something else. It is no good action, so that
        holds for longer than `Rules.silence` latch.
        """
        with self._lock:
            if self.reason:
                return self._held(self.reason)
            wrong = self._malformed(action)
            if wrong:
                return self._latch(wrong)
            late = self._late(stamp)
            if late:
                return self._hold(late)
            if hold:
                return self._hold("the policy holds")
            if terminate:
                return self._latch("the policy has ended the episode")
            return self._move(np.asarray(action, np.float64), stamp)

    def watch(self) -> None:
        """Latches where no good action came for `Rules.silence`; to be called every 20 ms."""
        with self._lock:
            if not self.reason and self._clock() - self._fed > self.rules.silence:
                self._latch(f"no good action for {self.rules.silence:g} s")

    def stop(self, reason: str = "stopped by the operator") -> Command:
        """Holds and latches at once; a reply that is under way is never obeyed."""
        with self._lock:
            return self._latch(reason)

    def _malformed(self, action: np.ndarray) -> str:
        """Why an action cannot be meant; the first thing that is asked."""
        try:
            action = np.asarray(action)
        except ValueError:
            return "action: rows of different lengths"
        if action.dtype.kind not in "fiu":
            return f"action: {action.dtype}, expected numbers"
        if action.shape != self._low.shape:
            return f"action: shape {list(action.shape)}, expected {list(self._low.shape)}"
        if not np.isfinite(action).all():
            return "action: NaN or infinite"
        if (action < self._low).any() or (action > self._high).any():
            return "action: beyond the policy's own bounds"
        return ""

    def _late(self, stamp: Stamp) -> str:
        if stamp.epoch != self.epoch:
            return "asked for before the gate was armed"
        if not 0 < stamp.seq <= self._seq or (stamp.seq, stamp.row) < self._done:
            return "replayed"
        if self._clock() - stamp.taken > self.rules.max_age:
            return f"observation older than {self.rules.max_age:g} s"
        return ""

    def _move(self, action: np.ndarray, stamp: Stamp) -> Command:
        now = self._clock()
        seconds = max(0.0, min(now - self._commanded, self.rules.period))
        wanted = self.limits.change(self._pose, action)
        change, clipped = self.limits.clip(self._pose, self._velocity, wanted, seconds)
        self._clips = self._clips + 1 if clipped else 0
        if self._clips >= self.rules.clips:
            return self._latch(f"limits cut {self._clips} actions in a row, on {clipped}")
        pose = np.clip(self._pose + change, self.limits.low, self.limits.high)
        self._done = (stamp.seq, stamp.row + 1)
        self._velocity = change / seconds if seconds > 0 else np.zeros_like(change)
        self._fed = now
        return self._sent(Command(self.limits.wrap(pose), change, False, "", clipped, self._fence))

    def _latch(self, reason: str) -> Command:
        if self.reason:
            return self._held(self.reason)
        self.reason = reason
        return self._hold(reason)

    def _hold(self, reason: str) -> Command:
        return self._sent(self._held(reason))

    def _held(self, reason: str) -> Command:
        self._velocity = zeros = np.zeros_like(self._pose)
        return Command(self._pose, zeros, True, reason, (), self._fence)

    def _sent(self, command: Command) -> Command:
        self._pose, self._commanded = command.pose, self._clock()
        try:
            self._send(command)
        except Exception as error:  # of the driver, of whatever kind: nothing more is sent to it
            self.reason = self.reason or f"arm: {type(error).__name__}: {error}"
        return command
