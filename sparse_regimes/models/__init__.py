"""Networks whose hidden activations pass a top-k mask."""
