"""Shortest ways round discs: the oracle's steering.

A visibility graph over the start, the end and points on rings about the obstacles; Dijkstra on it.
"""

import heapq

import numpy as np

_RING_POINTS = 12
_RING = np.stack(
    [f(np.arange(_RING_POINTS) * 2 * np.pi / _RING_POINTS) for f in (np.cos, np.sin)], axis=-1
)
_RING_FACTOR = 1.02 / np.cos(
    np.pi / _RING_POINTS
)  # chords between neighbours pass outside the disc


def next_waypoint(
    start: np.ndarray,
    end: np.ndarray,
    centres: np.ndarray,
    radius: float,
    span: tuple[float, float],
) -> np.ndarray:
    """Returns where to head from `start` for the shortest way to `end` round the discs: float [2].

    start, end: [2] metres; centres: [N, 2] metres; radius: of every disc, metres; span: low and
    high bound of both coordinates. A disc that holds the start or the end is shrunk until it does
    not. Where no way exists the straight one is returned.
    """
    ends = np.stack([start, end])
    reach = np.hypot(*(centres[:, None] - ends[None]).transpose(2, 0, 1)).min(
        axis=1, initial=np.inf
    )
    radii = np.minimum(radius, 0.98 * reach)
    if not _blocked(ends[:1], ends[1:], centres, radii).any():
        return end
    ring = (centres[:, None] + _RING_FACTOR * radii[:, None, None] * _RING).reshape(-1, 2)
    inside = ((ring >= span[0]) & (ring <= span[1])).all(axis=1)
    nodes = np.concatenate([ends, ring[inside]])
    return _first_step(nodes, _blocked(nodes, nodes, centres, radii), end)


def _blocked(
    starts: np.ndarray, ends: np.ndarray, centres: np.ndarray, radii: np.ndarray
) -> np.ndarray:
    """Returns whether the segment from starts[i] to ends[j] enters a disc: bool [I, J]."""
    leg = (ends[None] - starts[:, None])[:, :, None]  # [I, J, 1, 2]
    to_centre = centres - starts[:, None, None]  # [I, 1, N, 2]
    length_2 = np.maximum((leg**2).sum(-1), 1e-12)
    along = np.clip((leg * to_centre).sum(-1) / length_2, 0.0, 1.0)
    gap = np.hypot(*np.moveaxis(to_centre - along[..., None] * leg, -1, 0))
    return (gap < radii - 1e-9).any(axis=-1)


def _first_step(nodes: np.ndarray, blocked: np.ndarray, straight: np.ndarray) -> np.ndarray:
    """Dijkstra from node 1 (the end) back to node 0 (the start), whose follower is returned."""
    lengths = np.where(
        blocked, np.inf, np.hypot(*(nodes[:, None] - nodes[None]).transpose(2, 0, 1))
    )
    best = np.full(len(nodes), np.inf)
    best[1] = 0.0
    queue = [(0.0, 1, 1)]
    done = np.zeros(len(nodes), bool)
    while queue:
        cost, node, follower = heapq.heappop(queue)
        if done[node]:
            continue
        if node == 0:
            return nodes[follower]
        done[node] = True
        through = cost + lengths[node]
        for nearer in np.flatnonzero((through < best) & ~done):
            best[nearer] = through[nearer]
            heapq.heappush(queue, (float(through[nearer]), int(nearer), node))
    return straight
