"""Every parser of bytes that come from outside, fuzzed: briefly in each run, for hours by `make fuzz`."""
