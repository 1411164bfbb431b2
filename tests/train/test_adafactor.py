"""Adafactor over stacked layers against its formula, one layer at a time."""

import jax.numpy as jnp
import numpy as np
import pytest

from rt2.models import variants
from rt2.models.build import Model
from rt2.train.adafactor import adafactor, factored_sides

MODEL = Model(variants.config("debug", vocab=256, dtype="float32", remat="none", image_size=0))
RATE = 1e-2


def formula(grads, p, inputs):
    """Updates of one unstacked parameter (Shazeer and Stern 2018, algorithms 4 and 5).

    `inputs` is how many of its axes are inputs; 0 keeps the second moments whole.
    """
    shape = p.shape
    rows = int(np.prod(shape[:inputs]))
    v, row, col = 0.0, 0.0, 0.0
    for t, grad in enumerate(np.asarray(grads, np.float64), start=1):
        beta = 1 - t**-0.8
        square = grad**2 + 1e-30
        if inputs:
            square = square.reshape(rows, -1)
            row = beta * row + (1 - beta) * square.mean(1)
            col = beta * col + (1 - beta) * square.mean(0)
            v = (np.outer(row, col) / row.mean()).reshape(shape)
        else:
            v = beta * v + (1 - beta) * square
        update = grad / np.sqrt(v)
        update = update / max(1.0, np.sqrt((update**2).mean()))
        yield -RATE * max(1e-3, np.sqrt((p**2).mean())) * update


@pytest.mark.parametrize(
    "path, inputs",
    [
        ("text/encoder/mlp/wide/kernel", 1),  # layers, embed, mlp
        ("text/encoder/attention/query/kernel", 1),  # layers, embed, heads, head_dim
        ("text/encoder/attention/out/kernel", 2),
        ("text/embedding", 1),
        ("vision/stem/0/kernel", 0),  # 8 channels
        ("vision/blocks/norm_mlp/bias", 0),
    ],
)
def test_every_layer_is_updated_as_if_it_stood_alone(path, inputs):
    rng = np.random.default_rng(0)
    shape = MODEL.shapes[path].shape
    stacked = MODEL.axes[path][0] == "layers"
    p = rng.normal(size=shape)
    grads = rng.normal(size=(3, *shape)) * rng.lognormal(size=shape)
    if stacked:  # one layer whose update is clipped, and whose scale is another
        p[0], grads[:, 0] = 100 * p[0], np.array([0.1, 1, 10]).reshape(3, *[1] * p[0].ndim)
    optimizer = adafactor(MODEL, lambda step: RATE, factor_from=16)
    params = {path: jnp.asarray(p, jnp.float32)}
    state, found = optimizer.init(params), []
    for grad in grads:
        update, state = optimizer.update({path: jnp.asarray(grad, jnp.float32)}, state, params)
        found.append(update[path])
    wanted = (
        np.stack([list(formula(grads[:, i], p[i], inputs)) for i in range(len(p))], axis=1)
        if stacked
        else list(formula(grads, p, inputs))
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_heads_are_one_side_and_layers_none():
    query = ("layers", "embed", "heads", "head_dim")
    assert factored_sides(query, (12, 768, 12, 64), 128) == ((1,), (2, 3))
    assert factored_sides(("layers", "heads", "head_dim", "embed"), (12, 12, 64, 768), 128) == (
        (1, 2),
        (3,),
    )
    assert factored_sides(("layers", "embed"), (200, 768), 128) is None
    assert factored_sides((None, "heads"), (32, 768), 128) is None
