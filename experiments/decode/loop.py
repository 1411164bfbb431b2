"""The strongest line of PyTorch: T5's decoder step with a static cache, by hand and compiled."""

import torch
from torch.nn.functional import gelu, linear, scaled_dot_product_attention


class Loop:
    """Greedy decoding under a mask [slots, V] that is added to the logits."""

    def __init__(self, twin: torch.nn.Module, mask: torch.Tensor):
        text = twin.text
        self.mask, self.text = mask, text
        self.heads, self.head_dim = text.config.num_heads, text.config.d_kv
        decoder = text.decoder
        self.layers = [_weights(block) for block in decoder.block]
        first = decoder.block[0].layer[0].SelfAttention
        self.bias = torch.stack(
            [first.compute_bias(1, len(mask), past_seen_tokens=i)[0] for i in range(len(mask))]
        )
        seen = torch.ones(len(mask), len(mask), dtype=torch.bool).tril()
        self.bias = self.bias.masked_fill(~seen[:, None, None], -torch.inf)  # [T, N, 1, T]
        self.begin, self.step = torch.compile(self._begin), torch.compile(self._step)

    def __call__(self, memory: tuple[torch.Tensor, torch.Tensor]) -> list[int]:
        """The tokens of one action; memory: the encoder's output and what of it is real."""
        cross, own = self.begin(memory[0])
        unseen = torch.zeros(memory[1].shape).masked_fill(~memory[1], -torch.inf)[:, None, None]
        token, found = torch.zeros(1, dtype=torch.long), []
        for position in range(len(self.mask)):
            token = self.step(token, torch.tensor([position]), own, cross, unseen)
            found.append(token)
        return torch.cat(found).tolist()

    def _begin(self, x: torch.Tensor):
        """Keys and values of the memory in every layer, and room for those of the targets."""
        cross = [[self._split(linear(x, w)) for w in layer["memory"]] for layer in self.layers]
        shape = (1, self.heads, len(self.mask), self.head_dim)
        return cross, [[torch.zeros(shape) for _ in range(2)] for _ in self.layers]

    def _step(self, token, position, own, cross, unseen):
        x = self.text.shared(token)[None]
        for layer, kept, remembered in zip(self.layers, own, cross, strict=True):
            fused = linear(_norm(x, layer["norm_own"]), layer["qkv"])
            query, key, value = (self._split(part) for part in fused.chunk(3, dim=-1))
            kept[0].index_copy_(2, position, key)
            kept[1].index_copy_(2, position, value)
            bias = self.bias.index_select(0, position)
            x = x + self._attend(query, *kept, bias, layer["out"])
            query = self._split(linear(_norm(x, layer["norm_cross"]), layer["query"]))
            x = x + self._attend(query, *remembered, unseen, layer["cross_out"])
            gate, wide = linear(_norm(x, layer["norm_mlp"]), layer["wide"]).chunk(2, dim=-1)
            x = x + linear(gelu(gate, approximate="tanh") * wide, layer["narrow"])
        hidden = _norm(x, self.text.decoder.final_layer_norm.weight)
        return (self.text.lm_head(hidden)[0] + self.mask.index_select(0, position)).argmax(-1)

    def _attend(self, query, key, value, mask, out):
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
        return linear(mixed.transpose(1, 2).reshape(1, 1, -1), out)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(1, -1, self.heads, self.head_dim).transpose(1, 2)


def _weights(block: torch.nn.Module) -> dict:
    """The matrices of a layer, those of one input side by side."""
    own, cross, mlp = (layer for layer in block.layer)
    a, b, c = own.SelfAttention, cross.EncDecAttention, mlp.DenseReluDense
    return {
        "qkv": torch.cat([a.q.weight, a.k.weight, a.v.weight]),
        "out": a.o.weight,
        "query": b.q.weight,
        "memory": (b.k.weight, b.v.weight),
        "cross_out": b.o.weight,
        "wide": torch.cat([c.wi_0.weight, c.wi_1.weight]),
        "narrow": c.wo.weight,
        "norm_own": own.layer_norm.weight,
        "norm_cross": cross.layer_norm.weight,
        "norm_mlp": mlp.layer_norm.weight,
    }


def _norm(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return scale * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
