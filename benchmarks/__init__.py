"""What the package costs and reaches, beside its peers."""
