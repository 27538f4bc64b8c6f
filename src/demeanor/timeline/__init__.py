"""A recording in, a timeline out: who spoke when, what was said, and how."""
