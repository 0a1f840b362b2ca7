"""Recipe `robust`: the difference is taken after the images were brought together, and held against their own noise."""
