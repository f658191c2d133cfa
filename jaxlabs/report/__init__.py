"""Pictures and one page per run, drawn from the run folder alone."""
