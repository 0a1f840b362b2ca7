"""What a run shows of itself: scalars in groups, boards, the progress line, and the report at its end."""
