"""The weights of the UniWorld-V1 release as a model of ours: one table of keys, a reader, and a conversion."""
