"""What long context, pretraining and the rest buy, in F on real corpora."""
