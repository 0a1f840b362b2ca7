"""The weighting ablation: arms and seeds trained alike, held against each other with error bars."""
