"""The command line, and Ray: how a step is spread over a cluster, resumed and reported."""
