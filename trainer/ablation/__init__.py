"""Arms held against each other: figures by seed and item, and their differences with error bars."""
