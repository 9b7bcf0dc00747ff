"""How good the entities of a pipeline are, and where they fail. No torch."""
