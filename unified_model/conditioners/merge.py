"""Put every image's tokens in their place among the prompt's tokens, and pad rows to one length."""

from __future__ import annotations

import torch
from torch import Tensor


def merge_tokens(
    text: Tensor, text_mask: Tensor, images: Tensor, rows: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Insert image tokens into rows of prompt tokens, drop the prompt's padding, and pad on the right.

    Args:
        text: (B, L, D) tokens of the prompt.
        text_mask: (B, L) bool, True at tokens.
        images: (N, T, D) tokens of the images.
        rows: (N,) the row of each image.
        positions: (N,) index in L before which the image's tokens go; positions of one row are distinct.

    Returns:
        (B, S, D) the merged tokens, zero at padding, where S is the longest row's length; and (B, S) bool, True at
        tokens, or None where no row is padded.
    """
    batch, length, width = text.shape
    per_image = images.shape[1]
    rank = text_mask.long().cumsum(1) - 1
    starts = torch.zeros(batch, length, dtype=torch.long, device=text_mask.device)
    starts[rows, positions] = 1
    images_so_far = starts.cumsum(1)  # (B, L): images placed before token j or earlier
    lengths = text_mask.sum(1) + per_image * images_so_far[:, -1]
    longest = int(lengths.max())

    text_rows, text_columns = torch.nonzero(text_mask, as_tuple=True)
    text_places = (rank + per_image * images_so_far)[text_rows, text_columns]
    image_starts = rank[rows, positions] + per_image * (images_so_far[rows, positions] - 1)
    image_places = image_starts[:, None] + torch.arange(per_image, device=text_mask.device)  # (N, T)

    merged = text.new_zeros(batch, longest, width)
    merged = merged.index_put((text_rows, text_places), text[text_rows, text_columns])
    merged = merged.index_put((rows[:, None].expand_as(image_places), image_places), images.to(text.dtype))
    if bool((lengths == longest).all()):
        return merged, None
    return merged, torch.arange(longest, device=text_mask.device) < lengths[:, None]
