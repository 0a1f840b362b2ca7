"""Where tokens of images go, for any numbers of images and any lengths: what is put in comes out, in order."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_model.conditioners.merge import merge_tokens
from unified_model.denoiser import latent_ids, pack_latents, place_references
from unified_model.features import ReferenceLatents

COUNTS = st.lists(st.integers(0, 3), min_size=1, max_size=5)


@given(counts=COUNTS.filter(any), height=st.sampled_from([2, 4]), width=st.sampled_from([2, 6]))
@settings(max_examples=60)
def test_every_reference_has_a_slot_of_its_row(counts: list[int], height: int, width: int) -> None:
    rows = torch.tensor([row for row, count in enumerate(counts) for _ in range(count)])
    latents = torch.arange(len(rows) * 16.0 * height * width).view(len(rows), 16, height, width) + 1
    tokens, mask, ids = place_references(ReferenceLatents(latents, rows), len(counts))
    each = height * width // 4
    assert tokens.shape == (len(counts), max(counts) * each, 64)
    assert (mask is None) == (min(counts) == max(counts))
    held = torch.ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask
    packed = pack_latents(latents)
    for row in range(len(counts)):
        assert torch.equal(tokens[row][held[row]], packed[rows == row].flatten(0, 1))
        assert not tokens[row][~held[row]].any()
    for slot in range(max(counts)):
        expected = latent_ids(height // 2, width // 2, torch.device("cpu"), image=slot + 1)
        assert torch.equal(ids[slot * each : (slot + 1) * each], expected)


@given(st.data())
@settings(max_examples=60)
def test_every_token_of_prompt_and_images_is_merged_once_and_in_order(data: st.DataObject) -> None:
    counts = data.draw(COUNTS)
    lengths = [data.draw(st.integers(max(1, count), 6)) for count in counts]
    ends = [
        sorted(data.draw(st.permutations(range(length)))[:count]) for count, length in zip(counts, lengths, strict=True)
    ]
    longest, per_image = max(lengths), 2
    text = torch.arange(1.0, len(counts) * longest + 1).view(len(counts), longest, 1)
    text_mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    rows = torch.tensor([row for row, own in enumerate(ends) for _ in own], dtype=torch.long)
    positions = torch.tensor([place for own in ends for place in own], dtype=torch.long)
    images = -torch.arange(1.0, len(rows) * per_image + 1).view(len(rows), per_image, 1)
    merged, mask = merge_tokens(text, text_mask, images, rows, positions)
    number = 0
    for row, own in enumerate(ends):
        expected: list[float] = []
        for place in range(lengths[row]):
            if place in own:
                expected += images[number].flatten().tolist()
                number += 1
            expected.append(float(text[row, place]))
        kept = merged[row] if mask is None else merged[row][mask[row]]
        assert kept.flatten().tolist() == expected
        assert mask is None or not merged[row][~mask[row]].any()
