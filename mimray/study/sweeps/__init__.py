"""Sweeps of recipes on Ray Tune."""
