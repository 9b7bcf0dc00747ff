"""Thinc layers, a layer a file, forward beside backprop."""
