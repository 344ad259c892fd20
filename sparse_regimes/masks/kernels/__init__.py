"""Ways to find the k largest of a row, all giving the same set."""
