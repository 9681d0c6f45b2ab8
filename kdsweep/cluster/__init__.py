"""Where a sweep runs when it does not run here: cluster files, Ray Jobs, tunnels, tokens.

The driver of a sweep always runs on the cluster: its code and its sweep file are shipped as a Ray
job. Nothing here knows how a sweep is run.
"""
