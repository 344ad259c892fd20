"""Which activations survive a budget, and what is left of them."""
