"""What could go wrong on a cluster, found before a run starts there.

Every host is asked the same (`survey`), and functions that need no Ray judge the answers (`judge_*`), so
that each can be tried on facts that were written down.
"""
