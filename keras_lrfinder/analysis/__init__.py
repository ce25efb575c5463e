"""From losses to a learning rate: pure functions and frozen values."""
