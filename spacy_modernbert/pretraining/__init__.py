"""Masked language modelling: an encoder learns from raw text alone."""
