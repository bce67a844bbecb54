"""Distributed training: strategies, collectives between workers, and a launcher of workers."""
