"""The protocols between domains, adapters and the engine: what each may expect of the other."""
