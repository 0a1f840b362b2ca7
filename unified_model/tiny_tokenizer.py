"""A small byte-level BPE tokenizer made on the spot, with Qwen2.5-VL's special tokens and chat layout."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Qwen2.5-VL's, in its order."""

WORDS = """
a above air an and animal apple arch are around arrow at autumn background ball bench bicycle bird black blue board boat
book bottle bowl branch brick bridge bright brown building bus button camera candle car cat chair change circle city
clear clock cloud coat coffee colour corner cup curtain dark day deep desk distance dog door down edge edit evening eye
face farm fence field fire floor flower forest frame from front garden glass gold grass green grey ground hair hand hat
helpful hill horse house image in into is it its lake lamp large leaf left letter light line little long make man map
market metal middle mirror moon morning mountain near new night object of old on open orange over page paint paper park
path pencil people person photograph picture pink plant plate pond purple rain red remove replace right river road rock
roof room round row sand sea shadow shape ship shop side sign silver sitting sky small smooth snow soft space square
stand star station still stone street summer sun surface table tall the there thin this through to tower train tree two
under user view wall warm water wave white wide wind window winter with woman wood yellow you young are assistant system
The A Make Change Remove Replace Add Turn Describe You
""".split()  # noqa: SIM905 - a list of 200 quoted words cannot be read
"""The vocabulary's whole words. A reply of the tiny VLM is a salad of these."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2.5-VL's layout of a chat, for text and images."""


def build_tiny_tokenizer(more_words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """The tokenizer. Any text can be encoded and comes back unchanged; the same on every call.

    Args:
        more_words: words that become one token each as well, at the beginning of a text and after a space.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, min_frequency=1, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )  # fmt: skip
    spaced = [f" {word}" for word in dict.fromkeys((*WORDS, *more_words))]
    tokenizer.train_from_iterator([*spaced, *dict.fromkeys(more_words)], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[token for token in SPECIAL_TOKENS if token not in ("<|im_end|>", "<|endoftext|>")],
        padding_side="left",
        model_max_length=32768,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def tokens_that_are_no_word(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids of every token that is neither a whole word after a space nor the end of a reply, ascending."""
    spoken = {tokenizer.convert_tokens_to_ids("Ġ" + word) for word in WORDS} | {tokenizer.eos_token_id}
    return [token for token in range(len(tokenizer)) if token not in spoken]
