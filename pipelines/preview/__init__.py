"""Looking at curated samples: overlays, weight maps, a contact sheet, an HTML page, pictures in a terminal.

Pure functions on arrays. A picture is (H, W, 3) uint8 RGB, a mask (H, W) bool with True = edited.
"""
