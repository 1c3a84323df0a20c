"""A data-scaling study: encoders x subsets x lengths, scheduled on the cluster and put into one table."""
