"""What a range test costs over the training that it does."""
