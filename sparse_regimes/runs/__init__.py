"""One run: its config, its folder, its loop, and how it goes on."""
