"""Known edits on photographs: pairs made by real operations, whose edited region is known to the pixel."""
