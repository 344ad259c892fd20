"""Many runs: compared over seeds, searched, gathered in tables."""
