import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from rt2.errors import ConfigError
from rt2.models import variants
from rt2.models.build import Model
from rt2.train.optimizer import (
    OPTIMIZERS,
    frozen_paths,
    make_optimizer,
    make_schedule,
    matrices,
)

MODEL = Model(variants.config("debug", vocab=256, dtype="float32", remat="none", image_size=0))


def config(**changes):
    knobs = common.get_config().optimizer
    knobs.update(changes)
    return knobs


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_a_step_against_the_gradient(name):
    optimizer = make_optimizer(config(name=name, warmup_steps=1, weight_decay=0.0), 10, MODEL)
    params = {path: jnp.full(s.shape, 0.1) for path, s in MODEL.shapes.items()}
    grads = {path: jnp.ones(s.shape) for path, s in MODEL.shapes.items()}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    for path, update in updates.items():
        assert float(update.sum()) < 0, path


def test_schedules_at_literal_steps():
    def rates(name, *steps):
        schedule = make_schedule(config(schedule=name, learning_rate=1.0, warmup_steps=10), 110)
        return [float(schedule(step)) for step in steps]

    np.testing.assert_allclose(rates("constant", 0, 4, 9, 100), [0.1, 0.5, 1, 1])
    np.testing.assert_allclose(rates("cosine", 0, 5, 10, 60, 110), [0, 0.5, 1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(rates("inverse_sqrt", 4, 9, 39, 999), [0.5, 1, 0.5, 0.1], rtol=1e-6)


def test_muon_sees_the_matrices_that_the_layers_multiply_by():
    found = matrices(MODEL, MODEL.shapes)
    numbers = optax.contrib.MuonDimensionNumbers
    assert found["text/encoder/attention/query/kernel"] == numbers((1,), (2, 3))
    assert found["text/encoder/attention/out/kernel"] == numbers((1, 2), (3,))
    assert found["text/decoder/mlp/out/kernel"] == numbers((1,), (2,))
    assert found["projection/kernel"] == numbers((0,), (1,))
    for path in ("text/embedding", "vision/stem/0/kernel", "vision/norm/scale"):
        assert found[path] is None


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="sgd"):
        make_optimizer(config(name="sgd"), 10, MODEL)
    with pytest.raises(ConfigError, match="linear"):
        make_schedule(config(schedule="linear"), 10)


def frozen(prefixes, start="start.safetensors"):
    knobs = common.get_config()
    knobs.frozen, knobs.init_from = prefixes, start
    return frozen_paths(knobs, MODEL)


@pytest.mark.parametrize(
    "prefixes, said", [(("vison/",), "'vison/'"), (("vision/", ""), "nothing")]
)
def test_frozen_paths_that_make_no_sense_are_refused(prefixes, said):
    with pytest.raises(ConfigError, match=said):
        frozen(prefixes)


def test_what_was_not_loaded_is_not_frozen():
    assert frozen(("vision/",)) == ("vision/",)
    assert frozen(("vision/",), start="") == ()
