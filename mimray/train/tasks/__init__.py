"""The kinds of training, one a file: see `mimray.train.task`."""
