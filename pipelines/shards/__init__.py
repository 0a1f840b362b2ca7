"""Reading packed folders: the layout of a sample in either format, the reader, and validation."""
