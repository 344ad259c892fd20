"""The jitted step and what goes into it: pure functions and a state."""
