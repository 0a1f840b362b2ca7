"""The demo: the whole path on the photographs inside scikit-image and scikit-learn, small enough for two cores."""
