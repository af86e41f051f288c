"""The heavy things and where they come from. Torch and vLLM are imported inside functions: asking for help loads neither."""
