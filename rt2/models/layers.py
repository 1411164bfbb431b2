"""The layers that the vision and text towers share.

Shapes: B batch, L query positions, S key positions, D width, N heads, H head dim, F MLP width.
Every parameter carries the logical names of its axes; `rt2.train.sharding` maps them to a mesh.
Parameters are float32; a layer computes in the dtype of its input.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rt2.models import partition

Array = jax.Array
Layers = Array | list[Array]  # of every layer: with a leading axis of layers, or one a layer
MATCH = 12.0  # attention logit of two equal inputs at a mimetic start

# Most published weights were trained with gelu's tanh approximation: T5 v1.1, Gemma, SigLIP and
# everything of big_vision. The Hugging Face ViT was converted with the exact one.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": jax.nn.gelu,
    "gelu_exact": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
}


# What the forward pass of a layer keeps for the backward pass, which computes the rest again.
REMAT: dict[str, Callable[..., bool]] = {
    "none": jax.checkpoint_policies.everything_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # products with parameters
    "full": jax.checkpoint_policies.nothing_saveable,  # the layer's input alone
}
UNROLLED = 12  # layers in one turn of a loop on a CPU, see on_cpu


def on_cpu() -> bool:
    """Whether the mesh in use, or else the first device, is of CPUs.

    XLA's CPU backend multiplies two matrices well and little else, and runs a loop's body on fewer
    threads. What is done for it alone asks here; other backends lay arrays out as they like.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return (device or jax.devices()[0]).platform == "cpu"


def param(
    rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str | None, ...], std: float
) -> nnx.Param:
    """A float32 parameter drawn from a normal of deviation `std`; 0 gives zeros."""
    key = rngs.params()
    value = std * jax.random.normal(key, shape, jnp.float32) if std else jnp.zeros(shape)
    return nnx.Param(value, axes=axes)


class Linear(nnx.Module):
    """[..., *inputs] -> [..., *outputs], with fan-in initialisation times `gain`."""

    def __init__(
        self,
        inputs: dict[str, int],
        outputs: dict[str, int],
        *,
        bias: bool,
        rngs: nnx.Rngs,
        gain: float = 1.0,
    ):
        shape = (*inputs.values(), *outputs.values())
        fan_in = math.prod(inputs.values())
        self.contracted, self.axes = len(inputs), (*inputs, *outputs)
        self.kernel = param(rngs, shape, (*inputs, *outputs), gain / math.sqrt(fan_in))
        self.bias = (
            param(rngs, tuple(outputs.values()), tuple(outputs), 0.0) if bias else nnx.data(None)
        )

    def __call__(self, x: Array) -> Array:
        n = self.contracted
        kernel = partition.gathered(self.kernel[...].astype(x.dtype), self.axes)
        if on_cpu():
            y = x.reshape(-1, math.prod(x.shape[-n:])) @ kernel.reshape(math.prod(x.shape[-n:]), -1)
            y = y.reshape(*x.shape[:-n], *kernel.shape[n:])
        else:
            axes = (tuple(range(x.ndim - n, x.ndim)), tuple(range(n)))
            y = jax.lax.dot_general(x, kernel, (axes, ((), ())))
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


def _orthogonal(key: Array, rows: int, columns: int) -> Array:
    """[rows, columns] with orthonormal columns (or rows, the fewer): a cosine basis, random signs.

    As good as a random rotation for a start, and made without a factorisation.
    """
    size = max(rows, columns)
    angles = jnp.outer(jnp.arange(size), jnp.arange(size) + 0.5) * (jnp.pi / size)
    basis = jnp.cos(angles) * math.sqrt(2 / size)
    basis = basis.at[0].multiply(math.sqrt(0.5))
    signs = jax.random.rademacher(key, (2, size), jnp.float32)
    return (signs[0][:, None] * basis * signs[1])[:rows, :columns]


class LayerNorm(nnx.Module):
    """Layer normalisation with scale and bias, computed in float32 (ViT)."""

    def __init__(self, width: int, *, epsilon: float = 1e-6, rngs: nnx.Rngs):
        self.epsilon = epsilon
        self.scale = param(rngs, (width,), ("embed",), 0.0)
        self.scale[...] = jnp.ones(width)
        self.bias = param(rngs, (width,), ("embed",), 0.0)

    def __call__(self, x: Array) -> Array:
        wide = x.astype(jnp.float32)
        wide = wide - wide.mean(-1, keepdims=True)
        wide = wide * jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + self.epsilon)
        return (wide * self.scale[...] + self.bias[...]).astype(x.dtype)


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation with a scale, computed in float32 (T5).

    Layer normalisation without bias and centring is the same. `axis` is the width's logical name.
    The scale is kept as its distance from `offset` (Gemma: 1).
    """

    def __init__(self, width: int, *, axis: str = "embed", offset: float = 0.0, rngs: nnx.Rngs):
        self.scale = param(rngs, (width,), (axis,), 0.0)
        self.scale[...] = jnp.full(width, 1 - offset)
        self.offset = offset

    def __call__(self, x: Array) -> Array:
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + 1e-6)
        return (wide * (self.offset + self.scale[...])).astype(x.dtype)


class Attention(nnx.Module):
    """Multi-head attention; `scale` multiplies the logits (T5 folds it into the query's init).

    `mimetic` starts from attention that looks for what is alike and passes it on unchanged: query
    and key share a projection, value and output undo each other (Trockman and Kolter 2023). Where
    pictures and words already share a space, a small model then binds them far sooner.

    `normalised` scales every head's query and key to unit root mean square (ViT-22B, section 2).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_dim: int,
        *,
        bias: bool,
        scale: float,
        query_gain: float = 1.0,
        mimetic: bool = False,
        normalised: bool = False,
        rngs: nnx.Rngs,
    ):
        embed, split = {"embed": width}, {"heads": heads, "head_dim": head_dim}
        self.query = Linear(embed, split, bias=bias, gain=query_gain, rngs=rngs)
        self.key = Linear(embed, split, bias=bias, rngs=rngs)
        self.value = Linear(embed, split, bias=bias, rngs=rngs)
        self.out = Linear(split, embed, bias=bias, rngs=rngs)
        self.scale = scale
        self.query_norm = self.key_norm = nnx.data(None)
        if normalised:
            self.query_norm = RMSNorm(head_dim, axis="head_dim", rngs=rngs)
            self.key_norm = RMSNorm(head_dim, axis="head_dim", rngs=rngs)
        if mimetic:
            alike, passed = (_orthogonal(rngs.params(), width, heads * head_dim) for _ in range(2))
            # two equal inputs of unit variance then have the logit MATCH before any learning
            gain = math.sqrt(MATCH / (head_dim * scale))
            shape = (width, heads, head_dim)
            self.query.kernel[...] = gain * alike.reshape(shape)
            self.key.kernel[...] = gain * alike.reshape(shape)
            self.value.kernel[...] = passed.reshape(shape)
            self.out.kernel[...] = passed.T.reshape(heads, head_dim, width)

    def keys_values(self, x_BxSxD: Array) -> tuple[Array, Array]:
        """Keys and values [B, S, N, H]: what a cache holds."""
        key = self.key(x_BxSxD)
        return key if self.key_norm is None else self.key_norm(key), self.value(x_BxSxD)

    def attend(
        self,
        x_BxLxD: Array,
        keys_values: tuple[Array, Array],
        bias: Array | None = None,
        mask: Array | None = None,
    ) -> Array:
        """[B, L, D]; `bias` float [*, N, L, S] is added, `mask` bool [*, 1, L, S] allows."""
        key, value = keys_values
        if on_cpu():
            return self.attend_kept(x_BxLxD, (heads_first(key), heads_first(value)), bias, mask)
        bias = None if bias is None else bias.astype(x_BxLxD.dtype)
        mixed = jax.nn.dot_product_attention(
            self._query(x_BxLxD), key, value, bias=bias, mask=mask, scale=self.scale
        )
        return self.out(mixed)

    def attend_kept(
        self,
        x_BxLxD: Array,
        kept: tuple[Array, Array],
        bias: Array | None = None,
        mask: Array | None = None,
    ) -> Array:
        """As `attend`, for keys and values [B, N, S, H] that have their heads first."""
        key, value = kept
        query = heads_first(self._query(x_BxLxD))
        wide = {"preferred_element_type": jnp.float32}
        logits = self.scale * jnp.einsum("bnlh,bnsh->bnls", query, key, **wide)
        logits = logits if bias is None else logits + bias.astype(x_BxLxD.dtype)
        if mask is not None:
            logits = jnp.where(mask, logits, -0.7 * jnp.finfo(jnp.float32).max)
        weights = jax.nn.softmax(logits).astype(value.dtype)
        return self.out(heads_first(jnp.einsum("bnls,bnsh->bnlh", weights, value)))

    def _query(self, x: Array) -> Array:
        query = self.query(x)
        return query if self.query_norm is None else self.query_norm(query)

    def __call__(self, x: Array, bias: Array | None = None, mask: Array | None = None) -> Array:
        return self.attend(x, self.keys_values(x), bias, mask)


def heads_first(x: Array) -> Array:
    """[B, L, N, H] -> [B, N, L, H], or back.

    Done once for keys and values: XLA's CPU backend else does it for every product with them.
    """
    return x.swapaxes(1, 2)


class MLP(nnx.Module):
    """Two-layer perceptron with biases (ViT)."""

    def __init__(
        self, width: int, hidden: int, activation: Callable[[Array], Array], *, rngs: nnx.Rngs
    ):
        self.wide = Linear({"embed": width}, {"mlp": hidden}, bias=True, rngs=rngs)
        self.out = Linear({"mlp": hidden}, {"embed": width}, bias=True, rngs=rngs)
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        return self.out(self.activation(self.wide(x)))


class GatedMLP(nnx.Module):
    """Gated perceptron without biases (T5.1.1 with gelu, UL2 with silu)."""

    def __init__(
        self, width: int, hidden: int, activation: Callable[[Array], Array], *, rngs: nnx.Rngs
    ):
        embed, mlp = {"embed": width}, {"mlp": hidden}
        self.gate = Linear(embed, mlp, bias=False, rngs=rngs)
        self.wide = Linear(embed, mlp, bias=False, rngs=rngs)
        self.out = Linear(mlp, embed, bias=False, rngs=rngs)
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        return self.out(self.activation(self.gate(x)) * self.wide(x))


def table_rows(vocab: int, table: int) -> int:
    """Rows for `vocab` tokens, no fewer than `table`, in multiples that divide over a mesh."""
    return -(-max(vocab, table) // 128) * 128


def token_logits(head_RxD: Array, hidden: Array, vocab: int, tokens: Array | None = None) -> Array:
    """float32 logits [..., K] of hidden states [..., D] for the ids `tokens` int [K].

    Without `tokens`, those of every row of the head; rows beyond the vocabulary are at -1e9.
    """
    head = (head_RxD if tokens is None else head_RxD[tokens]).astype(hidden.dtype)
    head = head if tokens is not None else partition.by_vocabulary(head, 0)
    logits = jnp.einsum("...d,vd->...v", hidden, head, preferred_element_type=jnp.float32)
    if tokens is not None or len(head) == vocab:
        return logits
    return jnp.where(jnp.arange(len(head)) < vocab, logits, -1e9)


def stack(make: Callable[[nnx.Rngs], nnx.Module], depth: int, rngs: nnx.Rngs) -> nnx.Module:
    """`depth` layers in one module whose parameters have a leading axis "layers"."""
    metadata = {nnx.PARTITION_NAME: "layers", "axes": "layers"}
    build = nnx.vmap(make, transform_metadata=metadata)
    return build(rngs.fork(split=depth))


def scan_stack(
    layers: nnx.Module, call: Callable[..., tuple[Array, Any]], x: Array, inputs: Any = None
) -> tuple[Array, Any]:
    """`x` through every layer in turn: x, output = call(layer, x, input of that layer).

    `inputs` and the outputs have a leading axis of layers; where the parameters are lists of one
    array a layer (`Model.apart`), so are they. A plain `lax.scan` over the stacked parameters, so
    that it may stand inside other transformations.
    """
    graph, stacked = nnx.split(layers)

    def body(x, xs):
        parameters, given = xs
        x, output = call(nnx.merge(graph, parameters), x, given)
        return partition.by_rows(x), output

    if not (apart := _apart(stacked)):
        return jax.lax.scan(body, x, (stacked, inputs))
    outputs = []
    for parameters, given in zip(apart, _split(inputs, len(apart)), strict=True):
        x, output = body(x, (parameters, given))
        outputs.append(output)
    return x, jax.tree.map(lambda *each: list(each), *outputs)


def each_layer(call: Callable[[Array], Array], kept: Layers) -> Layers:
    """What `call` makes of every layer's part of an input or output of `scan_stack`."""
    return [call(x) for x in kept] if isinstance(kept, list) else jax.vmap(call)(kept)


def run_stack(layers: nnx.Module, x: Array, call: Callable[..., Array], remat: str) -> Array:
    """`x` through every layer: x = call(layer, x). `remat` is a row of REMAT."""
    graph, stacked = nnx.split(layers)
    turn = UNROLLED if on_cpu() else 1

    def body(x, parameters):
        return partition.by_rows(call(nnx.merge(graph, parameters), x)), None

    if apart := _apart(stacked):
        return functools.reduce(lambda x, each: body(x, each)[0], apart, x)
    if remat != "none":
        body = jax.checkpoint(body, prevent_cse=turn > 1, policy=REMAT[remat])
    return jax.lax.scan(body, x, stacked, unroll=turn)[0]


def _apart(stacked: nnx.State) -> list[nnx.State]:
    """The parameters of each layer where they are lists; else nothing."""
    flat = nnx.to_flat_state(stacked)
    values = [v.get_value() for _, v in flat]
    if not isinstance(values[0], list):
        return []
    return [
        nnx.from_flat_state([(path, v.replace(x)) for (path, v), x in zip(flat, each, strict=True)])
        for each in zip(*values, strict=True)
    ]


def _split(inputs: Any, depth: int) -> list[Any]:
    """Lists with one item a layer, as a list of each layer's items."""
    items, tree = jax.tree.flatten(inputs, is_leaf=lambda x: isinstance(x, list))
    return [tree.unflatten([x[i] for x in items]) for i in range(depth)]
