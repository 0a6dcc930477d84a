"""Random one-node models through the pipeline: `python -m tests.fuzz`; a fixed small share runs with the tests."""
