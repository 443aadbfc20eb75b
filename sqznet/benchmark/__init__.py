"""`python -m sqznet.benchmark`: how fast this machine trains, reads, starts, and runs what was exported.

`race` lets contestants take turns, each in a process of its own; `contestants` are they; `infer` times exported files.
"""
