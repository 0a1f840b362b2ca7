"""FLOPs of FLUX (diffusers' `FluxTransformer2DModel`), forward and backward, as a function of the sequence lengths.

What the backward pass costs depends on what is frozen: an input's gradient is taken only where something before it
trains, a weight's only where it trains. So this goes through the network once, in its order, and keeps for every
stream whether it carries a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from trainer.measures.work import Work, linear_work, trains


@dataclass(frozen=True)
class FluxWork:
    """Coefficients of one sample's FLOPs.

    Args:
        image: for each image token, those of reference latents among them.
        context: for each token of the conditioning.
        sample: for each sample.
        pair: for each pair of tokens that attend to each other, over all blocks.
    """

    image: Work
    context: Work
    sample: Work
    pair: Work

    def __call__(self, image_tokens: int, context_tokens: int) -> Work:
        """FLOPs of one sample."""
        pairs = float(image_tokens + context_tokens) ** 2
        return self.image * image_tokens + self.context * context_tokens + self.sample + self.pair * pairs


def flux_work(transformer: Any, context_grad: bool, recompute_every: int = 0) -> FluxWork:
    """Coefficients for a transformer with `requires_grad` set as it will be trained.

    Args:
        context_grad: whether the conditioning carries a gradient, that is, whether anything of the conditioner trains.
        recompute_every: every n-th block, the first one on, is run again in the backward pass; 0 for none.
    """
    counter = _Counter(transformer, context_grad)
    doubles = len(transformer.transformer_blocks)
    for number, block in enumerate((*transformer.transformer_blocks, *transformer.single_transformer_blocks)):
        again = recompute_every > 0 and number % recompute_every == 0
        count = counter.double if number < doubles else counter.single
        count(block, again)
    return counter.end()


class _Counter:
    """The state of the walk: what was counted, and which streams carry a gradient so far."""

    def __init__(self, transformer: Any, context_grad: bool) -> None:
        self._transformer = transformer
        self._recompute = False
        self._work = {name: Work() for name in ("image", "context", "sample", "pair")}
        embedders = (getattr(transformer.time_text_embed, name, None) for name in _EMBEDDERS)
        for embedder in embedders:
            if embedder is not None:
                self._add("sample", embedder, False)
        self._time = trains(transformer.time_text_embed)
        self._image = self._add("image", transformer.x_embedder, False)
        self._context = self._add("context", transformer.context_embedder, context_grad)

    def double(self, block: Any, again: bool) -> None:
        """A block with a stream of its own for the image and for the context."""
        attention = block.attn
        self._recompute = again and (self._image or self._context or self._time or trains(block))
        gates = self._add("sample", block.norm1.linear, self._time)
        context_gates = self._add("sample", block.norm1_context.linear, self._time)
        image, context = self._image or gates, self._context or context_gates
        grads = [self._add("image", layer, image) for layer in (attention.to_q, attention.to_k, attention.to_v)]
        added = (attention.add_q_proj, attention.add_k_proj, attention.add_v_proj)
        added_grads = [self._add("context", layer, context) for layer in added]
        query, key, value = (one or other for one, other in zip(grads, added_grads, strict=True))
        query |= trains(attention.norm_q, attention.norm_added_q)
        key |= trains(attention.norm_k, attention.norm_added_k)
        attends = self._attend(attention, query, key, value)
        self._image = self._add("image", attention.to_out[0], attends) or image
        self._context = self._add("context", attention.to_add_out, attends) or context
        self._image |= self._add("image", block.ff, self._image)
        self._context |= self._add("context", block.ff_context, self._context)

    def single(self, block: Any, again: bool) -> None:
        """A block with one stream for both."""
        attention = block.attn
        joint = self._image or self._context
        self._recompute = again and (joint or self._time or trains(block))
        gates = self._add("sample", block.norm.linear, self._time)
        joint |= gates
        mlp = self._add("joint", block.proj_mlp, joint)
        projections = (attention.to_q, attention.to_k, attention.to_v)
        query, key, value = (self._add("joint", layer, joint) for layer in projections)
        query, key = query or trains(attention.norm_q), key or trains(attention.norm_k)
        attends = self._attend(attention, query, key, value)
        joint |= self._add("joint", block.proj_out, mlp or attends)
        self._image = self._context = joint

    def end(self) -> FluxWork:
        """The coefficients, once every block was counted."""
        self._recompute = False
        modulated = self._add("sample", self._transformer.norm_out.linear, self._time)
        self._add("image", self._transformer.proj_out, self._image or modulated)
        return FluxWork(**self._work)

    def _add(self, tokens: str, module: nn.Module, input_grad: bool) -> bool:
        """Count a module that sees `tokens`; whether its output carries a gradient."""
        work = linear_work(module, input_grad, self._recompute)
        for stream in ("image", "context") if tokens == "joint" else (tokens,):
            self._work[stream] += work
        return input_grad or trains(module)

    def _attend(self, attention: Any, query: bool, key: bool, value: bool) -> bool:
        """Count an attention whose inputs carry gradients or not; whether its output does."""
        # Forward: scores, then their sum over the values. Backward: one product for each input, and one for the scores.
        once = 2.0 * attention.heads * attention.head_dim
        backward = once * (query + key + value + (query or key))
        self._work["pair"] += Work(2 * once, backward, 2 * once * self._recompute)
        return query or key or value


_EMBEDDERS = ("timestep_embedder", "guidance_embedder", "text_embedder")
