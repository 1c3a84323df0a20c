"""Floor 5: one verb a file, each with `run(arguments) -> exit status`."""
